"""The simulation bridge as a process of its own, over real DDS: topics, commands, lock-step, services, errors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import load_contract
from difftop_ros.messages import ObservationPipeline
from difftop_ros.messages.commands import array_to_command
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import ros_types
from difftop_ros.paths import share_path
from difftop_ros.sim import make_expert, make_world
from tools.patience import patience

BRIDGE = "difftop_ros.nodes.simulation.bridge.node"
JOINT_STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"


class Client:
    """A node that listens to topics, publishes commands and calls the bridge's services, all with bounded waits."""

    def __init__(self, context: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        from difftop_ros.srv import ResetEpisode, StepSimulation

        self.node = rclpy.create_node("test_client", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.received = {}
        self._reset = self.node.create_client(ResetEpisode, "/sim/reset")
        self._step = self.node.create_client(StepSimulation, "/sim/step")

    def listen(self, topic: Any, kind: Any, best_effort: bool = False, latched: bool = False, depth: int = 100) -> Any:
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        qos = QoSProfile(depth=depth)
        if best_effort:
            qos.reliability = ReliabilityPolicy.BEST_EFFORT
        if latched:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        got = self.received.setdefault(topic, [])
        self.node.create_subscription(ros_types(kind), topic, got.append, qos)
        return got

    def publisher(self, topic: str = "/joint_command", kind: Any = JOINT_STATE) -> Any:
        publisher = self.node.create_publisher(ros_types(kind), topic, 10)
        self.until(lambda: publisher.get_subscription_count() == 1)
        return publisher

    def until(self, done: Any, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + patience(timeout)
        while not done():
            assert time.monotonic() < deadline, (
                f"waited {timeout} s; got { {t: len(m) for t, m in self.received.items()} }"
            )
            self.executor.spin_once(timeout_sec=0.05)

    def until_stamp(self, got: Any, answer: Any) -> None:
        """Waits for the message of the very moment that a service answered with."""
        self.until(lambda: nanoseconds(got[-1].header.stamp) == nanoseconds(answer.stamp))

    def _call(self, client: Any, **fields: Any) -> Any:
        assert client.wait_for_service(timeout_sec=patience(30.0))
        future = client.call_async(client.srv_type.Request(**fields))
        self.until(future.done)
        return future.result()

    def reset(self, seed: Any, task: str = "") -> Any:
        return self._call(self._reset, seed=seed, task=task)

    def step(self, steps: int = 1, wait: bool = False) -> Any:
        return self._call(self._step, steps=steps, wait_for_command=wait)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def client(ros_context: object) -> Iterator[Any]:
    client = Client(ros_context)
    yield client
    client.close()


def nanoseconds(stamp: Any) -> Any:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def start(spawn: Any, *parameters: Any) -> Any:
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    bridge = spawn(BRIDGE, "--ros-args", *arguments)
    bridge.wait_for("ready", timeout=60)
    return bridge


def test_lockstep_is_exact_and_success_is_told(spawn: Any, client: Any) -> None:
    """The expert drives a world in this process; the bridge, sent the same commands, goes through identical states."""
    bridge = start(spawn, "task:=lift", "lockstep:=true", "seed:=1")
    states = client.listen("/joint_states", JOINT_STATE)
    clock = client.listen("/clock", "rosgraph_msgs/msg/Clock", depth=1000)
    success = client.listen("/sim/success", "std_msgs/msg/Bool", latched=True)
    episode = client.listen("/sim/episode", "difftop_ros/msg/EpisodeStatus", latched=True)
    commands = client.publisher()
    assert client.reset(3).success
    client.until(lambda: states and clock and success and episode)
    world = make_world("lift", seed=3)
    expert = make_expert(world)
    steps = 0
    while not world.success():
        command = expert.act()
        now = nanoseconds(clock[-1].clock) * 1e-9
        commands.publish(joint_state(ros_types, world.joint_names, now, command))
        answer = client.step(1, wait=True)
        assert answer.success, answer.message
        client.until_stamp(states, answer)
        for _ in range(5):
            world.step(command, 0.01)
        position, velocity, effort = world.joint_state()
        np.testing.assert_array_equal(np.array(states[-1].position), position)
        np.testing.assert_array_equal(np.array(states[-1].velocity), velocity)
        np.testing.assert_array_equal(np.array(states[-1].effort), effort)
        steps += 1
        assert steps < 150
    client.until(lambda: success[-1].data and episode[-1].success)
    assert episode[-1].done and episode[-1].seed == 3 and episode[-1].task == "lift"
    assert steps - episode[-1].step in (0, 1)  # told at once, so perhaps within the last step
    again = client.reset(4, "reach")
    assert again.success and "reach" in again.message
    client.until(lambda: not success[-1].data and episode[-1].task == "reach")
    client.step(2)
    ticks = [nanoseconds(c.clock) for c in clock]
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    jumps = [gap for gap in gaps if gap != 10_000_000]
    assert len(jumps) <= 2 and all(0 < gap <= 50_000_000 for gap in jumps), "a reset moves the clock to the next step"
    assert bridge.interrupt() == 0


def test_bad_commands_are_ignored_and_counted(spawn: Any, client: Any) -> None:
    start(spawn, "task:=reach", "lockstep:=true")
    states = client.listen("/joint_states", JOINT_STATE)
    diagnostics = client.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    commands = client.publisher()
    client.reset(0)
    client.until(lambda: states)
    world = make_world("reach", seed=0)
    names, rest = list(world.joint_names), world.joint_state()[0]
    bad = [
        joint_state(ros_types, names, 50.0, np.full(8, np.nan)),
        joint_state(ros_types, names, 50.0, rest[:5]),
        joint_state(ros_types, ["elbow", *names[1:]], 50.0, rest + 0.2),
        joint_state(ros_types, names, 0.5, rest + 0.2),
    ]
    for message in bad:
        commands.publish(message)
    good = rest + np.array([0.05] * 7 + [0.0])
    commands.publish(joint_state(ros_types, names, 50.0, good))  # the sentinel: sent last, arrives last
    answer = client.step(1, wait=True)
    world.step(good, 0.05)
    client.until(lambda: nanoseconds(states[-1].header.stamp) == nanoseconds(answer.stamp) and diagnostics)
    np.testing.assert_allclose(np.array(states[-1].position), world.joint_state()[0], atol=1e-12)
    values = {v.key: v.value for v in diagnostics[-1].status[0].values}
    assert values["commands_accepted"] == "1" and values["commands_ignored"] == "4", values
    assert "before the episode" in values["last_ignored_because"]


@pytest.mark.parametrize(
    "kind,mode",
    [(ARRAY, "velocity"), ("trajectory_msgs/msg/JointTrajectory", "position"), (JOINT_STATE, "delta_position")],
)
def test_command_types_and_modes_move_the_arm(spawn: Any, client: Any, kind: Any, mode: str) -> None:
    start(spawn, "task:=none", "lockstep:=true", f"command_type:={kind}", f"command_mode:={mode}")
    states = client.listen("/joint_states", JOINT_STATE)
    commands = client.publisher(kind=kind)
    client.reset(0)
    client.until(lambda: states)
    first = np.array(states[-1].position)
    contract = load_contract(share_path("config/panda_table.yaml"))
    assert list(states[-1].name) == contract.command.joint_names
    contract = contract.model_copy(update={"command": contract.command.model_copy(update={"type": kind, "mode": mode})})
    for step in range(8):
        values = np.zeros(8)
        values[0] = {"velocity": 0.4, "position": 0.02 * (step + 1), "delta_position": 0.02}[mode]
        if mode == "position":
            values += first
        commands.publish(array_to_command(contract, values, 100_000_000_000, ros_types))
        assert client.step(1, wait=True).success
    answer = client.step(10)
    client.until_stamp(states, answer)
    moved = np.array(states[-1].position) - first
    # Eight steps of 0.02 rad; a velocity goes on until its time-out, 0.5 s after the last command.
    expected = 0.14 + 0.2 if mode == "velocity" else 0.16
    assert moved[0] == pytest.approx(expected, abs=0.015)
    assert np.abs(moved[1:]).max() < 0.01


def test_large_pictures_and_clouds_all_arrive(spawn: Any, client: Any) -> None:
    """640x480 colour and 307,200-point clouds, best effort, from another process: none may be lost."""
    start(spawn, "task:=lift", "width:=640", "height:=480", "camera_rate:=10.0")
    clouds = client.listen("/camera/front/points", "sensor_msgs/msg/PointCloud2", best_effort=True, depth=10)
    pictures = client.listen("/camera/front/color/image_raw", "sensor_msgs/msg/Image", best_effort=True, depth=10)
    client.until(lambda: len(clouds) >= 41 and len(pictures) >= 41, timeout=60)
    for got in (clouds, pictures):
        stamps = [nanoseconds(m.header.stamp) for m in got]
        assert all(b - a == 100_000_000 for a, b in itertools.pairwise(stamps)), "a message was lost"
    assert clouds[0].width * clouds[0].height == 307_200 and clouds[0].header.frame_id == "front_optical_frame"
    assert (pictures[0].width, pictures[0].height, pictures[0].encoding) == (640, 480, "rgb8")


def test_pace_and_drawing_only_when_someone_listens(spawn: Any, client: Any) -> None:
    start(spawn, "task:=reach", "realtime_factor:=2.0")
    diagnostics = client.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")

    def latest(key: Any) -> Any:
        return float({v.key: v.value for v in diagnostics[-1].status[0].values}[key])

    client.until(lambda: len(diagnostics) >= 2 and 1.7 < latest("realtime_factor") < 2.2)
    assert latest("frames_per_s") == 0
    info = client.listen("/camera/wrist/depth/camera_info", "sensor_msgs/msg/CameraInfo", best_effort=True)
    depth = client.listen("/camera/wrist/depth/image_raw", "sensor_msgs/msg/Image", best_effort=True)
    client.until(lambda: info and depth and latest("frames_per_s") > 1)
    assert (depth[0].encoding, depth[0].header.frame_id) == ("32FC1", "wrist_optical_frame")
    world = make_world("reach")
    np.testing.assert_allclose(np.array(info[0].k).reshape(3, 3), world.intrinsics("wrist"))


OTHER_ROBOT = """
name: six_joints
rate_hz: 25
control_rate_hz: 50
command:
  topic: /forward_velocity_controller/commands
  type: std_msgs/msg/Float64MultiArray
  mode: velocity
  joints:
{limits}
observations:
  proprioception: {{kind: joint_state, topic: /arm/state, joints: [{names}], fields: [position, velocity]}}
  scene:
    kind: point_cloud
    topic: /lidar/points
    frame: base
    transform: {{from_frame: lidar, xyz: [1.06, 0, 0.46], quat_xyzw: [0.610797, 0.610797, -0.356269, -0.356269]}}
    crop: {{min: [0.2, -0.4, 0.005], max: [0.8, 0.4, 0.5]}}
    points: 256
    color: true
  eye: {{kind: image, topic: /eye/image/compressed, type: sensor_msgs/msg/CompressedImage, resize: [64, 64]}}
sim: {{task: lift, width: 128, height: 96, cameras: {{scene: front, eye: wrist}}}}
"""


def test_another_robots_contract_needs_no_code(spawn: Any, client: Any, tmp_path: Path) -> None:
    """Six joints under other names in another order, other topics, compressed colour, padded big-endian clouds."""
    names = [f"axis_{i}" for i in (4, 1, 3, 2, 6, 5)]
    limits = "\n".join(f"    - {{name: {n}, position: [-3.2, 3.8], velocity: 1.0}}" for n in names)
    file = tmp_path / "contract.yaml"
    file.write_text(OTHER_ROBOT.format(limits=limits, names=", ".join(names)))
    contract = load_contract(file)
    renamed = [f"axis_{i}=panda_joint{i}" for i in range(1, 7)]
    layout = ["cloud_fields:=rgb,z,x,y", "cloud_padding:=4", "cloud_big_endian:=true"]
    start(spawn, f"contract:={file}", "lockstep:=true", f"joint_map:=[{','.join(renamed)}]", *layout)
    pipeline = ObservationPipeline(contract)
    got = {t: client.listen(t, kind, best_effort=True, depth=10) for t, kind in pipeline.topics.items()}
    commands = client.publisher(contract.command.topic, contract.command.type)
    client.reset(2)
    client.until(lambda: all(got.values()))
    world = make_world("lift", seed=2)
    before = pipeline.decode("proprioception", {"/arm/state": got["/arm/state"][-1]})
    columns = [world.joint_names.index(f"panda_joint{n[-1]}") for n in names]
    np.testing.assert_allclose(before[:6], world.joint_state()[0][columns], atol=1e-5)
    cloud = pipeline.decode("scene", {"/lidar/points": got["/lidar/points"][-1]})
    red = cloud[(cloud[:, 3] > 0.35) & (cloud[:, 4] < 0.25)]
    assert len(red) > 3 and np.linalg.norm(red[:, :2].mean(0) - world.scene.cube()[0][:2]) < 0.02
    assert pipeline.decode("eye", {"/eye/image/compressed": got["/eye/image/compressed"][-1]}).shape == (64, 64, 3)
    velocity = array_to_command(contract, np.array([0, 0.3, 0, 0, 0, 0]), 0, ros_types)
    commands.publish(velocity)
    assert client.step(1, wait=True).success
    answer = client.step(9)
    client.until(lambda: nanoseconds(got["/arm/state"][-1].header.stamp) == nanoseconds(answer.stamp))
    after = pipeline.decode("proprioception", {"/arm/state": got["/arm/state"][-1]})
    assert after[1] - before[1] == pytest.approx(0.3 * 0.4, abs=0.03)


def test_services_refuse_in_a_sentence_and_change_nothing(spawn: Any, client: Any) -> None:
    start(spawn, "task:=lift", "lockstep:=true", "seed:=5")
    episode = client.listen("/sim/episode", "difftop_ros/msg/EpisodeStatus", latched=True)
    client.until(lambda: episode)
    for answer, words in (
        (client.reset(1, "dance"), "dance"),
        (client.reset(-1), "zero or more"),
        (client.step(0), "steps is 0; ask for 1 to"),
        (client.step(1, wait=True), "no command came"),
    ):
        assert not answer.success and words in answer.message
        assert nanoseconds(answer.stamp) == nanoseconds(episode[0].header.stamp)
    assert client.step(20).success
    client.until(lambda: episode[-1].elapsed_s >= 0.9)
    assert (episode[-1].seed, episode[-1].task) == (5, "lift")


def test_stepping_a_running_simulation_is_refused(spawn: Any, client: Any) -> None:
    start(spawn, "task:=none", "realtime_factor:=1.0")
    answer = client.step(1)
    assert not answer.success and "lockstep" in answer.message


@pytest.mark.parametrize(
    "parameter,words",
    [
        ("task:=dance", ["dance", "lift"]),
        ("contract:=/no/such.yaml", ["/no/such.yaml"]),
        ("realtime_factor:=2", ["realtime_factor", "1.0"]),
        ("depth_encoding:=8UC1", ["8UC1", "16UC1"]),
        ("joint_map:=[a=b]", ["['b']", "panda_joint1"]),
    ],
)
def test_what_cannot_be_used_ends_with_one_sentence(spawn: Any, parameter: str, words: Any) -> None:
    bridge = spawn(BRIDGE, "--ros-args", "-p", "task:=lift", "-p", parameter)
    assert bridge.wait(60) == 2
    assert "Traceback" not in bridge.output()
    assert all(w in bridge.output() for w in words), bridge.output()


def test_the_shipped_contract_is_served_whole(spawn: Any, client: Any) -> None:
    """Every observation of the demo's contract arrives in a form the pipeline takes."""
    contract = load_contract(share_path("config/panda_table.yaml"))
    start(spawn, "task:=lift")
    pipeline = ObservationPipeline(contract)
    got = {t: client.listen(t, kind, best_effort=True) for t, kind in pipeline.topics.items()}
    client.until(lambda: all(got.values()))
    for key, topics in pipeline.inputs.items():
        frame = pipeline.decode(key, {t: got[t][-1] for t in topics})
        assert frame.shape == pipeline.spec[key][0]


def test_gazebos_contract_is_served_by_the_engine_drake(spawn: Any, client: Any) -> None:
    """Fingers under their own names, trajectories as commands, a cloud of depth, colour and camera_info."""
    pytest.importorskip("pydrake", reason="the extra [drake] is not installed")
    file = share_path("config/panda_gazebo.yaml")
    contract = load_contract(file)
    start(spawn, f"contract:={file}", "task:=drake/lift", "lockstep:=true", "seed:=3")
    pipeline = ObservationPipeline(contract)
    got = {t: client.listen(t, kind, best_effort=True, depth=10) for t, kind in pipeline.topics.items()}
    commands = client.publisher(contract.command.topic, contract.command.type)
    answer = client.reset(3)
    client.until(lambda: all(got.values()))
    client.until(lambda: nanoseconds(got["joint_states"][-1].header.stamp) == nanoseconds(answer.stamp))
    assert set(got["joint_states"][-1].name) >= {"panda_finger_joint1", "panda_finger_joint2"}
    before = pipeline.decode("joints", {"joint_states": got["joint_states"][-1]}).astype(float)
    assert before[-1] == pytest.approx(0.08, abs=1e-3)
    cloud = pipeline.decode("cloud", {t: got[t][-1] for t in contract.observations["cloud"].topics})
    red = cloud[(cloud[:, 3] > 0.35) & (cloud[:, 4] < 0.25)]
    world = make_world("lift", seed=3)
    assert len(red) > 3 and np.linalg.norm(red[:, :2].mean(0) - world.scene.cube()[0][:2]) < 0.02
    target = before + np.array([0.1, 0, 0, 0, 0, 0, 0, -0.03])
    commands.publish(array_to_command(contract, target, 0, ros_types))
    assert client.step(1, wait=True).success
    answer = client.step(12)
    client.until(lambda: nanoseconds(got["joint_states"][-1].header.stamp) == nanoseconds(answer.stamp))
    after = pipeline.decode("joints", {"joint_states": got["joint_states"][-1]})
    np.testing.assert_allclose(after, target, atol=0.01)
