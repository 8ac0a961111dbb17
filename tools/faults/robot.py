"""A robot double over real DDS and a small policy, untrained, for it: what tests and faults put a policy node beside.

Import after environment.prepare(): rclpy is imported when a double is made.
"""

from __future__ import annotations

import array
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tools.faults.spinning import SpinningNode
from tools.patience import patience

CONTRACT = """
name: small_arm
robot: Two joints and a cloud
rate_hz: 20
control_rate_hz: 50
command:
  topic: /arm/command
  type: {type}
  mode: {mode}
  joints:
    - {{name: shoulder, position: [-2.0, 2.0], velocity: 2.0, acceleration: 30.0, step: 0.2}}
    - {{name: elbow, position: [-2.0, 2.0], velocity: 2.0, acceleration: 30.0, step: 0.2}}
observations:
  joints: {{kind: joint_state, topic: /arm/joint_states, joints: [shoulder, elbow], max_age_ms: 250}}
  cloud:
    kind: point_cloud
    topic: /arm/points
    frame: base
    points: 64
    max_age_ms: 400
"""
NAMES = ["shoulder", "elbow"]


def contract_text(mode: str = "position", kind: str = "sensor_msgs/msg/JointState") -> str:
    return CONTRACT.format(mode=mode, type=kind)


def save_policy(folder: Path, text: str, seed: int = 0) -> Path:
    """A real, untrained policy folder; its plans are small motions decided by random weights."""
    import torch

    from difftop_ros.contract import parse_contract
    from difftop_ros.policies import DifftopNet, Policy, PolicyConfig

    torch.manual_seed(seed)
    contract = parse_contract(text, "test")
    options: dict[str, Any] = {
        "horizon": 8, "obs_steps": 2, "features": 16, "latent": 2, "bc_width": 16, "prior_width": 16,
        "posterior_width": 16, "cost_width": 16, "cost_outputs": 8, "point_widths": (8, 8), "iterations": 3,
    }  # fmt: skip
    config = PolicyConfig(**options)
    return Policy(DifftopNet(contract, config), contract, torch.device("cpu")).save(folder)


class RobotDouble(SpinningNode):
    """Publishes joint states (100 Hz) and clouds (20 Hz), follows position commands, keeps every command it gets.

    Set `cloud`, `joints` to False to stop a stream, `poison` to make the cloud all NaN, `frozen` to stop following;
    `alter_joints` and `alter_cloud` change a message before it is sent, or give bytes to send in its place.
    """

    def __init__(self, context: Any, kind: str = "sensor_msgs/msg/JointState") -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import JointState, PointCloud2
        from std_msgs.msg import Float64MultiArray
        from trajectory_msgs.msg import JointTrajectory

        from difftop_ros.msg import Plan, SolverStatus

        kinds = {c.__name__: c for c in (JointState, Float64MultiArray, JointTrajectory)}
        best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.position = np.array([0.3, -0.2])
        self.cloud = self.joints = True
        self.poison = self.frozen = False
        self.alter_joints: Callable[[Any], Any] = lambda message: message
        self.alter_cloud: Callable[[Any], Any] = lambda message: message
        self.names = list(NAMES)
        self.commands: list[tuple[float, Any]] = []
        self.diagnostics: list[Any] = []
        self.statuses: list[Any] = []
        self.plans: list[Any] = []
        self._points = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 3)).astype(np.float32)
        super().__init__(context, "robot_double")
        self._joint_pub = self.node.create_publisher(JointState, "/arm/joint_states", best_effort)
        self._cloud_pub = self.node.create_publisher(PointCloud2, "/arm/points", best_effort)
        self.node.create_subscription(kinds[kind.rsplit("/", 1)[-1]], "/arm/command", self._on_command, 50)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 50)
        self.node.create_subscription(SolverStatus, "/difftop/solver_status", self.statuses.append, 50)
        self.node.create_subscription(Plan, "/difftop/plan", self.plans.append, 50)
        self.node.create_timer(0.01, self._send_joints)
        self.node.create_timer(0.05, self._send_cloud)
        self.spin()

    def _on_command(self, message: Any) -> None:
        self.commands.append((time.monotonic(), message))
        values = getattr(message, "position", None)
        if values is not None and len(values) == 2 and not self.frozen:
            self.position = np.array(values)

    def _send_joints(self) -> None:
        from sensor_msgs.msg import JointState

        if not self.joints:
            return
        message = JointState(name=self.names, position=array.array("d", self.position[: len(self.names)]))
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._joint_pub.publish(self.alter_joints(message))

    def _send_cloud(self) -> None:
        if not self.cloud:
            return
        from difftop_ros.messages.points import point_cloud2
        from difftop_ros.messages.types import ros_types

        points = np.full_like(self._points, np.nan) if self.poison else self._points
        now = self.node.get_clock().now()
        message = point_cloud2(ros_types, points, now.nanoseconds / 1e9, "base")
        message.header.stamp = now.to_msg()
        self._cloud_pub.publish(self.alter_cloud(message))

    def call(self, service_type: Any, name: str, request: Any, timeout: float = 15.0) -> Any:
        """Call a service and wait for its answer."""
        client = self.node.create_client(service_type, name)
        assert client.wait_for_service(patience(timeout)), name
        future = client.call_async(request)
        self.until(future.done, timeout, f"answer of {name}")
        return future.result()

    def transition(self, number: int) -> Any:
        """Ask the policy node for a lifecycle transition; True if it was done."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(id=number))
        return self.call(ChangeState, "/difftop_policy/change_state", request, 60.0).success

    def until(self, condition: Any, timeout: float, what: str) -> None:
        """Wait until `condition()` holds; fail saying `what` was awaited."""
        deadline = time.monotonic() + patience(timeout)
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout} s for {what}; last diagnostics: {self.sentences()[-3:]}")
            time.sleep(0.01)

    def sentences(self) -> list[str]:
        """The policy node's diagnostics so far."""
        return [s.message for d in list(self.diagnostics) for s in d.status if s.name == "difftop_policy"]

    def says(self, words: str, timeout: float = 10.0) -> None:
        """Wait until the newest diagnostics contain `words`."""
        self.until(lambda: any(words in s for s in self.sentences()[-2:]), timeout, f"diagnostics {words!r}")
