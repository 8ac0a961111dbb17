"""Another robot by contract alone: six joints, other topics, compressed colour, an odd cloud, velocity commands.

The same node, no code of its own. Also the three command messages, field by field.
"""

import array
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import parse_contract
from tools.faults.spinning import SpinningNode
from tools.patience import patience

JOINTS = [f"ur_{name}" for name in ("pan", "lift", "elbow", "wrist1", "wrist2", "wrist3")]
CONTRACT = f"""
name: six_axis
robot: Six axes on a cell
rate_hz: 10
control_rate_hz: 40
command:
  topic: /forward_velocity_controller/commands
  type: std_msgs/msg/Float64MultiArray
  mode: velocity
  joints:
{chr(10).join(f"    - {{name: {n}, position: [-3.0, 3.0], velocity: 1.0, acceleration: 5.0}}" for n in JOINTS)}
observations:
  state: {{kind: joint_state, topic: /ur/states, joints: {JOINTS}, fields: [position, velocity], max_age_ms: 2000}}
  rgb:
    kind: image
    topic: /cell/rgb/compressed
    type: sensor_msgs/msg/CompressedImage
    resize: [32, 40]
    max_age_ms: 2000
  scan: {{kind: point_cloud, topic: /cell/cloud, frame: cell, points: 48, color: true, max_age_ms: 2000}}
"""


class Cell(SpinningNode):
    """Publishes the cell's streams, with joints in another order than the contract's, and integrates velocities."""

    def __init__(self, context: Any) -> None:
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CompressedImage, JointState, PointCloud2
        from std_msgs.msg import Float64MultiArray

        random = np.random.default_rng(0)
        self.position, self.speed = random.uniform(-0.5, 0.5, 6), np.zeros(6)
        self.commands: list[np.ndarray] = []
        self._picture = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        self._points = random.uniform(-0.5, 0.5, (150, 3)).astype(np.float32)
        super().__init__(context, "cell")
        self._pubs = {
            kind: self.node.create_publisher(kind, topic, qos_profile_sensor_data)
            for kind, topic in (
                (JointState, "/ur/states"), (CompressedImage, "/cell/rgb/compressed"), (PointCloud2, "/cell/cloud"),
            )
        }  # fmt: skip
        self.node.create_subscription(Float64MultiArray, "/forward_velocity_controller/commands", self._on_command, 50)
        self.node.create_timer(0.01, self._send_joints)
        self.node.create_timer(0.1, self._send_camera)
        self.spin()

    def _on_command(self, message: Any) -> None:
        self.speed = np.array(message.data)
        self.commands.append(self.speed)

    def _send_joints(self) -> None:
        from sensor_msgs.msg import JointState

        self.position = self.position + 0.01 * self.speed
        order = [3, 0, 5, 1, 4, 2]
        message = JointState(
            name=[*(JOINTS[i] for i in order), "tool"],
            position=array.array("d", [*self.position[order], 7.0]),
            velocity=array.array("d", [*self.speed[order], 0.0]),
        )
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._pubs[JointState].publish(message)

    def _send_camera(self) -> None:
        from difftop_ros.messages.images import compressed_image
        from difftop_ros.messages.points import point_cloud2
        from difftop_ros.messages.types import ros_types

        colours = np.full((150, 3), 90, np.uint8)
        messages = [
            compressed_image(ros_types, self._picture, 0.0, "camera", "png"),
            point_cloud2(
                ros_types, self._points, 0.0, "cell", colours, order=("rgb", "z", "x", "y"), padding=12, big_endian=True
            ),
        ]
        for message in messages:
            message.header.stamp = self.node.get_clock().now().to_msg()
            self._pubs[type(message)].publish(message)

    def until(self, condition: Any, what: str, timeout: float = 30.0) -> None:
        end = time.monotonic() + patience(timeout)
        while not condition():
            assert time.monotonic() < end, f"waited {timeout} s for {what}"
            time.sleep(0.01)


def test_six_axes_by_velocity_with_compressed_colour_and_an_odd_cloud(
    ros_context: object, spawn: Any, tmp_path: Path
) -> None:
    import torch

    from difftop_ros.policies import DifftopNet, Policy, PolicyConfig

    torch.manual_seed(0)
    contract = parse_contract(CONTRACT)
    config = PolicyConfig(
        horizon=6, features=16, latent=2, bc_width=16, prior_width=16, posterior_width=16, cost_width=16,
        cost_outputs=8, point_widths=(8, 8),
        image_widths=(4, 8, 8), keypoints=4, iterations=3, action_frame="absolute",
    )  # fmt: skip
    model = Policy(DifftopNet(contract, config), contract, torch.device("cpu")).save(tmp_path / "model")
    cell = Cell(ros_context)
    try:
        # patient, so that a busy machine brings no reason of its own to hold
        settings = (f"model:={model}", "autostart:=true", "max_plan_age_ms:=5000.0", "max_overruns:=1000")
        words = (word for setting in settings for word in ("-p", setting))
        process = spawn("difftop_ros.nodes.policy.node", "--ros-args", *words)
        process.wait_for("active", 60)
        cell.until(lambda: len(cell.commands) > 60, "60 commands")
        assert process.interrupt() == 0
    finally:
        cell.close()
    path = np.array(cell.commands)
    assert path.shape[1] == 6
    assert np.abs(path).max() <= 1.0 + 1e-6
    assert np.abs(path).max() > 0.0
    assert np.abs(np.diff(path, axis=0)).max() <= 5.0 / 40 + 1e-6
    np.testing.assert_array_equal(path[-1], np.zeros(6))
    assert "holding" not in process.output()


@pytest.mark.parametrize("mode", ["position", "velocity"])
def test_a_trajectory_has_its_time_from_start(mode: str, ros_domain: int) -> None:
    from difftop_ros.messages.commands import array_to_command
    from difftop_ros.nodes.topics import message_class

    text = CONTRACT.replace("std_msgs/msg/Float64MultiArray", "trajectory_msgs/msg/JointTrajectory")
    contract = parse_contract(text.replace("mode: velocity", f"mode: {mode}"))
    values = np.arange(6.0)
    message = array_to_command(contract, values, 5_000_000_007, message_class)
    assert message.joint_names == JOINTS
    assert len(message.points) == 1
    point = message.points[0]
    assert list(point.positions if mode == "position" else point.velocities) == list(values)
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 25_000_000)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)


@pytest.mark.parametrize("mode", ["position", "velocity", "delta_position"])
def test_joint_state_commands_read_back_as_they_were(mode: str, ros_domain: int) -> None:
    from difftop_ros.messages import command_to_array
    from difftop_ros.messages.commands import array_to_command
    from difftop_ros.nodes.topics import message_class

    text = CONTRACT.replace("std_msgs/msg/Float64MultiArray", "sensor_msgs/msg/JointState")
    text = text.replace("mode: velocity", f"mode: {mode}").replace("acceleration: 5.0", "acceleration: 5.0, step: 0.1")
    contract = parse_contract(text)
    values = np.linspace(-0.1, 0.1, 6)
    message = array_to_command(contract, values, 5_000_000_007, message_class)
    np.testing.assert_array_equal(command_to_array(contract, message), values)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 7)
