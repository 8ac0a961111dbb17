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
TF = "tf2_msgs/msg/TFMessage"
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
    """messages: (topic, type, stamp [ns], message) in order; cameras and tools: their poses by the stamps of clouds.

    transforms: what robot_state_publisher would send beside them.
    """

    messages: list[tuple[str, str, int, Any]] = field(default_factory=list)
    transforms: list[tuple[str, str, int, Any]] = field(default_factory=list)
    cameras: dict[int, np.ndarray] = field(default_factory=dict)
    tools: dict[int, np.ndarray] = field(default_factory=dict)
    cube: np.ndarray = field(default_factory=lambda: np.zeros(3))
    speed: float = 0.0

    def write(self, folder: Path, transforms: bool = False) -> Path:
        """As a bag, with a command at each joint state."""
        messages = sorted([*self.messages, *(self.transforms if transforms else [])], key=lambda entry: entry[2])
        store = get_typestore(Stores.ROS2_JAZZY)
        with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            channels: dict[str, Any] = {}
            for topic, kind, stamp, message in messages:
                if topic not in channels:
                    channels[topic] = writer.add_connection(topic, kind, typestore=store)
                writer.write(channels[topic], stamp, bytes(store.serialize_cdr(message, kind)))
        return folder


def transform(parent: str, child: str, stamp_ns: int, xyz: np.ndarray, quat_xyzw: np.ndarray) -> Any:
    """geometry_msgs/msg/TransformStamped."""
    told = types("geometry_msgs/msg/TransformStamped")()
    told.header.frame_id, told.child_frame_id = parent, child
    told.header.stamp.sec, told.header.stamp.nanosec = divmod(stamp_ns, 1000 * MS)
    told.transform.translation.x, told.transform.translation.y, told.transform.translation.z = map(float, xyz)
    turn = told.transform.rotation
    turn.x, turn.y, turn.z, turn.w = map(float, quat_xyzw)
    return told


def tf_message(*told: Any) -> Any:
    """tf2_msgs/msg/TFMessage."""
    message = types("tf2_msgs/msg/TFMessage")()
    message.transforms = list(told)
    return message


def _links(world: PandaWorld, stamp_ns: int) -> Any:
    """Every link of the arm on the one it hangs on."""
    model, data, told = world.model, world.data, []
    for body in range(1, model.nbody):
        name, parent = model.body(body).name, int(model.body_parentid[body])
        if name.startswith("panda"):
            turn = data.xmat[parent].reshape(3, 3).T
            own = Rotation.from_matrix(turn @ data.xmat[body].reshape(3, 3)).as_quat()
            place = turn @ (data.xpos[body] - data.xpos[parent])
            told.append(transform(model.body(parent).name, name, stamp_ns, place, own))
    return tf_message(*told)


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
    mount = transform("panda_hand", "wrist_optical_frame", 0, np.array(MOUNT["xyz"]), np.array(MOUNT["quat_xyzw"]))
    found.transforms.append(("/tf_static", TF, stamp0 * MS, tf_message(mount)))
    for ms in range(0, 2000, 2):
        wave = 0.35 * np.sin(2 * np.pi * ms / 1000)
        target = home + wave * np.array([1.0, 0.3, -0.6, 0.4, 0.5, 0.6, 1.0, 0.0])
        if ms % 20 == 0:
            now = (stamp0 + ms) / 1e3
            sent = array_to_command(contract, target, (stamp0 + ms) * MS, types)
            found.messages.append(("/joint_command", COMMANDS, (stamp0 + ms) * MS + 1, sent))
            state = joint_state(types, world.joint_names, now, *world.joint_state())
            found.messages.append(("/joint_states", JOINTS, (stamp0 + ms) * MS, state))
            found.transforms.append(("/tf", TF, (stamp0 + ms) * MS, _links(world, (stamp0 + ms) * MS)))
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
