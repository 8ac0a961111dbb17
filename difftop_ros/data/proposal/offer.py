"""What a bag shows of a robot: types, rates, a message of each kind, how its joints moved, its description."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from difftop_ros.data.bags.reader import Bag
from difftop_ros.data.bags.timing import Timing, bag_timings
from difftop_ros.data.errors import BagError
from difftop_ros.messages.commands import ARRAY, JOINT_STATE, TRAJECTORY

COMMANDS = (TRAJECTORY, ARRAY, JOINT_STATE)
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOUD, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
SHOWN = (*COMMANDS, IMAGE, COMPRESSED, CLOUD, INFO)
DESCRIPTION, TEXT = "/robot_description", "std_msgs/msg/String"


@dataclass
class Moved:
    """Where a joint was, lowest and highest [rad | m], and its largest speed as far as messages say one."""

    lowest: float = np.inf
    highest: float = -np.inf
    fastest: float = 0.0

    def take(self, position: float, speed: float) -> None:
        """Another reading."""
        if np.isfinite(position):
            self.lowest, self.highest = min(self.lowest, position), max(self.highest, position)
        if np.isfinite(speed):
            self.fastest = max(self.fastest, abs(speed))


@dataclass
class Shown:
    """kinds: topic -> type; samples: topic -> its first message; description: URDF text or ''.

    taken: topics that somebody subscribes to, such as a controller; controllers: topic -> what its controller says of
    itself (joints: names; interfaces: command interfaces).
    """

    kinds: dict[str, str]
    timings: dict[str, Timing]
    samples: dict[str, Any] = field(default_factory=dict)
    moved: dict[str, Moved] = field(default_factory=lambda: defaultdict(Moved))
    description: str = ""
    taken: frozenset[str] = frozenset()
    controllers: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def take(self, topic: str, message: Any) -> None:
        """A message of one of the kinds SHOWN, or the description."""
        kind = self.kinds[topic]
        if kind == TEXT:
            self.description = str(message.data)
            return
        self.samples.setdefault(topic, message)
        if kind == JOINT_STATE and len(message.position) == len(message.name):
            speeds = message.velocity if len(message.velocity) == len(message.name) else np.zeros(len(message.name))
            for name, position, speed in zip(message.name, message.position, speeds, strict=True):
                self.moved[name].take(float(position), float(speed))


def shown_by_bag(bag: Bag) -> Shown:
    """What an open bag shows. Joint states are all read, of other topics the first message."""
    kinds = {topic: info.type for topic, info in bag.topics.items()}
    shown = Shown(kinds, bag_timings(bag))
    wanted = [topic for topic, kind in kinds.items() if kind in SHOWN or topic.endswith(DESCRIPTION)]
    for topic, _, raw in bag.messages(wanted):
        if topic in shown.samples and kinds[topic] != JOINT_STATE:
            continue
        with suppress(BagError):  # a message that cannot be read shows nothing
            shown.take(topic, bag.deserialize(raw, topic))
    return shown
