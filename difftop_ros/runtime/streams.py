"""Newest messages, kept as they came: raw bytes by topic, and which of them make an observation at a given time.

Subscription callbacks only store here; nothing is decoded before a planner or the control loop needs it. Turning
messages into frames is messages.ObservationPipeline's job, in worker.py. No rclpy here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.messages import StaleObservation
from difftop_ros.messages.types import header_stamp

MAX_KEPT = 64
Deserialize = Callable[[bytes, str], Any]


@dataclass(frozen=True, eq=False)
class RawMessage:
    """One message as received: time by the contract's clock [ns], serialized bytes, a number no other message has."""

    stamp_ns: int
    raw: bytes
    kind: str
    number: int


@dataclass(frozen=True)
class Request:
    """What a worker needs for one observation window: for each time [ns], oldest first, topic -> message."""

    times_ns: tuple[int, ...]
    picks: tuple[dict[str, RawMessage], ...]


class StreamBuffers:
    """The newest messages of each topic, spanning what an observation history of `span_s` seconds needs."""

    def __init__(self, topics: dict[str, str], unstamped: Collection[str], span_s: float) -> None:
        """topics: topic -> type; unstamped: those whose messages count from when they come (Contract.unstamped)."""
        self.topics, self._unstamped, self._span_ns = topics, frozenset(unstamped), round(span_s * 1e9)
        self._lock = threading.Lock()
        self._kept: dict[str, deque[RawMessage]] = {topic: deque(maxlen=MAX_KEPT) for topic in topics}
        self._number = 0
        self.listener: Callable[[int], None] | None = None

    def push(self, topic: str, raw: bytes, receive_ns: int) -> None:
        """Store one message; called from subscription callbacks. Then `listener`, if set, is told `receive_ns`."""
        stamp = receive_ns if topic in self._unstamped else header_stamp(raw)
        with self._lock:
            self._number += 1
            kept = self._kept[topic]
            kept.append(RawMessage(stamp, raw, self.topics[topic], self._number))
            # The newest message at or before the start of the history must stay: it is what counts there.
            while len(kept) > 1 and kept[1].stamp_ns <= stamp - self._span_ns:
                kept.popleft()
        if self.listener is not None:
            self.listener(receive_ns)

    def clear(self) -> None:
        """Forget all messages (time went back, or the node was cleaned up)."""
        with self._lock:
            for kept in self._kept.values():
                kept.clear()

    def newest(self, topic: str) -> RawMessage | None:
        """The newest message of `topic`, or None."""
        kept = self._kept[topic]
        try:
            return kept[-1]
        except IndexError:
            return None

    def since(self, topic: str, number: int) -> list[RawMessage]:
        """What came on `topic` after the message `number`, in order of arrival."""
        with self._lock:
            return [message for message in self._kept[topic] if message.number > number]

    def numbers(self) -> dict[str, int]:
        """Topic -> number of its newest message, 0 if none: to tell later whether there is a newer one."""
        return {topic: kept[-1].number if kept else 0 for topic, kept in self._kept.items()}

    def missing(self) -> list[str]:
        """Topics that have delivered nothing yet."""
        return [topic for topic, kept in self._kept.items() if not kept]

    def refuse_stale(self, contract: Contract, now_ns: int) -> None:
        """Raises StaleObservation when a stream's newest message is older than its max_age_ms at `now_ns`.

        The pipeline judges ages at the observation's own time, which may lie a little back (`synchronised_ns`); what a
        robot may act on is decided by the age now. Streams with resample 'hold' are never stale.
        """
        for key, obs in contract.observations.items():
            newest = self.newest(obs.topic)
            age_ms = (now_ns - newest.stamp_ns) / 1e6 if newest is not None else 0.0
            if obs.resample == "as_of" and age_ms > obs.max_age_ms:
                raise StaleObservation(
                    f"observation '{key}' is stale: the newest message on '{obs.topic}' is {age_ms:.0f} ms old, "
                    f"max_age_ms is {obs.max_age_ms:g}: check the publisher's rate and clock",
                    obs.topic,
                )

    def synchronised_ns(self, now_ns: int, most_ns: int) -> int:
        """The newest time [ns] for which every topic has delivered, but at most `most_ns` before `now_ns`.

        Observed at that time, a picture goes with the joint positions of its own moment, as in training; observed now,
        it would be older than they are by its way through camera and network.
        """
        with self._lock:
            newest = [kept[-1].stamp_ns for kept in self._kept.values() if kept]
        return max(min([now_ns, *newest]), now_ns - most_ns)

    def request(self, now_ns: int, steps: int, step_s: float) -> Request:
        """The window of `steps` observations ending at `now_ns`, `step_s` apart: newest message at or before each."""
        times = tuple(now_ns - round((steps - 1 - i) * step_s * 1e9) for i in range(steps))
        with self._lock:
            return Request(times, tuple(self._pick(time_ns) for time_ns in times))

    def _pick(self, time_ns: int) -> dict[str, RawMessage]:
        chosen = {}
        for topic, kept in self._kept.items():
            before = [m for m in kept if m.stamp_ns <= time_ns]
            if kept:
                # All later: the first one, whose age the pipeline then judges (a clock that differs, or no history).
                chosen[topic] = before[-1] if before else kept[0]
        return chosen


class Renewed:
    """Called, it tells whether every topic has delivered something since this was made."""

    def __init__(self, buffers: StreamBuffers) -> None:
        self._buffers, self._before = buffers, buffers.numbers()

    def __call__(self) -> bool:
        """True when nothing that was stored before need be used."""
        return all(number > self._before[topic] for topic, number in self._buffers.numbers().items())
