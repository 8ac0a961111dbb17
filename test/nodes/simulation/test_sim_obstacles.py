"""Obstacles in the bridge's world, over DDS: set for the next reset, solid, and told when they are touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract.shapes import SHAPES
from difftop_ros.errors import UserError
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import ros_types
from difftop_ros.nodes.simulation.monitor import Monitor
from difftop_ros.sim.placed import Course, Placed

BRIDGE = "difftop_ros.nodes.simulation.bridge.node"
POST = {"kind": "cylinder", "name": "post", "centre": [0.6, 0.0, 0.2], "radius": 0.03, "length": 0.4}


@pytest.fixture
def monitor(spawn: Any, ros_context: object) -> Iterator[Monitor]:
    """Beside a bridge in lock-step."""
    bridge = spawn(BRIDGE, "--ros-args", "-p", "task:=lift", "-p", "lockstep:=true")
    bridge.wait_for("ready", timeout=60)
    found = Monitor([])
    yield found
    found.close()


def test_what_is_placed_stands_there_from_the_next_reset_and_touches_are_told(monitor: Monitor) -> None:
    from difftop_ros.srv import ResetEpisode, StepSimulation

    step = monitor.node.create_client(StepSimulation, "/sim/step")
    commands = monitor.node.create_publisher(ros_types("sensor_msgs/msg/JointState"), "/joint_command", 10)
    home: list[Any] = []
    monitor.node.create_subscription(ros_types("sensor_msgs/msg/JointState"), "/joint_states", home.append, 10)
    monitor.wait(lambda: commands.get_subscription_count() == 1, 30.0, lambda: "no bridge")

    def reach_out() -> dict[str, str]:
        """The arm stretches forwards for a second and a half; what the simulation says then."""
        del home[:]
        answer = monitor.call(monitor.reset_client, ResetEpisode.Request(seed=3))
        assert answer.success, answer.message
        monitor.wait(lambda: bool(home), 30.0, lambda: "no joint states")
        names, target = list(home[0].name), np.array(home[0].position)
        for _ in range(30):
            target[[names.index("panda_joint2"), names.index("panda_joint4")]] += 0.03
            commands.publish(joint_state(ros_types, names, 0.0, target))
            told = len(monitor.heard.pace)
            assert monitor.call(step, StepSimulation.Request(steps=1, wait_for_command=True)).success
            monitor.wait(lambda told=told: len(monitor.heard.pace) > told, 30.0, lambda: "no report")  # type: ignore[misc]
        return monitor.heard.pace[-1]

    assert "touched" not in reach_out(), "nothing stands there"
    (post,) = SHAPES.validate_python([POST])
    monitor.set_obstacles([Placed(shape=post)])
    told = reach_out()
    assert " - post: " in told["touched"] and float(told["nearest_mm"]) < 0
    away = Placed(shape=post, course=Course(velocity=(0.0, 4.0, 0.0), end_s=1.0))
    monitor.set_obstacles([away])
    told = reach_out()
    assert told["touched"] == "" and float(told["nearest_mm"]) > 0, "it has moved out of the way"
    with pytest.raises(UserError, match="refused the obstacles"):
        monitor.set_obstacles([Placed(shape=post)] * 65)
    monitor.set_obstacles([])
    assert "touched" not in reach_out()
