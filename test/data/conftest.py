"""Bags, contracts and messages for the data tests, all real: written by rosbags, read by the code under test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_typestore

from difftop_ros.contract import Contract, load_contract, parse_contract
from difftop_ros.messages.images import compressed_image, depth_image, image
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import rosbags_types as types

ROOT = Path(__file__).parents[2]
STORE = get_typestore(Stores.ROS2_JAZZY)
Entry = tuple[str, str, int, Any]  # topic, type, receive time [ns], message

CONTRACT = """
name: two_joints
rate_hz: 10
control_rate_hz: 50
clock: header
command:
  topic: /command
  type: sensor_msgs/msg/JointState
  mode: position
  joints:
    - {name: a, position: [-3, 3], velocity: 2, step: 0.5}
    - {name: b, position: [-3, 3], velocity: 2, step: 0.5}
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a, b], max_age_ms: 100}
  cloud: {kind: point_cloud, topic: /points, frame: world, points: 16, color: true, max_age_ms: 250,
          crop: {min: [-1, -1, -1], max: [1, 1, 1]}}
episode: {max_seconds: 10, success_topic: /success}
"""


@pytest.fixture
def contract() -> Contract:
    return parse_contract(CONTRACT)


@pytest.fixture
def other_contract() -> Contract:
    """Another robot: six joints, own topic names, jpeg colour, velocity commands, padded cloud."""
    return load_contract(ROOT / "config" / "ur_like_example.yaml")


def _write_bag(
    folder: Path,
    entries: Iterable[Entry],
    *,
    plugin: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    store: Any = STORE,
) -> Path:
    writer = Writer(folder, version=9, storage_plugin=plugin)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, kind, stamp, message in entries:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], stamp, bytes(store.serialize_cdr(message, kind)))
    return folder


@pytest.fixture
def write_bag() -> Callable[..., Path]:
    return _write_bag


def _episode(
    *, steps: int = 30, success: bool | None = True, start_s: float = 100.0, points: int = 40, seed: int = 0,
    offset_s: float = 0.0,
) -> list[Entry]:  # fmt: skip
    """Two joints at 20 Hz, a cloud at 10 Hz, commands at 10 Hz; joint a reads the time since the start in seconds."""
    rng = np.random.default_rng(seed)
    entries: list[Entry] = []
    for i in range(steps * 2):
        t = start_s + i * 0.05
        joints = joint_state(types, ["b", "a"], t, np.array([-1.0, t - start_s]))
        entries.append(("/joint_states", "sensor_msgs/msg/JointState", round((t + offset_s) * 1e9), joints))
        if i % 2 == 0:
            xyz = rng.uniform(-0.9, 0.9, (points, 3)).astype(np.float32)
            rgb = rng.integers(0, 256, (points, 3), dtype=np.uint8)
            cloud = point_cloud2(types, xyz, t, "world", rgb)
            entries.append(("/points", "sensor_msgs/msg/PointCloud2", round((t + 0.002 + offset_s) * 1e9), cloud))
            order = joint_state(types, ["a", "b"], t + 0.01, np.array([t - start_s, 0.5]))
            entries.append(("/command", "sensor_msgs/msg/JointState", round((t + 0.01 + offset_s) * 1e9), order))
    if success is not None:
        mark = types("std_msgs/msg/Bool")()
        mark.data = success
        entries.append(("/success", "std_msgs/msg/Bool", round((t + 0.02 + offset_s) * 1e9), mark))
    return entries


@pytest.fixture
def episode() -> Callable[..., list[Entry]]:
    return _episode


@pytest.fixture
def kit() -> SimpleNamespace:
    """Message builders of the simulator with rosbags' classes."""
    return SimpleNamespace(
        image=image, compressed_image=compressed_image, depth_image=depth_image, point_cloud2=point_cloud2,
        joint_state=joint_state,
        types=types, store=STORE, write_bag=_write_bag, StoragePlugin=StoragePlugin, CompressionMode=CompressionMode,
    )  # fmt: skip
