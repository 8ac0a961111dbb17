"""What all targets share: the interface, a valid contract, valid messages, YAML that is changed."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tools.fuzz.mutate import PIECES, changed_bytes, changed_data

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = """\
name: arm
rate_hz: 20
control_rate_hz: 50
command:
  topic: command
  type: sensor_msgs/msg/JointState
  joints:
  - {name: a, position: [-2.0, 2.0], velocity: 4.0, acceleration: 60.0, step: 0.2}
  - {name: b, position: [-2.0, 2.0], velocity: 4.0}
observations:
  joints: {kind: joint_state, topic: joint_states, joints: [a, b], fields: [position, velocity], max_age_ms: 100}
  cloud: {kind: point_cloud, topic: points, frame: base, points: 16, color: true, voxel_m: 0.01,
    crop: {min: [-1, -1, -1], max: [1, 1, 1]}, outliers: {neighbours: 4, std_ratio: 2.0},
    transform: {from_frame: camera, xyz: [0.1, 0, 0], quat_xyzw: [0, 0, 0, 1]}}
  picture: {kind: image, topic: picture, crop: [0, 0, 16, 16], resize: [8, 8]}
  small: {kind: image, topic: small, type: sensor_msgs/msg/CompressedImage, resize: [8, 8]}
  depth: {kind: depth_cloud, topic: depth, camera_info: info, frame: camera, points: 16}
episode: {max_seconds: 5, success_topic: success}
sim: {task: lift, cameras: {picture: front}}
"""


class Target(ABC):
    """One thing that takes input from outside.

    Attributes:
        searched: what a guided search may change: "all" of an input, its "body" behind a first line that says what it
            is, or "nothing", where an input is a list that only `make` can write.
    """

    searched = "all"

    def __init__(self, folder: Path) -> None:
        """`folder` is the process's own, to write into."""
        self.folder = folder

    @abstractmethod
    def make(self, rng: random.Random) -> bytes:
        """An input."""

    @abstractmethod
    def feed(self, raw: bytes) -> None:
        """Hand it to the product."""


class YamlFile(Target):
    """A YAML text, changed as text or as data."""

    samples: tuple[str, ...] = ()

    def make(self, rng: random.Random) -> bytes:
        text = rng.choice(self.samples)
        if rng.random() < 0.5:
            return changed_bytes(rng, text.encode(), PIECES)
        return dumped(changed_data(rng, parsed(text)))


@lru_cache(maxsize=64)
def parsed(text: str) -> Any:
    """Plain data of a YAML text; whoever changes it must copy."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def dumped(data: Any) -> bytes:
    """Plain data as YAML."""
    try:
        fast = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        return yaml.dump(data, Dumper=fast, sort_keys=False, allow_unicode=True).encode()
    except UnicodeEncodeError:  # half a character
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode(errors="replace")


def samples(store: Any) -> dict[str, list[bytes]]:
    """Valid messages by topic of CONTRACT, serialised."""
    from difftop_ros.messages.images import camera_info, compressed_image, depth_image, image
    from difftop_ros.messages.joints import joint_state
    from difftop_ros.messages.points import point_cloud2
    from difftop_ros.messages.types import rosbags_types as types

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (16, 16, 3), np.uint8)
    points = rng.normal(0, 0.3, (40, 3)).astype(np.float32)
    colour = rng.random((40, 3)).astype(np.float32)
    k = np.array([[20.0, 0, 8], [0, 20, 8], [0, 0, 1]])
    depth = rng.uniform(0.2, 2, (16, 16)).astype(np.float32)
    found = {
        "joint_states": [joint_state(types, ["a", "b"], 1.0, np.zeros(2), np.ones(2), np.ones(2))],
        "points": [point_cloud2(types, points, 1.0, "camera", colour)],
        "picture": [image(types, picture, 1.0, "camera", encoding) for encoding in ("rgb8", "bgr8")],
        "small": [compressed_image(types, picture, 1.0, "camera", form) for form in ("jpeg", "png")],
        "depth": [depth_image(types, depth, 1.0, "camera", encoding) for encoding in ("32FC1", "16UC1")],
        "info": [camera_info(types, k, 16, 16, 1.0, "camera")],
    }
    return {
        topic: [bytes(store.serialize_cdr(message, message.__msgtype__)) for message in messages]
        for topic, messages in found.items()
    }
