"""Whether a topic has the one publisher it must have; joints of one topic may have one driver each. No rclpy here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from difftop_ros.contract import Contract

STEPS_BACK, WITHIN_S = 2, 5.0  # steps back within this time that no restart explains


class JointPublishers:
    """Notices when two publishers send the same joint on one topic, by the numbers DDS gives each publisher's messages.

    One publisher's numbers only rise. Two for the same joint, whatever they say, make them go back again and again; one
    that is restarted does so once. Drivers of different joints do not disturb each other.
    """

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], int] = {}
        self._back: dict[str, deque[tuple[float, str]]] = {}

    def note(self, topic: str, joints: Iterable[str], number: int | None, now_s: float) -> None:
        """A message with `joints` came at `now_s` [s], any steady clock; `number`: its publisher's, None if unknown."""
        if number is None:
            return
        went_back = ""
        for joint in dict.fromkeys(joints):
            if number <= self._newest.get((topic, joint), -1):
                went_back = joint
            self._newest[topic, joint] = number
        if went_back:
            self._back.setdefault(topic, deque(maxlen=STEPS_BACK)).append((now_s, went_back))

    def finding(self, now_s: float) -> str:
        """Which joint has two publishers, '' if none has."""
        for topic, back in self._back.items():
            if len(back) == STEPS_BACK and now_s - back[0][0] < WITHIN_S:
                return f"two publishers send joint '{back[-1][1]}' on '{topic}'; only one may: end the other"
        return ""


def crowded(
    contract: Contract, topics: Mapping[str, str], count: Callable[[str], int], own_commands: int | None
) -> str:
    """Which topic has a publisher too many, '' if none; `count` tells how many publish a topic.

    topics: those of the observations with their types;  own_commands: publishers of the command that are our own, None
    while others may command too. Joint states are left out: see JointPublishers.
    """
    command = contract.command.topic
    if own_commands is not None and count(command) > own_commands:
        return f"others publish '{command}' too; only one may command the robot: end or deactivate the other"
    for topic, kind in topics.items():
        if kind != "sensor_msgs/msg/JointState" and count(topic) > 1:
            return f"{count(topic)} publishers send '{topic}'; only one may: end the others"
    return ""
