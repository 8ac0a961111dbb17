"""An arm of six joints that nobody described: from its running graph to a contract, recorded, trained and run.

Nothing of what `contract init --live` writes is edited but which camera is kept.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from trajectory_controller import TrajectoryController

from difftop_ros.contract import load_contract
from difftop_ros.messages import images
from difftop_ros.messages.types import ros_types
from tools.faults.spinning import SpinningNode
from tools.patience import patience

NAMES = [f"axis_{number}" for number in range(1, 7)]
TOPIC = "/six_axis_controller/joint_trajectory"
URDF = '<robot name="six"><link name="base"/>' + "".join(
    f'<joint name="{name}" type="revolute"><limit lower="-2.5" upper="2.5" velocity="1.5" effort="50"/></joint>'
    for name in NAMES
) + "</robot>"  # fmt: skip


class SixAxisArm(SpinningNode):
    """Joint states at 100 Hz, two cameras at 20 Hz that show where it is, and a controller that follows trajectories.

    While `teaching`, somebody swings it to and fro by the controller's topic.
    """

    def __init__(self, context: Any) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import Image, JointState
        from std_msgs.msg import String
        from trajectory_msgs.msg import JointTrajectory

        super().__init__(context, "six_axis_controller")
        node = self.node
        node.declare_parameter("joints", NAMES)
        node.declare_parameter("command_interfaces", ["position"])
        self.position, self.commands = np.zeros(6), list[Any]()
        self.controller = TrajectoryController(NAMES, self.position, open_loop=True, keeps=False)
        self._states = node.create_publisher(JointState, "/joint_states", 10)
        self._cameras = [node.create_publisher(Image, f"/{c}/color/image_raw", 5) for c in ("wrist", "overview")]
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._description = node.create_publisher(String, "/robot_description", latched)
        self._description.publish(String(data=URDF))
        node.create_subscription(JointTrajectory, TOPIC, self._follow, 10)
        node.create_timer(0.01, self._move)
        node.create_timer(0.05, self._look)
        self._teacher: Any = None
        self._begun = time.monotonic()
        node.create_timer(0.02, self._teach)
        self._lock = threading.Lock()
        self.spin()

    def teach(self, on: bool) -> None:
        """Begin or end to swing it; whoever is not teaching does not publish."""
        from trajectory_msgs.msg import JointTrajectory

        with self._lock:
            if on:
                self._teacher, self._begun = self.node.create_publisher(JointTrajectory, TOPIC, 10), time.monotonic()
            else:
                self.node.destroy_publisher(self._teacher)
                self._teacher = None

    def _teach(self) -> None:
        from builtin_interfaces.msg import Duration
        from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

        with self._lock:
            if self._teacher is not None:
                goal = (0.4 * np.sin(time.monotonic() - self._begun) * np.linspace(0.5, 1.0, 6)).tolist()
                point = JointTrajectoryPoint(positions=goal, time_from_start=Duration(nanosec=20_000_000))
                self._teacher.publish(JointTrajectory(joint_names=NAMES, points=[point]))

    def _follow(self, message: Any) -> None:
        self.commands.append(message)
        self.controller.receive(message, time.time(), self.position)

    def _move(self) -> None:
        from sensor_msgs.msg import JointState

        before, self.position = self.position, self.controller.sample(time.time())
        speed = ((self.position - before) / 0.01).tolist()
        message = JointState(name=NAMES, position=self.position.tolist(), velocity=speed)
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._states.publish(message)

    def _look(self) -> None:
        picture = np.full((48, 64, 3), 60, np.uint8)
        column = int(32 + 40 * self.position[0])
        picture[20:28, max(column - 4, 0) : column + 4] = 220
        for camera in self._cameras:
            camera.publish(images.image(ros_types, picture, time.time(), "camera"))


@pytest.fixture
def arm(ros_context: object) -> Iterator[SixAxisArm]:
    made = SixAxisArm(ros_context)
    yield made
    made.close()


def test_from_the_running_graph_to_a_policy_that_moves_it(arm: SixAxisArm, spawn: Any, tmp_path: Path) -> None:
    from std_srvs.srv import SetBool, Trigger

    contract, bags, model = tmp_path / "six.yaml", tmp_path / "bags", tmp_path / "model"

    def verb(*words: Any) -> Any:
        return spawn([sys.executable, "-m", "difftop_ros.cli", *words])

    def done(*words: Any) -> str:
        process = verb(*words)
        assert process.wait(patience(180)) == 0, process.output()
        return process.output()

    done("contract", "init", "--live", "--local", "--seconds", 2, "--out", contract)
    proposed = yaml.safe_load(contract.read_text())
    (unwanted,) = [key for key, obs in proposed["observations"].items() if obs["topic"].startswith("/overview")]
    del proposed["observations"][unwanted]  # the choice of cameras: all that is edited
    contract.write_text(yaml.safe_dump(proposed, sort_keys=False))
    made = load_contract(contract)
    assert made.command.joint_names == NAMES and made.command.topic == TOPIC
    assert made.command.joints[0].position == (-2.5, 2.5) and made.command.joints[0].velocity == 1.5

    arm.teach(True)
    done("contract", "check", contract, "--live", "--local", "--seconds", 2)
    recorder = verb("record", "--contract", contract, "--out", bags)
    recorder.wait_for("all observed topics are there", patience(60))
    for _ in range(2):
        assert call(arm, Trigger, "start", Trigger.Request()).success
        time.sleep(2.5)
        assert call(arm, SetBool, "stop", SetBool.Request(data=True)).success
    assert recorder.interrupt(patience(20)) == 0
    arm.teach(False)
    done("contract", "check", contract, "--bag", next(bags.glob("*_000")))

    done("train", "--bags", bags, "--out", model, "--policy", "bc", "--steps", 20, "--batch", 8)
    arm.commands.clear()
    process = verb("run", "--model", model)
    end = time.monotonic() + patience(60)
    while len(arm.commands) < 40:
        assert time.monotonic() < end and process.popen.poll() is None, process.output()
        time.sleep(0.1)
    assert process.interrupt(patience(20)) == 0, process.output()
    path = np.array([point.positions for message in list(arm.commands) for point in message.points[-1:]])
    assert np.isfinite(path).all() and np.abs(path).max() <= 2.5
    assert arm.controller.refused == []
    time.sleep(0.3)
    np.testing.assert_allclose(arm.position, path[-1], atol=1e-6)  # it stands where the last command leads


def call(arm: SixAxisArm, kind: Any, name: str, request: Any) -> Any:
    """The recorder's answer."""
    client = arm.node.create_client(kind, f"/difftop_recorder/{name}")
    assert client.wait_for_service(patience(20))
    future, end = client.call_async(request), time.monotonic() + patience(20)
    while not future.done():
        assert time.monotonic() < end, name
        time.sleep(0.02)
    return future.result()
