"""The recorder over real DDS: what is published in another process is in the bag, byte for byte, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import parse_contract
from difftop_ros.data import find_bags, ingest, open_bag
from difftop_ros.data.bags.writer import Definitions, EpisodeBag, RecorderError, next_folder
from difftop_ros.messages import ObservationPipeline
from tools.patience import patience

CONTRACT = """
name: two_joints
rate_hz: 20
control_rate_hz: 50
command: {topic: /command, type: sensor_msgs/msg/JointState, joints: [{name: a, position: [-3, 3], velocity: 2}]}
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a]}
  colour: {kind: image, topic: /camera/color/image_raw, resize: [48, 64]}
episode: {success_topic: /success}
"""

# Publishes a numbered joint state, picture and command at 20 Hz; a latched mark; and one message of our own type.
PUBLISHER = """
import sys, time
import numpy as np
from difftop_ros.nodes import environment as ros_env
ros_env.prepare(local_only=True)
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy, DurabilityPolicy
from difftop_ros.messages.images import camera_info, image
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import ros_types
t = ros_types
rclpy.init()
node = rclpy.create_node("robot")
best = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
skip = sys.argv[1:]
topics = {
    "/joint_states": ("sensor_msgs/msg/JointState", 10), "/camera/color/image_raw": ("sensor_msgs/msg/Image", best),
    "/camera/color/camera_info": ("sensor_msgs/msg/CameraInfo", best), "/command": ("sensor_msgs/msg/JointState", 10),
    "/success": ("std_msgs/msg/Bool", latched), "/sim/episode": ("difftop_ros/msg/EpisodeStatus", latched),
}
out = {n: node.create_publisher(t(k), n, q) for n, (k, q) in topics.items() if n not in skip}
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
print("publishing", flush=True)
for i in range(100000):
    now = node.get_clock().now().nanoseconds * 1e-9
    picture = np.full((480, 640, 3), i % 256, np.uint8)
    picture[-64:, :64] = noise
    sent = {
        "/joint_states": joint_state(t, ["a"], now, np.array([i * 0.001])),
        "/camera/color/image_raw": image(t, picture, now, "cam"),
        "/camera/color/camera_info": camera_info(t, np.eye(3) * 500, 640, 480, now, "cam"),
        "/command": joint_state(t, ["a"], now, np.array([i * 0.001])),
        "/success": t("std_msgs/msg/Bool")(data=i > 20),
        "/sim/episode": t("difftop_ros/msg/EpisodeStatus")(task="lift", seed=i),
    }
    for name, publisher in out.items():
        publisher.publish(sent[name])
    time.sleep(0.05)
"""


@pytest.fixture
def setup(tmp_path: Path, spawn: Any) -> Any:
    """Starts the publisher and the recorder; returns (recorder process, folder of the bags)."""
    contract = tmp_path / "contract.yaml"
    contract.write_text(CONTRACT)

    def start(*skip: str, options: tuple[str, ...] = ()) -> Any:
        spawn([sys.executable, "-c", PUBLISHER, *skip]).wait_for("publishing")
        out = tmp_path / "bags"
        arguments = ["--ros-args", "-p", f"contract:={contract}", "-p", f"out:={out}", *options]
        recorder = spawn("difftop_ros.nodes.recorder.node", *arguments)
        recorder.wait_for("ready")
        return recorder, out

    return start


def wait_for_messages(file: Path, size: int) -> None:
    deadline = time.monotonic() + patience(20)
    while not file.exists() or file.stat().st_size < size:
        assert time.monotonic() < deadline, f"{file} did not grow"
        time.sleep(0.05)


def test_an_episode_is_recorded_whole(setup: Any, call: Any, tmp_path: Path) -> None:
    _, out = setup()
    assert call("stop", True) == (False, "nothing is being recorded; start first")
    done, folder = call("start")
    assert done and folder == str(out / "two_joints_000")
    done, message = call("stop", False)
    assert done and "failure" in message
    done, folder = call("start")
    assert folder == str(out / "two_joints_001")
    time.sleep(2.0)
    done, message = call("stop", True)
    assert done and "success" in message
    mark = json.loads((Path(folder) / "episode.json").read_text())
    assert mark["success"] is True and mark["complete"] is True
    assert mark["contract_sha256"] == parse_contract(CONTRACT).sha256
    with open_bag(folder) as bag:
        assert not bag.salvaged
        assert {t: i.type for t, i in bag.topics.items()}["/sim/episode"] == "difftop_ros/msg/EpisodeStatus"
        assert "/camera/color/camera_info" in bag.topics and bag.topics["/success"].count
        numbers = {}
        for topic, _, raw in bag.messages():
            numbers.setdefault(topic, []).append(bag.deserialize(raw, topic))
    positions = [round(message.position[0] / 0.001) for message in numbers["/joint_states"]]
    # Lossless: consecutive numbers, about two seconds of them; pictures of 0.9 MB likewise.
    assert positions == list(range(positions[0], positions[0] + len(positions))) and len(positions) >= 30
    shades = [int(message.data[0]) for message in numbers["/camera/color/image_raw"]]
    assert shades == [(shades[0] + i) % 256 for i in range(len(shades))] and len(shades) >= 30
    assert mark["counts"]["/joint_states"] == len(positions)
    assert {message.task for message in numbers["/sim/episode"]} == {"lift"}
    report = ingest([folder], parse_contract(CONTRACT), tmp_path / "data")
    assert report.steps >= 28


def test_what_was_written_survives_sigkill(setup: Any, call: Any) -> None:
    recorder, out = setup()
    folder = Path(call("start")[1])
    wait_for_messages(folder / "two_joints_000.mcap", 100_000)
    os.kill(recorder.pid, signal.SIGKILL)
    recorder.wait()
    assert not (folder / "metadata.yaml").exists()
    assert find_bags([out]) == [folder]
    with open_bag(folder) as bag:
        assert "were recovered" in bag.salvaged and bag.topics["/joint_states"].count >= 5
        pipeline = ObservationPipeline(parse_contract(CONTRACT))
        topic, _, raw = next(bag.messages(["/camera/color/image_raw"]))
        frame = pipeline.decode("colour", {topic: bag.deserialize(raw, topic)})
        assert frame.shape == (48, 64, 3) and np.ptp(frame[:30]) == 0
        assert bag.mark()["success"] is None and bag.mark()["complete"] is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_end_closes_the_bag(setup: Any, call: Any, number: Any) -> None:
    recorder, _ = setup()
    folder = Path(call("start")[1])
    wait_for_messages(folder / "two_joints_000.mcap", 50_000)
    os.kill(recorder.pid, number)
    assert recorder.wait() == 0
    with open_bag(folder) as bag:
        assert not bag.salvaged and bag.mark()["interrupted"] is True and bag.mark()["success"] is None


def test_a_missing_topic_is_named_before_recording(setup: Any, call: Any) -> None:
    _, out = setup("/joint_states")
    done, message = call("start", most=2.0)
    assert not done and "'/joint_states' is missing" in message
    assert not out.exists()


def test_nothing_is_overwritten_and_numbers_go_on(tmp_path: Path) -> None:
    definitions = Definitions()
    folder = next_folder(tmp_path, "demo")
    EpisodeBag(folder, {}, definitions).close(True)
    with pytest.raises(RecorderError, match="exists already and is not overwritten"):
        EpisodeBag(folder, {}, definitions)
    assert folder.name == "demo_000" and next_folder(tmp_path, "demo").name == "demo_001"
    (tmp_path / "demo_017").mkdir()
    (tmp_path / "demo_notes").mkdir()
    assert next_folder(tmp_path, "demo").name == "demo_018"
    with pytest.raises(RecorderError, match=r"definition of other_robot/msg/State was not found"):
        definitions.of("other_robot/msg/State")


def test_our_own_definitions_have_the_hash_of_the_middleware(ros_context: object) -> None:
    from difftop_ros.msg import EpisodeStatus, Plan

    for kind in (Plan, EpisodeStatus):
        import rclpy

        node = rclpy.create_node("hashes", context=ros_context)
        publisher = node.create_publisher(kind, "/thing", 1)
        found = {str(i.topic_type_hash) for i in node.get_publishers_info_by_topic("/thing")}
        _, digest = Definitions().of(f"difftop_ros/msg/{kind.__name__}")
        assert any(digest in text or text.endswith(digest) for text in found) or not any("RIHS" in t for t in found)
        node.destroy_publisher(publisher)
        node.destroy_node()
