"""Two robots in one graph, each in its namespace: simulated arm, policy and parameters do not mix."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.patience import patience

ROOT = Path(__file__).resolve().parents[2]
POLICY, BRIDGE = "difftop_ros.nodes.policy.node", "difftop_ros.nodes.simulation.bridge.node"


class Listener:
    """Keeps what is published on both robots' topics."""

    def __init__(self, context: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import JointState

        from difftop_ros.msg import Plan

        self.node = rclpy.create_node("listener", context=context)
        self.heard: dict[str, list[Any]] = {}
        for name, kind in (("joint_command", JointState), ("difftop/plan", Plan)):
            for space in ("/left/", "/right/", "/"):
                into = self.heard.setdefault(space + name, [])
                qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
                self.node.create_subscription(kind, space + name, into.append, qos)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Spins until `condition()`; fails naming what was awaited."""
        end = time.monotonic() + patience(timeout_s)
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"waited {timeout_s:g} s for {what}; heard { {t: len(m) for t, m in self.heard.items()} }")
            self.executor.spin_once(timeout_sec=0.1)

    def parameter(self, node: str, name: str) -> Any:
        """The value of a number parameter of another node."""
        from rcl_interfaces.srv import GetParameters

        client = self.node.create_client(GetParameters, f"{node}/get_parameters")
        assert client.wait_for_service(10.0)
        future = client.call_async(GetParameters.Request(names=[name]))
        self.until(future.done, 10.0, f"{name} of {node}")
        return future.result().values[0].double_value

    def close(self) -> None:
        self.executor.remove_node(self.node)
        self.node.destroy_node()


def test_two_robots_do_not_mix(ros_context: Any, spawn: Callable[..., Any], tmp_path: Path) -> None:
    parameters = tmp_path / "policy_node.yaml"  # as a user copies it: for any node in any namespace
    parameters.write_text("/**:\n  ros__parameters:\n    max_plan_age_ms: 1234.0\n")
    policies = {}
    for side in ("left", "right"):
        placed = ["--ros-args", "-r", f"__ns:=/{side}", "-r", f"/clock:=/{side}/clock"]
        spawn(BRIDGE, *placed, "-p", "task:=lift", "-p", f"seed:={3 if side == 'left' else 4}")
        policies[side] = spawn(
            POLICY, *placed, "--params-file", parameters, "-p", f"model:={ROOT / 'models/panda_lift'}",
            "-p", "autostart:=true", "-p", "use_sim_time:=true",
        )  # fmt: skip
    listener = Listener(ros_context)
    try:
        heard = listener.heard
        listener.until(lambda: all(len(heard[f"/{side}/joint_command"]) > 20 for side in policies), 100.0, "commands")
        for side in policies:
            sources = listener.node.get_publishers_info_by_topic(f"/{side}/joint_command")
            assert [source.node_namespace for source in sources] == [f"/{side}"]
            assert heard[f"/{side}/difftop/plan"]
            assert listener.parameter(f"/{side}/difftop_policy", "max_plan_age_ms") == 1234.0
        assert heard["/left/joint_command"][0].position != heard["/right/joint_command"][0].position
        assert not heard["/joint_command"] and not heard["/difftop/plan"]

        policies["right"].stop()
        listener.until(lambda: not listener.node.count_publishers("/right/joint_command"), 10.0, "the right one's end")
        drained = time.monotonic() + 1.0  # what was on its way when it ended
        listener.until(lambda: time.monotonic() > drained, 2.0, "the last of them")
        before = {side: len(heard[f"/{side}/joint_command"]) for side in policies}
        listener.until(lambda: len(heard["/left/joint_command"]) > before["left"] + 20, 20.0, "more from the left one")
        assert len(heard["/right/joint_command"]) == before["right"]
    finally:
        listener.close()
