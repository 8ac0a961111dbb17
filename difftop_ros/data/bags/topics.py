"""What is recorded under a topic's name, and the sentence for a topic that is not what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

INTERVENTION_TOPIC = "difftop/intervention"  # std_msgs/msg/Bool in the robot's namespace: a person has taken over


@dataclass(frozen=True)
class TopicInfo:
    """One recorded topic: its ROS type and how many messages it has."""

    type: str
    count: int


def topic_finding(topic: str, kind: str, present: Mapping[str, str]) -> str:
    """'' when `topic` is `present` with type `kind`, else a sentence saying what there is instead."""
    if topic not in present:
        near = difflib.get_close_matches(topic, present, n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        alike = sorted(t for t, other in present.items() if other == kind)
        there = f"of type {kind} there are {_few(alike)}" if alike else f"there are {_few(sorted(present))}"
        return f"topic '{topic}' is missing; {there}{hint}"
    if present[topic] != kind:
        return f"topic '{topic}' has type {present[topic]}, the contract expects {kind}: correct the contract"
    return ""


def _few(names: list[str], limit: int = 8) -> str:
    return str(names) if len(names) <= limit else f"{names[:limit]} and {len(names) - limit} more"
