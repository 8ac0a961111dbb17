"""Which streams of a recording have stopped or slowed down: while it goes on, and for its mark. No ROS, no clock here.

Two drivers may publish in turn on one topic: what counts for an observation of joints are the messages that name them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, JointStateObs
from difftop_ros.messages.joints import names_of

STILL_S = 0.5  # of silence at least, before a stream is said to have stopped: a busy machine delays
STEPS = 5.0  # usual periods of silence, for a slow stream
STANDS_S = 5.0  # of wall time without any message, for streams whose time stands still with the simulation
SLOW = 0.6  # of its usual rate is slow
SPAN_S = 1.0  # over which a rate is told
FEWEST = 4  # messages in that, for a rate to be judged
SECONDS = 60  # of counts from which the usual rate is taken


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a stream: its name as in `StreamWatch.rates`, 'stopped' or 'slow', and a sentence."""

    stream: str
    kind: str
    text: str


@dataclass
class _Stream:
    """What is known of one stream. Times are seconds of the recording's clock but `wall_s`, which is steady."""

    topic: str
    joints: frozenset[str]  # that a message must name to count; empty: any message
    silent_s: float
    recent: deque[float] = field(default_factory=deque)
    counts: deque[int] = field(
        default_factory=lambda: deque(maxlen=SECONDS)
    )  # by whole second, the last one unfinished
    second: int = 0
    count: int = 0  # in this episode
    last_s: float | None = None
    wall_s: float = 0.0
    gap_s: float = 0.0  # the longest in this episode
    slowest_hz: float = float("inf")  # in this episode, while it was slow

    def note(self, now_s: float, wall_s: float) -> None:
        if self.last_s is not None and now_s < self.last_s:  # the clock began anew
            self.recent.clear()
            self.last_s = None
        if self.last_s is not None:
            self.gap_s = max(self.gap_s, now_s - self.last_s)
        if not self.counts or int(now_s) != self.second:
            self.counts.append(0)
            self.second = int(now_s)
        self.counts[-1] += 1
        self.recent.append(now_s)
        self.count, self.last_s, self.wall_s = self.count + 1, now_s, wall_s

    def rate_hz(self, now_s: float) -> float:
        while self.recent and now_s - self.recent[0] > SPAN_S:
            self.recent.popleft()
        return len(self.recent) / SPAN_S

    def usual_hz(self) -> float:
        """Of the seconds that are over, the slower ones left aside; 0 while there are too few."""
        over = list(self.counts)[1:-1]  # the first one began in its middle
        return float(np.percentile(over, 75)) if len(over) > 1 else 0.0

    def patience_s(self) -> float:
        usual = self.usual_hz()
        return max(self.silent_s, STILL_S, STEPS / usual if usual else 0.0)


class StreamWatch:
    """Follows the streams that an episode must have, by observation; `note` each message, `begin` with an episode."""

    def __init__(self, contract: Contract) -> None:
        self._streams: dict[str, _Stream] = {}
        self._by_topic: dict[str, list[_Stream]] = {}
        for key, obs in contract.observations.items():
            if obs.resample != "as_of":
                continue  # it may be sent once
            joints = frozenset(obs.sent_names) if isinstance(obs, JointStateObs) else frozenset[str]()
            for topic in obs.streams:
                shared = topic in self._by_topic
                name = f"'{topic}' ({key})" if shared else f"'{topic}'"
                stream = _Stream(topic, joints, obs.max_age_ms / 1e3)
                self._streams[name] = stream
                self._by_topic.setdefault(topic, []).append(stream)
        self._begun_s: float | None = None
        self._begun_wall_s = 0.0

    def note(self, topic: str, raw: bytes, now_s: float, wall_s: float) -> None:
        """A message came; `now_s` [s] by the recording's clock, `wall_s` [s] by a steady one."""
        streams = self._by_topic.get(topic, [])
        named = names_of(raw) if any(stream.joints for stream in streams) else frozenset()
        for stream in streams:
            if stream.joints <= named:
                stream.note(now_s, wall_s)

    def begin(self, now_s: float, wall_s: float) -> None:
        """An episode begins."""
        self._begun_s, self._begun_wall_s = now_s, wall_s
        for stream in self._streams.values():
            stream.count, stream.gap_s, stream.slowest_hz = 0, 0.0, float("inf")
            if stream.last_s is not None and stream.last_s > now_s:
                stream.last_s = None

    def rates(self, now_s: float) -> dict[str, float]:
        """Messages in the last second [Hz], by topic, with the observation where several share one."""
        return {name: stream.rate_hz(now_s) for name, stream in self._streams.items()}

    def stopped(self, now_s: float, wall_s: float) -> dict[str, float]:
        """Streams that are silent for longer than can be, with the seconds since their last message.

        Before an episode, one that never sent anything is not among them: who looks at the graph tells that it lacks.
        """
        found = {}
        for name, stream in self._streams.items():
            last = stream.last_s if stream.last_s is not None else self._begun_s
            if last is None:
                continue
            since_wall = max(stream.wall_s, self._begun_wall_s)
            for passed, most in ((now_s - last, stream.patience_s()), (wall_s - since_wall, STANDS_S)):
                if passed > max(most, stream.patience_s()) and name not in found:
                    found[name] = round(passed, 2)
        return found

    def troubles(self, now_s: float, wall_s: float) -> list[Trouble]:
        """What is wrong now, at most one for each stream; slowness is kept for the mark."""
        stopped = self.stopped(now_s, wall_s)
        found = [Trouble(name, "stopped", f"{name} sent nothing for {s:.1f} s") for name, s in stopped.items()]
        for name, stream in self._streams.items():
            usual, rate = stream.usual_hz(), stream.rate_hz(now_s)
            settled = self._begun_s is None or now_s - self._begun_s > SPAN_S
            goes_on = stream.last_s is not None and (now_s - stream.last_s) * rate < 2  # else it may have stopped
            if name not in stopped and usual * SPAN_S >= FEWEST and rate < SLOW * usual and settled and goes_on:
                stream.slowest_hz = min(stream.slowest_hz, rate)
                text = f"{name} has slowed down to {rate:.0f} Hz; it had {usual:.0f} Hz"
                found.append(Trouble(name, "slow", text))
        return found

    def account(self, now_s: float, wall_s: float) -> dict[str, Any]:
        """For the mark of the episode that ends now: 'streams' as they were, and which had 'stopped' when [s before].

        Both name streams as `rates` does, without the quotes.
        """
        begun = self._begun_s if self._begun_s is not None else now_s
        passed = max(now_s - begun, 1e-9)
        streams: dict[str, Mapping[str, float]] = {}
        for name, stream in self._streams.items():
            last = stream.last_s if stream.count and stream.last_s is not None else begun
            told = {"count": stream.count, "rate_hz": round(stream.count / passed, 2),
                    "longest_gap_s": round(max(stream.gap_s, now_s - last), 3)}  # fmt: skip
            if np.isfinite(stream.slowest_hz):
                told["slowest_hz"] = stream.slowest_hz
            streams[name.replace("'", "")] = told
        stopped = {name.replace("'", ""): s for name, s in self.stopped(now_s, wall_s).items()}
        return {"streams": streams, "stopped": stopped}


def stopped_before(stopped: Any) -> str:
    """What a mark's 'stopped' says, as a clause; '' where it says nothing, as in the marks of other recorders."""
    named = stopped if isinstance(stopped, Mapping) else {}
    found = {name: seconds for name, seconds in named.items() if isinstance(seconds, int | float)}
    return ", ".join(f"'{name}' sent nothing in the last {seconds:.1f} s" for name, seconds in found.items())
