"""What the node believes of the graph, over real DDS: second publishers, garbage, duplicates, frozen readings."""

from __future__ import annotations

import array
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_process import ACTIVATE, activate_when_ready, positions, start

from tools.faults.robot import contract_text, save_policy
from tools.patience import patience


class Second:
    """A further publisher at 50 Hz on the robot's context: `make()` gives each message."""

    def __init__(self, robot: Any, kind: Any, topic: str, make: Callable[[], Any]) -> None:
        self._robot, self._make = robot, make
        self._publisher = robot.node.create_publisher(kind, topic, 5)
        self._timer = robot.node.create_timer(0.02, self._send)

    def _send(self) -> None:
        message = self._make()
        if hasattr(message, "header"):
            message.header.stamp = self._robot.node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def close(self) -> None:
        self._robot.node.destroy_timer(self._timer)
        self._robot.node.destroy_publisher(self._publisher)


@contextmanager
def second(robot: Any, kind: Any, topic: str, make: Callable[[], Any]) -> Iterator[None]:
    other = Second(robot, kind, topic, make)
    try:
        yield
    finally:
        other.close()


def holds_still(robot: Any, words: str) -> None:
    """It holds for the reason told, and its commands stand."""
    robot.until(lambda: words in robot.sentences()[-1], 15, f"a hold because of {words!r}")
    until = time.monotonic() + 0.7
    robot.until(lambda: time.monotonic() > until, 5, "the way to rest")
    sent = len(robot.commands)
    robot.until(lambda: len(robot.commands) > sent + 20, 10, "commands of the hold")
    held = positions(robot)[sent:]
    np.testing.assert_allclose(held, np.broadcast_to(held[0], held.shape), atol=1e-9)


def goes_on(robot: Any) -> None:
    robot.until(lambda: robot.sentences()[-1] == "active", 20, "the end of the hold")


def test_lies_of_the_graph_hold_with_their_reason_and_end(small_model: Path, robot: Any, spawn: Any) -> None:
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import JointState, PointCloud2

    def gripper() -> Any:
        return JointState(name=["finger"], position=array.array("d", [0.02]))

    def same_joints() -> Any:
        return JointState(name=list(robot.names), position=array.array("d", robot.position))

    start(spawn, robot, small_model, "max_failures:=1000", "max_plan_age_ms:=3000.0")
    with second(robot, JointState, "/arm/joint_states", gripper):  # its driver may share the topic
        with second(robot, PointCloud2, "/arm/points", PointCloud2):
            robot.until(
                lambda: not robot.transition(ACTIVATE) and "2 publishers send '/arm/points'" in robot.sentences()[-1],
                20,
                "a refusal for two clouds",
            )
        activate_when_ready(robot)
        robot.until(lambda: len(robot.commands) > 40, 20, "commands beside a gripper's driver")
        goes_on(robot)

    with second(robot, PointCloud2, "/arm/points", PointCloud2):
        holds_still(robot, "2 publishers send '/arm/points'")
    goes_on(robot)
    with second(robot, JointState, "/arm/joint_states", same_joints):  # they agree, and yet are two
        holds_still(robot, "two publishers send joint")
    goes_on(robot)
    robot.frozen = True  # two positions in each command would not fit three names
    robot.position = np.append(robot.position, 0.0)
    robot.names = ["shoulder", "elbow", "elbow"]
    holds_still(robot, "names ['elbow'] more than once")
    robot.names, robot.position = ["shoulder", "elbow"], robot.position[:2]
    robot.frozen = False
    goes_on(robot)

    before = len(robot.commands)
    whole = serialize_message(same_joints())
    rng = np.random.default_rng(0)
    for raw in (b"\x00\x01\x00\x00" + bytes(8) + rng.bytes(300), whole[: len(whole) // 2], rng.bytes(64)):
        robot._joint_pub.publish(raw)
        time.sleep(0.1)
    robot.until(lambda: len(robot.commands) > before + 30, 10, "commands after garbage")
    goes_on(robot)
    path = positions(robot)
    assert np.abs(np.diff(path, axis=0)).max() <= 2.0 / 50 + 1e-6
    assert np.abs(np.diff(path, 2, axis=0)).max() <= 30.0 / 50**2 + 1e-6


@pytest.mark.timeout(600)  # of which a lease takes 20
def test_only_one_may_command(small_model: Path, robot: Any, spawn: Any) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    from sensor_msgs.msg import JointState

    process = start(spawn, robot, small_model, "max_failures:=1000", "max_plan_age_ms:=3000.0")
    name = ["--ros-args", "-r", "__node:=other", "-p", f"model:={small_model}"]
    spawn("difftop_ros.nodes.policy.node", *name)

    def other(number: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=number))
        return robot.call(ChangeState, "/other/change_state", request, 60.0).success

    assert other(1)
    activate_when_ready(robot)  # beside one that is configured
    robot.until(lambda: len(robot.commands) > 20, 20, "commands")
    assert not other(ACTIVATE)
    robot.until(
        lambda: any(
            "others publish '/arm/command' too" in status.message
            for message in list(robot.diagnostics)
            for status in message.status
            if status.name == "other"
        ),
        10,
        "its reason",
    )
    assert robot.sentences()[-1] == "active", "the first goes on"

    intruder = robot.node.create_publisher(JointState, "/arm/command", 1)
    holds_still(robot, "others publish '/arm/command' too")
    robot.node.destroy_publisher(intruder)
    goes_on(robot)

    # One that could not say that it went is in the graph until its lease of 20 s ends, and no longer.
    os.kill(process.pid, signal.SIGKILL)
    assert not other(ACTIVATE)
    sent, end = len(robot.commands), time.monotonic() + patience(40)
    while not other(ACTIVATE):
        assert time.monotonic() < end, "the killed node still counts as one that commands"
        time.sleep(1.0)
    robot.until(lambda: len(robot.commands) > sent + 10, 20, "commands of the other")


def test_an_observation_of_another_drivers_joints_on_the_same_topic_is_served(
    tmp_path: Path, robot: Any, spawn: Any
) -> None:
    from sensor_msgs.msg import JointState

    def gripper() -> Any:
        return JointState(name=["finger"], position=array.array("d", [0.02]))

    hand = "  hand: {kind: joint_state, topic: /arm/joint_states, joints: [finger], max_age_ms: 300}\n"
    model = save_policy(tmp_path / "model", contract_text() + hand)
    start(spawn, robot, model, "max_failures:=1000", "max_plan_age_ms:=3000.0")
    assert not robot.transition(ACTIVATE)
    with second(robot, JointState, "/arm/joint_states", gripper):
        activate_when_ready(robot)
        robot.until(lambda: len(robot.commands) > 50, 30, "commands")
        goes_on(robot)
    robot.says("observation 'hand' is stale: the newest message on '/arm/joint_states' is", 15)
    with second(robot, JointState, "/arm/joint_states", gripper):
        goes_on(robot)
