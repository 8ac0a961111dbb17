"""Whether the streams allow the policy node to become active, and what is missing if not."""

from __future__ import annotations

from typing import Any

from difftop_ros.runtime.clock import SimTime, SystemTime
from difftop_ros.runtime.streams import StreamBuffers


def not_ready(node: Any, streams: StreamBuffers, source: SystemTime | SimTime) -> str:
    """Why activation must wait, '' if it need not: clock, publishers, their types, first messages."""
    if isinstance(source, SimTime) and not source.started:
        return "use_sim_time is set, but nothing was received on '/clock'; start the simulation or unset it"
    missing = streams.missing()
    if not missing:
        return ""
    known = dict(node.get_topic_names_and_types())
    sentences = [_sentence(node, topic, streams.topics[topic], known.get(topic, [])) for topic in missing]
    return "; ".join(sentences) + "; start the publisher or correct the contract's topic"


def _sentence(node: Any, topic: str, expected: str, found: list[str]) -> str:
    others = [kind for kind in found if kind != expected]
    if others:
        return f"topic '{topic}' carries {', '.join(others)}, the contract expects {expected}"
    if node.count_publishers(topic) == 0:
        return f"nothing publishes '{topic}' ({expected})"
    return f"'{topic}' is announced, but no message was received"
