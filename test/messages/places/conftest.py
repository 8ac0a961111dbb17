"""A simulated arm that waves its wrist camera over the table, recorded as drivers do: each stream at its own rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.messages import images
from difftop_ros.messages.commands import array_to_command
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import rosbags_types as types
from difftop_ros.sim.cloud import depth_to_cloud
from difftop_ros.sim.mujoco.panda import PandaWorld

ROOT = Path(__file__).parents[3]
MS = 1_000_000
JOINTS, COMMANDS = "sensor_msgs/msg/JointState", "sensor_msgs/msg/JointState"
# Of the camera 'wrist' in models/panda_table/panda.xml, as an optical frame: x right, y down, z ahead.
X, Y = np.array([0.0, 1.0, 0.0]), -np.array([0.96891, 0.0, 0.24740]) / np.hypot(0.96891, 0.24740)
MOUNT = {
    "from_frame": "wrist_optical_frame", "link": "panda_hand", "xyz": [0.07, 0.0, 0.005],
    "quat_xyzw": Rotation.from_matrix(np.stack([X, Y, np.cross(X, Y)], 1)).as_quat().tolist(),
}  # fmt: skip
CROP = {"min": [0.1, -0.45, -0.05], "max": [0.8, 0.45, 0.7]}


def moving_contract(**more: Any) -> dict[str, Any]:
    """The demo's contract as plain data, with a wrist camera's cloud and depth; more: observations beside them."""
    data = yaml.safe_load((ROOT / "config" / "panda_table.yaml").read_text())
    cloud = {"frame": "world", "transform": MOUNT, "crop": CROP, "points": 200, "max_age_ms": 300}
    data["observations"] = {
        "joints": data["observations"]["joints"],
        "cloud": {"kind": "point_cloud", "topic": "wrist/points", **cloud},
        "depth": {"kind": "depth_cloud", "topic": "wrist/depth", "camera_info": "wrist/info", **cloud},
        **more,
    }  # fmt: skip
    data["sim"] = {"task": "lift", "cameras": {}}
    return data


@dataclass
class Waved:
    """messages: (topic, type, stamp [ns], message) in order; cameras and tools: their poses by the stamps of clouds."""

    messages: list[tuple[str, str, int, Any]] = field(default_factory=list)
    cameras: dict[int, np.ndarray] = field(default_factory=dict)
    tools: dict[int, np.ndarray] = field(default_factory=dict)
    cube: np.ndarray = field(default_factory=lambda: np.zeros(3))
    speed: float = 0.0

    def write(self, folder: Path, contract: Contract) -> Path:
        """As a bag, with a command at each joint state."""
        store = get_typestore(Stores.ROS2_JAZZY)
        with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            channels: dict[str, Any] = {}
            for topic, kind, stamp, message in self.messages:
                if topic not in channels:
                    channels[topic] = writer.add_connection(topic, kind, typestore=store)
                writer.write(channels[topic], stamp, bytes(store.serialize_cdr(message, kind)))
        return folder


def _tool(world: PandaWorld) -> np.ndarray:
    pose, site = np.eye(4), world.data.site("tcp")
    pose[:3, :3], pose[:3, 3] = site.xmat.reshape(3, 3), site.xpos
    return pose


@pytest.fixture(scope="session")
def waved() -> Waved:
    """2 s: joint states every 20 ms, the camera every 70 ms at moments between them."""
    contract = parse_contract(yaml.safe_dump(moving_contract())).in_namespace("/")
    world, found, stamp0 = PandaWorld("lift", width=80, height=60, seed=3), Waved(), 100_000
    info = images.camera_info(types, world.intrinsics("wrist"), 80, 60, 0.0, "wrist_optical_frame")
    home, places = world.joint_state()[0], []
    for ms in range(0, 2000, 2):
        wave = 0.35 * np.sin(2 * np.pi * ms / 1000)
        target = home + wave * np.array([1.0, 0.3, -0.6, 0.4, 0.5, 0.6, 1.0, 0.0])
        if ms % 20 == 0:
            now = (stamp0 + ms) / 1e3
            sent = array_to_command(contract, target, (stamp0 + ms) * MS, types)
            found.messages.append(("/joint_command", COMMANDS, (stamp0 + ms) * MS + 1, sent))
            state = joint_state(types, world.joint_names, now, *world.joint_state())
            found.messages.append(("/joint_states", JOINTS, (stamp0 + ms) * MS, state))
            places.append(_tool(world)[:3, 3])
        if ms % 70 == 8 and ms % 20:
            now, at = (stamp0 + ms) / 1e3, (stamp0 + ms) * MS
            rgb, depth = world.render("wrist")
            frame = "wrist_optical_frame"
            xyz = depth_to_cloud(depth, world.intrinsics("wrist"))
            info.header.stamp.sec, info.header.stamp.nanosec = divmod(at, 1000 * MS)
            found.messages += [
                ("/wrist/points", "sensor_msgs/msg/PointCloud2", at, point_cloud2(types, xyz, now, frame, rgb)),
                ("/wrist/depth", "sensor_msgs/msg/Image", at, images.depth_image(types, depth, now, frame)),
                ("/wrist/info", "sensor_msgs/msg/CameraInfo", at, info),
            ]
            found.cameras[at], found.tools[at] = world.camera_pose("wrist"), _tool(world)
        world.step(target, 0.002)
    found.cube = world.data.body("cube").xpos.copy()
    world.close()
    found.messages.sort(key=lambda entry: entry[2])
    found.speed = float(np.linalg.norm(np.diff(places, axis=0), axis=1).max() / 0.02)
    return found


@pytest.fixture
def made() -> Callable[..., Contract]:
    """(more observations) -> the contract."""
    return lambda **more: parse_contract(yaml.safe_dump(moving_contract(**more)))
