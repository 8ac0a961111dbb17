"""Time for the control loop: which time it is, and waiting for the next tick at an absolute deadline. No ROS here.

The loop is paced in the time the robot lives in. On a robot that is the system clock. With use_sim_time it is
simulated time, estimated between /clock messages from the measured real-time factor, so that a simulation at half
speed is commanded at the contract's rate in its own seconds, and a paused one not at all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from difftop_ros.runtime.clock_watch import ClockWatch

JUMP_NS = 500_000_000
SLICE_S = 0.02
PROMPT_S = 0.25


class TimeSource(Protocol):
    """Where `now` comes from; `rate` is how fast it runs against the wall clock."""

    rate: float

    def now_ns(self) -> int:
        """The time now [ns]."""
        ...


class SystemTime:
    """The machine's clock, which messages of a real robot are stamped with."""

    rate = 1.0

    def now_ns(self) -> int:
        """The time now [ns]."""
        return time.time_ns()


class SimTime:
    """Simulated time from /clock: `update` is called for each message, `now_ns` extrapolates, never backwards.

    The real-time factor is measured over the last second; the offset is that of the promptest message of the last
    quarter second, since the others were only delayed on their way. Extrapolation ends 50 ms of simulated time after
    the last message: a simulation that stands still does not age its messages. A clock that jumps back (a reset) or
    ahead by more than half a second is followed at once. What is odd about it, `odd` tells.
    """

    AHEAD_NS = 50_000_000

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = 1.0
        self._watch = ClockWatch()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()
        self._told = 0

    def update(self, sim_ns: int) -> None:
        """Take in one /clock message."""
        wall = self._monotonic()
        with self._lock:
            self._watch.see(wall, sim_ns)
            if self._samples and not -JUMP_NS / 10 <= sim_ns - self._samples[-1][1] <= JUMP_NS:
                self._samples.clear()
                self._told = 0
            self._samples.append((wall, sim_ns))
            while wall - self._samples[0][0] > 1.0 and len(self._samples) > 2:
                self._samples.popleft()
            first = self._samples[0]
            if wall - first[0] > 0.1:
                self.rate = min(max((sim_ns - first[1]) / 1e9 / (wall - first[0]), 0.02), 20.0)

    @property
    def started(self) -> bool:
        """True once a /clock message has come."""
        return bool(self._samples)

    def odd(self) -> str:
        """That it stands, jumped lately or jitters, '' if it does not."""
        with self._lock:
            return self._watch.finding(self._monotonic())

    def figures(self) -> dict[str, float | int]:
        """Of it, by name, for reports."""
        with self._lock:
            jitter, jumps = self._watch.jitter_ms(), self._watch.jumps
        return {"real_time_factor": self.rate, "clock_jumps": jumps, "clock_jitter_ms": jitter}

    def now_ns(self) -> int:
        """Estimated simulated time [ns]; 0 before the first /clock message."""
        wall = self._monotonic()
        with self._lock:
            if not self._samples:
                return 0
            newest_wall, newest_sim = self._samples[-1]
            rate = self.rate * 1e9
            best = newest_sim + (wall - newest_wall) * rate
            for then, sim in reversed(self._samples):
                if newest_wall - then > PROMPT_S:
                    break
                best = max(best, sim + (wall - then) * rate)
            self._told = max(self._told, newest_sim, min(round(best), newest_sim + self.AHEAD_NS))
            return self._told


@dataclass(frozen=True)
class Tick:
    """One control tick: when it was due [ns], how late it began [s of wall time], ticks lost just before it."""

    due_ns: int
    late_s: float
    lost: int
    jumped: bool = False


class Pacer:
    """Deadlines on the grid start + k * period. One missed by a whole period is a lost tick.

    Each deadline is fixed in wall time when the tick before it ends, so `late_s` is how late the thread woke, not how
    uncertain simulated time is: when its estimate shifts, the next ticks come a little sooner or later (between a half
    and two periods apart) until they are on the grid again.
    """

    def __init__(
        self,
        source: TimeSource,
        period_s: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source, self._period_ns = source, round(period_s * 1e9)
        self._monotonic, self._sleep = monotonic, sleep
        self._next_ns = 0
        self._deadline = 0.0
        self._seen = (0.0, 0)

    def start(self) -> None:
        """Begin the grid one period from now."""
        self._deadline, now = self._monotonic(), self._source.now_ns()
        self._seen = (self._deadline, now)
        self._next_ns = now + self._period_ns

    def wait(self, stopped: Callable[[], bool]) -> Tick | None:
        """Sleep until the next tick is due; None when `stopped()` becomes true first."""
        jumped = self._look()
        period_s = self._period_ns / 1e9 / self._source.rate
        wall, now = self._seen
        apart = wall + (self._next_ns - now) / 1e9 / self._source.rate - self._deadline
        self._deadline += period_s if jumped else min(max(apart, 0.5 * period_s), 2.0 * period_s)
        while True:
            if not self._sleep_until(self._deadline, stopped):
                return None
            late = self._monotonic() - self._deadline
            jumped = self._look() or jumped
            early_ns = self._next_ns - self._seen[1]
            if early_ns <= self._period_ns // 2:
                break
            # Simulated time has slowed down or stands still: this tick is not due yet.
            self._deadline = self._monotonic() + min(early_ns / 1e9 / self._source.rate, SLICE_S)
        lost = max(int(late / period_s), 0)
        due = self._next_ns + lost * self._period_ns
        self._next_ns = due + self._period_ns
        self._deadline += lost * period_s
        return Tick(due, max(late - lost * period_s, 0.0), lost, jumped)

    def _sleep_until(self, deadline: float, stopped: Callable[[], bool]) -> bool:
        while (remaining := deadline - self._monotonic()) > 0:
            if stopped():
                return False
            self._sleep(min(remaining, SLICE_S))
        return not stopped()

    def _look(self) -> bool:
        """Look at the clock; True, and the grid begun anew, when it went back, or ahead beyond the time passed."""
        seen_wall, seen_now = self._seen
        wall, now = self._monotonic(), self._source.now_ns()
        self._seen = (wall, now)
        expected = seen_now + (wall - seen_wall) * max(self._source.rate, 1.0) * 1e9
        jumped = now < seen_now - JUMP_NS // 10 or now - expected > JUMP_NS
        if jumped:
            self._next_ns = now
        return jumped
