"""What tells where the robot was: joint readings and TF of any bytes, and clouds and poses that are placed by them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.errors import UserError
from tools.fuzz.mutate import changed_bytes
from tools.fuzz.targets.base import CONTRACT, Target, dumped, samples

URDF = """<robot name="r"><link name="base"/><link name="x"/><link name="eye"/>
<joint name="a" type="prismatic"><parent link="base"/><child link="x"/></joint>
<joint name="b" type="revolute"><parent link="x"/><child link="eye"/><axis xyz="0 0 1"/></joint></robot>"""
NO_FRAME = {"crop": {"min": [-9, -9, -9], "max": [9, 9, 9]}, "color": False, "voxel_m": None, "outliers": None}


class Places(Target):
    """Messages of a window, some changed, handed in as they come; then the observation at some time."""

    searched = "nothing"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import yaml
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.contract import parse_contract
        from difftop_ros.messages.types import rosbags_types as types

        (folder / "arm.urdf").write_text(URDF)
        data: dict[str, Any] = yaml.safe_load(CONTRACT)
        cloud = {**data["observations"]["cloud"], **NO_FRAME}
        data["robot"] = {"description": str(folder / "arm.urdf"), "tool_frame": "eye"}
        data["observations"] = {
            "joints": data["observations"]["joints"],
            "moving": {**cloud, "transform": {"from_frame": "camera", "link": "eye"}, "relative_to": "tool"},
            "told": {**cloud, "transform": {"from_frame": "camera", "tf": True}},
            "tool": {"kind": "tool_pose", "topic": "joint_states"},
        }
        data["sim"] = {}
        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.contract = parse_contract(dumped(data).decode())
        told = types("geometry_msgs/msg/TransformStamped")()
        told.header.frame_id, told.child_frame_id, told.header.stamp.sec = "base", "camera", 1
        message = types("tf2_msgs/msg/TFMessage")()
        message.transforms = [told, told]
        transform = bytes(self.store.serialize_cdr(message, "tf2_msgs/msg/TFMessage"))
        known = samples(self.store)
        self.samples = {
            "joint_states": ("sensor_msgs/msg/JointState", known["joint_states"][0]),
            "points": ("sensor_msgs/msg/PointCloud2", known["points"][0]),
            "/tf": ("tf2_msgs/msg/TFMessage", transform),
            "/tf_static": ("tf2_msgs/msg/TFMessage", transform),
        }

    def make(self, rng: random.Random) -> bytes:
        parts = []
        for topic in ("joint_states", "points", "/tf", "/tf_static") * 2:
            raw = self.samples[topic][1]
            raw = changed_bytes(rng, raw) if rng.random() < 0.5 else raw
            at = rng.choice((0, 1, 10**9, 10**9 + rng.randrange(10**8), -1, 2**62))
            parts.append({"topic": topic, "at": at, "raw": raw.hex()})
        return json.dumps(parts).encode()

    def feed(self, raw: bytes) -> None:
        from difftop_ros.messages import ObservationPipeline

        pipeline, latest, refused = ObservationPipeline(self.contract), {}, None
        for part in json.loads(raw):
            try:
                message = self.store.deserialize_cdr(bytes.fromhex(part["raw"]), self.samples[part["topic"]][0])
            except Exception:
                continue  # the deserialiser's refusal, not ours
            pipeline.follow(part["topic"], part["at"], message)
            if part["topic"] in pipeline.topics:
                latest[part["topic"]] = (part["at"], message)
            for key in self.contract.observations:
                messages = {topic: latest[topic] for topic in pipeline.inputs[key] if topic in latest}
                if messages.keys() != set(pipeline.inputs[key]):
                    continue
                try:
                    poses = pipeline.where.poses(key, {topic: at for topic, (at, _) in messages.items()})
                    frame = pipeline.decode(key, {topic: said for topic, (_, said) in messages.items()}, poses)
                    assert np.isfinite(frame).all()
                except UserError as error:
                    refused = error
        if refused is not None:
            raise refused
