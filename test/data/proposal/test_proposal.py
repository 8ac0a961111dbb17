"""`difftop contract init`: a contract out of a bag or a running robot that nobody described before."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.commands import contract as command
from difftop_ros.contract import load_contract
from difftop_ros.data.proposal.urdf import urdf_joints
from difftop_ros.errors import UserError
from difftop_ros.messages import images
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import rosbags_types as types

URDF = """<robot name="six"><link name="base"/>
<joint name="pan" type="continuous"><limit velocity="2.5" effort="9"/></joint>
<joint name="lift" type="revolute"><limit lower="-1.5" upper="2.5" velocity="1.25" effort="9"/></joint>
<joint name="grip" type="prismatic"><limit lower="0" upper="0.04" velocity="0.2" effort="9"/></joint>
<joint name="grip_2" type="prismatic"><limit lower="0" upper="0.04" velocity="0.2"/><mimic joint="grip"/></joint>
<joint name="glued" type="fixed"/></robot>"""
ARRAY, STATE = "std_msgs/msg/Float64MultiArray", "sensor_msgs/msg/JointState"


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def text_message(text: str) -> Any:
    message = types("std_msgs/msg/String")()
    message.data = text
    return message


def recording(*, urdf: bool = True, kind: str = ARRAY) -> list[Any]:
    """A second of a robot with a finger that follows another, a wrist camera and a lidar."""
    entries: list[Any] = []
    if urdf:
        entries.append(("/robot_description", "std_msgs/msg/String", 1, text_message(URDF)))
    names = ["pan", "lift", "grip", "grip_2"]
    for i in range(100):
        t = 50 + i * 0.01
        state = joint_state(types, names, t, np.array([t, 0.3 * np.sin(t), 0.02, 0.02]), np.array([1.0, 0.3, 0, 0]))
        entries.append(("/joint_states", STATE, round(t * 1e9) + 1_000_000, state))
        if i % 2 == 0:
            order = types(ARRAY)()
            order.data = np.array([0.1, 0.2, 0.02])
            if kind == STATE:
                order = joint_state(types, ["pan", "lift"], t, velocity=np.array([0.1, 0.2]))
            topic = "/forward_position_controller/commands" if kind == ARRAY else "/arm/command"
            entries.append((topic, kind, round(t * 1e9) + 2_000_000, order))
        if i % 5 == 0:
            at = round(t * 1e9) + 3_000_000
            for topic, type_name, message in (
                ("color/image_raw", "Image", images.image(types, np.zeros((48, 64, 3), np.uint8), t, "eye")),
                ("depth/image_raw", "Image", images.depth_image(types, np.ones((48, 64), np.float32), t, "eye")),
                ("depth/camera_info", "CameraInfo", images.camera_info(types, np.eye(3), 64, 48, t, "eye")),
                ("points", "PointCloud2", point_cloud2(types, np.zeros((4, 3), np.float32), t, "lidar")),
            ):
                where = f"/lidar/{topic}" if topic == "points" else f"/wrist_camera/{topic}"
                entries.append((where, f"sensor_msgs/msg/{type_name}", at, message))
    return entries


def test_a_bag_gives_limits_rates_cameras_and_the_order_of_joints(
    tmp_path: Path, write_bag: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "six arm.yaml"
    assert run("init", "--bag", write_bag(tmp_path / "bag", recording()), "--out", out) == 0
    contract, text = load_contract(out), out.read_text()
    assert contract.name == "six_arm" and contract.clock == "header"
    assert (contract.rate_hz, contract.control_rate_hz) == (20, 50)
    assert contract.command.topic == "/forward_position_controller/commands" and contract.command.mode == "position"
    pan, lift, grip = contract.command.joints  # the finger that follows is none
    assert pan.continuous and pan.velocity == 2.5
    assert (lift.position, lift.velocity, lift.unit) == ((-1.5, 2.5), 1.25, "rad")
    assert (grip.name, grip.unit, grip.position) == ("grip", "m", (0, 0.04))
    assert contract.observations["joints"].joints == ("pan", "lift", "grip")
    assert set(contract.observations) == {"joints", "wrist_camera"}
    assert contract.observations["wrist_camera"].resize == (96, 128)
    assert "order of the joints is the joint states'; look it over" in text
    for line in ("# wrist_camera_cloud:", "#   camera_info: /wrist_camera/depth/camera_info", "#   frame: lidar"):
        assert line in text
    assert "look it over" in capsys.readouterr().out
    with pytest.raises(UserError, match="is there already"):
        run("init", "--bag", tmp_path / "bag", "--out", out)


def test_without_a_description_limits_are_what_was_seen(tmp_path: Path, write_bag: Callable[..., Path]) -> None:
    bag = write_bag(tmp_path / "bag", recording(urdf=False, kind=STATE))
    run("init", "--bag", bag, "--out", tmp_path / "a.yaml", "--name", "seen")
    contract = load_contract(tmp_path / "a.yaml")
    assert contract.command.topic == "/arm/command" and contract.command.mode == "velocity"
    assert contract.command.joint_names == ["pan", "lift"]
    low, high = contract.command.joints[0].position
    assert low == pytest.approx(50 - 0.099, abs=1e-3) and high == pytest.approx(50.99 + 0.099, abs=1e-3)
    assert contract.command.joints[1].velocity == pytest.approx(0.45)
    assert (tmp_path / "a.yaml").read_text().count("position as far as it was seen") == 2


def test_what_cannot_be_made_is_said(tmp_path: Path, write_bag: Callable[..., Path]) -> None:
    entries, orders = recording(), "/forward_position_controller/commands"
    for number, (kept, words, message) in enumerate(
        (
            (("/joint_states",), (), "no topic of commands is there"),
            ((orders,), (), "which joints .* command is not to be seen"),
            (("/joint_states", orders), ("--command", "/nowhere"), "which is no topic of commands"),
        )
    ):
        bag = write_bag(tmp_path / f"bag{number}", [e for e in entries if e[0] in kept])
        with pytest.raises(UserError, match=message):
            run("init", "--bag", bag, "--out", tmp_path / "x.yaml", *words)
    with pytest.raises(UserError, match="is no URDF"):
        urdf_joints("<robot")
    assert not (tmp_path / "x.yaml").exists()


class Arm:
    """A robot nobody described: states, a description, and a controller that waits for trajectories."""

    def __init__(self, context: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import JointState
        from std_msgs.msg import String
        from trajectory_msgs.msg import JointTrajectory

        self.controller = rclpy.create_node("arm_controller", context=context)
        self.controller.declare_parameter("joints", ["lift", "pan"])
        self.controller.declare_parameter("command_interfaces", ["position"])
        self.controller.create_subscription(JointTrajectory, "/arm_controller/joint_trajectory", lambda _: None, 1)
        self.states = self.controller.create_publisher(JointState, "/joint_states", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.description = self.controller.create_publisher(String, "/robot_description", latched)
        self.description.publish(String(data=URDF))
        self.controller.create_timer(0.01, self._send)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.controller)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        from sensor_msgs.msg import JointState

        message = JointState(name=["pan", "lift", "grip"], position=[0.1, 0.2, 0.0], velocity=[0.0] * 3)
        message.header.stamp = self.controller.get_clock().now().to_msg()
        self.states.publish(message)

    def _spin(self) -> None:
        while not self._ended.is_set():
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5.0)
        self.executor.shutdown()
        self.controller.destroy_node()


@pytest.fixture
def arm(ros_context: object) -> Iterator[Arm]:
    arm = Arm(ros_context)
    yield arm
    arm.close()


def test_a_running_robot_tells_its_controllers_joints(arm: Arm, tmp_path: Path) -> None:
    out = tmp_path / "live.yaml"
    assert run("init", "--live", "--local", "--seconds", "1.5", "--out", out) == 0
    contract = load_contract(out)
    assert contract.command.topic == "/arm_controller/joint_trajectory"
    assert contract.command.joint_names == ["lift", "pan"]  # the controller's order
    assert contract.command.joints[0].position == (-1.5, 2.5)
    assert contract.observations["joints"].topic == "/joint_states" and contract.clock == "header"


def test_an_empty_graph_is_told_with_its_domain(
    ros_domain: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed in this environment")
    with pytest.raises(UserError, match="no topic of commands"):
        run("init", "--live", "--local", "--seconds", "0.1", "--out", tmp_path / "x.yaml")
    assert f"nobody is heard in ROS domain {ros_domain} (ROS_DOMAIN_ID)" in capsys.readouterr().out
