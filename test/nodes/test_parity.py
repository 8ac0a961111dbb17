"""One preprocessing for bag and live: what the node sees of a bag replayed over DDS equals the dataset's frames."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from difftop_ros.contract import Contract, load_contract, parse_contract
from difftop_ros.data import EpisodeDataset, find_bags, ingest, open_bag
from difftop_ros.messages.pipeline import ObservationPipeline
from tools.patience import patience

ROOT = Path(__file__).parents[2]

# Publishes the bag's messages as they are, once every topic has a listener.
PLAYER = """
import sys, time
from difftop_ros.nodes import environment as ros_env
ros_env.prepare(local_only=True)
import rclpy
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from difftop_ros.data import open_bag
from difftop_ros.messages.types import ros_types
rclpy.init()
node = rclpy.create_node("player")
with open_bag(sys.argv[1]) as bag:
    topics = sys.argv[2:]
    out = {t: node.create_publisher(ros_types(bag.topics[t].type), t, QoSProfile(depth=2000)) for t in topics}
    print("ready", flush=True)
    while any(p.get_subscription_count() < 1 for p in out.values()):
        time.sleep(0.02)
    for topic, _, raw in bag.messages(topics):
        out[topic].publish(raw)
    for publisher in out.values():
        publisher.wait_for_all_acked(Duration(seconds=20))
print("played", flush=True)
time.sleep(60)
"""


def rich_contract() -> Contract:
    """The demo's contract with every kind of observation beside its own, small pictures, and the easiest task."""
    data = yaml.safe_load((ROOT / "config" / "panda_table.yaml").read_text())
    seen = data["observations"]
    data["observations"] |= {
        "front": {
            "kind": "image", "topic": "/camera/front/color/image_raw", "resize": [48, 64], "crop": [4, 6, 50, 60],
        },
        "wrist": {
            "kind": "image", "topic": "/camera/wrist/color/image_raw/compressed",
            "type": "sensor_msgs/msg/CompressedImage", "resize": [40, 40],
        },
        "depth": {
            **{k: seen["cloud"][k] for k in ("frame", "transform", "crop")}, "kind": "depth_cloud", "points": 128,
            "topic": "/camera/front/depth/image_raw", "camera_info": "/camera/front/depth/camera_info",
            "voxel_m": 0.01, "outliers": {"neighbours": 8, "std_ratio": 3.0},
        },
        "hand": {
            "kind": "point_cloud", "topic": "/camera/wrist/points", "frame": "world", "points": 64, "max_age_ms": 300,
            "transform": {"from_frame": "wrist_optical_frame", "link": "panda_hand", "xyz": [0.07, 0, 0.005],
                          "rpy": [0.25, 0, 1.5708]},
        },
    }  # fmt: skip
    data["sim"] |= {"task": "reach", "width": 80, "height": 60}
    data["sim"]["cameras"] |= {"front": "front", "wrist": "wrist", "depth": "front", "hand": "wrist"}
    data["episode"]["max_seconds"] = 4
    return parse_contract(yaml.safe_dump(data))


def receive_all(context: Any, spawn: Any, bag_path: Path, contract: Contract) -> list[tuple[str, bytes]]:
    """Every message of the contract's observations in the bag, after a way through DDS from another process."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from difftop_ros.nodes.topics import TopicFollower

    topics = ObservationPipeline(contract).topics
    with open_bag(bag_path) as bag:
        expected = {topic: bag.topics[topic].count for topic in topics}
    player = spawn([sys.executable, "-c", PLAYER, str(bag_path), *topics])
    player.wait_for("ready")
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    got: list[tuple[str, bytes]] = []
    follower = TopicFollower(node, topics, [], lambda topic, raw, _: got.append((topic, raw)))
    deadline = time.monotonic() + patience(40)
    while len(got) < sum(expected.values()):
        assert time.monotonic() < deadline, f"{len(got)} of {sum(expected.values())} messages came: {player.output()}"
        if len(follower.types) < len(topics):
            follower.scan()
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    node.destroy_node()
    return got


def assert_parity(context: Any, spawn: Any, bag: Path, contract: Contract, folder: Path) -> int:
    """Replays `bag` and compares every step of every observation; returns the number of steps compared."""
    contract = contract.in_namespace("/")
    from difftop_ros.messages.types import header_stamp
    from difftop_ros.nodes.topics import deserialize
    from difftop_ros.runtime.streams import StreamBuffers
    from difftop_ros.runtime.worker import PolicyWorker

    ingest([bag], contract, folder)
    stored = EpisodeDataset(folder, include_failures=True)[0]
    frames = {key: stored[key][:] for key in contract.observations}
    messages = sorted(receive_all(context, spawn, bag, contract), key=lambda m: header_stamp(m[1]))
    topics = ObservationPipeline(contract).topics
    buffers, worker = StreamBuffers(topics, contract.unstamped, 1.0), PolicyWorker(None, contract, deserialize)
    waiting = iter(messages)
    pending = next(waiting, None)
    first, steps = stored.attributes["first_ns"], stored.steps
    for step in range(steps):
        now = first + round(step * 1e9 / contract.rate_hz)
        while pending is not None and header_stamp(pending[1]) <= now:
            buffers.push(*pending, now)
            pending = next(waiting, None)
        seen, _ = worker.observe(buffers.request(now, 1, 1 / contract.rate_hz))
        for key, frame in seen.items():
            np.testing.assert_array_equal(frame[0], frames[key][step], err_msg=f"'{key}' at step {step}")
    return steps


@pytest.fixture
def other_bag(tmp_path: Path) -> Path:
    """Jpeg colour, a padded cloud of unusual field order, joints in another order; 12 steps of the other robot."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from difftop_ros.messages.commands import array_to_command
    from difftop_ros.messages.images import compressed_image
    from difftop_ros.messages.joints import joint_state
    from difftop_ros.messages.points import point_cloud2
    from difftop_ros.messages.types import rosbags_types

    types, store, rng = rosbags_types, get_typestore(Stores.ROS2_JAZZY), np.random.default_rng(0)
    contract = load_contract(ROOT / "config" / "ur_like_example.yaml").in_namespace("/")
    names = [*reversed(contract.command.joint_names), "finger_joint"]
    with Writer(tmp_path / "other", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        channels: dict[str, object] = {}

        def write(topic: str, kind: str, time_s: float, message: object) -> None:
            if topic not in channels:
                channels[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(channels[topic], round(time_s * 1e9), bytes(store.serialize_cdr(message, kind)))

        for i in range(26):
            t = 20 + i * 0.05
            state = joint_state(types, names, t, rng.normal(size=7), rng.normal(size=7))
            write("/arm/joint_states", "sensor_msgs/msg/JointState", t, state)
            picture = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
            jpeg = compressed_image(types, picture, t + 0.003, "overhead_camera_optical")
            write("/overhead_camera/color/image_raw/compressed", "sensor_msgs/msg/CompressedImage", t + 0.003, jpeg)
            if i % 2 == 0:
                xyz = rng.uniform([-0.6, -0.6, 0.2], [0.6, 0.6, 1.2], (40, 50, 3)).astype(np.float32)
                rgb = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                cloud = point_cloud2(types, xyz, t + 0.004, "overhead_camera_optical", rgb,
                                       order=("z", "rgb", "y", "x"), padding=4, row_padding=12)  # fmt: skip
                write("/overhead_camera/depth/points", "sensor_msgs/msg/PointCloud2", t + 0.004, cloud)
            order = array_to_command(contract, rng.normal(size=6), round((t + 0.005) * 1e9), types)
            write("/forward_velocity_controller/commands", "std_msgs/msg/Float64MultiArray", t + 0.005, order)
    return tmp_path / "other"


def test_another_robots_bag_is_seen_alike_live_and_from_disk(
    other_bag: Path, ros_context: object, spawn: Any, tmp_path: Path
) -> None:
    contract = load_contract(ROOT / "config" / "ur_like_example.yaml")
    assert assert_parity(ros_context, spawn, other_bag, contract, tmp_path / "data") >= 12


def test_demonstrations_go_through_the_topics_and_are_seen_alike(
    ros_context: object, spawn: Any, tmp_path: Path
) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(rich_contract().to_yaml())
    command = [sys.executable, "-c", RECORD, "--contract", str(path), "--out", str(tmp_path / "bags"), "--expert",
               "--episodes", "2", "--noise", "0.01", "--seed", "5"]  # fmt: skip
    recording = spawn(command)
    assert recording.wait(100) == 0, recording.output()
    assert "2 of 2 succeeded" in recording.output()
    contract = load_contract(path)
    bags = find_bags([tmp_path / "bags"])
    with open_bag(bags[1]) as bag:
        assert bag.mark()["seed"] == 6 and bag.mark()["success"] is True and bag.mark()["noise"] == 0.01
        steps = bag.mark()["steps"]
        counts = {topic: info.count for topic, info in bag.topics.items()}
    # Nothing is lost: a command and a picture for every step and the start.
    assert counts["/joint_command"] == counts["/camera/front/points"] == steps + 1
    report = ingest(bags, contract, tmp_path / "all")
    assert all(b.leading + b.trailing <= 1 and not b.held for b in report.bags)
    # The expert's command for t_k is on the bag as the action of step k: the arm is on its way to it one step later.
    episode = EpisodeDataset(tmp_path / "all")[0]
    joints, action = episode["joints"][:, :7], episode["action"][:, :7]
    ahead, behind = np.abs(action[:-1] - joints[1:]).mean(), np.abs(action[1:] - joints[:-1]).mean()
    assert ahead < 0.5 * behind
    assert assert_parity(ros_context, spawn, bags[0], contract, tmp_path / "one") >= 20


RECORD = """
import argparse, sys
from difftop_ros.commands import record
from difftop_ros.errors import UserError
parser = argparse.ArgumentParser()
record.add_arguments(parser)
try:
    sys.exit(record.run(parser.parse_args()))
except UserError as error:
    sys.exit(f"error: {error}")
"""


def test_a_simulation_that_cannot_start_says_why(spawn: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECORD, "--out", str(tmp_path / "bags"), "--expert", "--task", "juggle"]
    recording = spawn(command)
    assert recording.wait(60) == 1
    assert "juggle" in recording.output() and "Traceback" not in recording.output()
    assert not (tmp_path / "bags").exists()
