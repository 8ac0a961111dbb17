"""When a person had taken over in a bag: the flag that the recorder keeps beside the contract's topics."""

from __future__ import annotations

from os.path import commonpath

import numpy as np

from difftop_ros.data.bags.reader import Bag
from difftop_ros.data.bags.topics import INTERVENTION_TOPIC
from difftop_ros.data.errors import BagError

BOOL = "std_msgs/msg/Bool"


class Interventions:
    """The flag of a bag, whose robot is commanded on `command_topic`; of several robots' flags, that robot's.

    notes: what of it could not be read. Raises BagError for a flag of another type than std_msgs/msg/Bool.
    """

    def __init__(self, bag: Bag, command_topic: str) -> None:
        self.notes: list[str] = []
        flags = [topic for topic in bag.topics if topic.endswith(f"/{INTERVENTION_TOPIC}")]
        self._topic = max(flags, key=lambda topic: len(commonpath([topic, command_topic])), default="")
        self._stamps, self._raised = np.zeros(0, np.int64), np.zeros(0, bool)
        if not self._topic:
            return
        if bag.topics[self._topic].type != BOOL:
            raise BagError(f"topic '{self._topic}' has type {bag.topics[self._topic].type}; expected {BOOL}")
        told = []
        for topic, received, raw in bag.messages({self._topic}):
            try:
                told.append((received, bool(bag.deserialize(raw, topic).data)))
            except BagError as error:
                self.notes.append(f"{error}; this mark of an intervention is passed over")
        if told:
            order = sorted(told)
            self._stamps = np.array([stamp for stamp, _ in order], np.int64)
            self._raised = np.array([raised for _, raised in order])

    def spans(self, times: np.ndarray) -> list[list[int]]:
        """[first, one after the last] index of each run of `times` (T,) [ns] in which the flag was raised.

        Before its first message the flag is down.
        """
        newest = np.searchsorted(self._stamps, times, side="right") - 1
        raised = np.zeros(len(times) + 2, bool)
        raised[1:-1] = (newest >= 0) & self._raised[np.maximum(newest, 0)] if self._stamps.size else False
        edges = np.flatnonzero(raised[1:] != raised[:-1])
        return edges.reshape(-1, 2).tolist()
