"""Rates, gaps and ages of message streams, from stamps alone. What is too slow or too old is check.py's to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from difftop_ros.data.bags.reader import Bag
from difftop_ros.data.errors import BagError
from difftop_ros.messages.types import HEADER_BYTES, header_stamp

OTHER_CLOCK_MS = 60_000.0  # between a header stamp and the reception: two clocks, not a way


@dataclass
class Timing:
    """Times of one topic's messages [ns], in the order received; `stamps` are header stamps, empty without a header."""

    received: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Messages."""
        return len(self.received)

    @property
    def rate_hz(self) -> float:
        """Mean rate over the span of the messages, 0 for fewer than two."""
        times = self._times()
        span = int(times.max() - times.min()) if times.size > 1 else 0
        return (times.size - 1) / (span / 1e9) if span else 0.0

    def largest_gap(self) -> tuple[float, float]:
        """(longest time without a message [ms], when it began [s] after the first message)."""
        times = np.sort(self._times())
        if times.size < 2:
            return 0.0, 0.0
        gaps = np.diff(times)
        at = int(gaps.argmax())
        return gaps[at] / 1e6, (times[at] - times[0]) / 1e9

    def jitter_ms(self) -> float:
        """Standard deviation of the time between messages [ms]."""
        times = np.sort(self._times())
        return float(np.diff(times).std() / 1e6) if times.size > 2 else 0.0

    def ages_ms(self) -> np.ndarray:
        """Time from header stamp to reception [ms], float64 (n,); empty without headers."""
        return (np.array(self.received[: len(self.stamps)]) - np.array(self.stamps)) / 1e6

    def age_text(self) -> str:
        """Median and largest age [ms], 'other clock' where they cannot be ages, '-' without headers."""
        ages = self.ages_ms()
        if not ages.size:
            return "-"
        return "other clock" if self.other_clock() else f"{np.median(ages):.1f} / {ages.max():.1f}"

    def other_clock(self) -> bool:
        """Whether stamps are further from reception than any way is long: simulated time, or sent once long before."""
        ages = self.ages_ms()
        return bool(ages.size) and abs(float(np.median(ages))) > OTHER_CLOCK_MS

    def _times(self) -> np.ndarray:
        return np.array(self.stamps or self.received, np.int64)


def bag_timings(bag: Bag) -> dict[str, Timing]:
    """Timing of every topic of an open bag; one pass, one message in memory at a time."""
    found: dict[str, Timing] = {topic: Timing() for topic in bag.topics}
    stamped: dict[str, bool] = {}
    for topic, received, raw in bag.messages():
        if topic not in stamped:
            stamped[topic] = not bag.lacks_header(topic) and _has_header(bag, raw, topic)
        # Ages are paired with receptions, so a message too short for a stamp is left out of both.
        if stamped[topic] and len(raw) < HEADER_BYTES:
            continue
        found[topic].received.append(received)
        if stamped[topic]:
            found[topic].stamps.append(header_stamp(raw))
    return found


def _has_header(bag: Bag, raw: bytes, topic: str) -> bool:
    """Whether a message begins with a header; not, if its type cannot be read, which matters to nobody but its user."""
    try:
        return hasattr(bag.deserialize(raw, topic), "header")
    except BagError:
        return False


TIMING_NOTE = (
    "age: from header stamp to reception, median / largest, or 'other clock' where the recorder's is not theirs; "
    "gap: longest time without a message"
)


def timing_rows(kinds: dict[str, str], timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """For a table: a row for each topic. See TIMING_NOTE."""
    rows = []
    for topic in sorted(kinds):
        timing = timings.get(topic, Timing())
        gap, at = timing.largest_gap()
        rows.append(
            {
                "topic": topic,
                "count": timing.count,
                "Hz": timing.rate_hz,
                "gap ms": gap,
                "at s": at,
                "jitter": timing.jitter_ms(),
                "age ms": timing.age_text(),
                "type": kinds[topic],
            }
        )
    return rows
