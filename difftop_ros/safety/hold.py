"""When the robot holds and when it may move again. Computing the holding command is shaper.py's job."""

from __future__ import annotations

import threading
from collections import deque

PRESENT_S = 0.5  # for which a reason that is not given again stands before another
TASK, PERSON = "task", "intervention"  # who may ask for a hold: there is no task; a person moves the robot


class HoldSupervisor:
    """Follow or hold; what keeps it holding is told, and frequent holds exhaust the node's patience.

    A reason stands as long as it is given again and again; when it is not, another that is takes its place. Apart from
    such faults somebody may ask for a hold, which is no failure and lasts from `wait` to `go`; what is wrong while a
    PERSON has the robot is no failure either. Used from the planner, control and executor threads. Times are seconds of
    any monotonic clock.
    """

    def __init__(self, resume_after: int, max_failures: int, window_s: float) -> None:
        self._resume_after, self._max_failures, self._window_s = resume_after, max_failures, window_s
        self._lock = threading.Lock()
        self._reason = self._kind = self._began_by = ""
        self._renewed = self._since = 0.0
        self._good = 0
        self._entries: deque[float] = deque()
        self._exhausted = ""
        self._awaited: dict[str, str] = {}  # who asked for a hold -> why
        self.begun = 0

    def wait(self, reason: str, now: float, who: str = TASK) -> None:
        """Hold until `go` of the same who, whatever plans come, because of `reason`."""
        with self._lock:
            self._since = self._since if self.holding else now
            self._awaited = {**self._awaited, who: reason}

    def go(self, now: float, who: str = TASK) -> None:
        """What was waited for is there: fresh, accepted plans end the hold, as they end any."""
        with self._lock:
            left = {other: reason for other, reason in self._awaited.items() if other != who}
            if self._awaited and not left and not self._reason:
                self._reason, self._kind, self._began_by = "the next plans are awaited", who, who
                self._renewed, self._good = now, 0
            self._awaited = left

    def trip(self, reason: str, now: float, kind: str = "") -> bool:
        """Begin to hold for `reason`; True if this call began it, else only the count of good plans restarts."""
        with self._lock:
            self._good = 0
            if self._reason:
                if kind == self._kind or now - self._renewed > PRESENT_S:
                    self._reason, self._kind, self._renewed = reason, kind, now
                return False
            self._reason, self._kind, self._renewed = reason, kind, now
            self._began_by, self._since = kind, self._since if self._awaited else now
            self.begun += 1
            if PERSON in self._awaited:
                return True
            self._entries.append(now)
            while self._entries and self._entries[0] < now - self._window_s:
                self._entries.popleft()
            if len(self._entries) >= self._max_failures and not self._exhausted:
                self._exhausted = (
                    f"held {len(self._entries)} times within {self._window_s:g} s, the last time because {reason}"
                )
            return True

    def good_plan(self) -> bool:
        """Count one fresh, accepted plan; True if it ended the hold."""
        with self._lock:
            if not self._reason or self._exhausted:
                return False
            self._good += 1
            if self._good < self._resume_after:
                return False
            self._reason = self._kind = self._began_by = ""
            self._good = 0
            return True

    @property
    def holding(self) -> bool:
        """True while the robot must hold."""
        return bool(self._reason or self._awaited)

    @property
    def waits(self) -> bool:
        """True while it holds for nothing but that somebody asked for it."""
        return bool(self._awaited) and not self._reason

    @property
    def reason(self) -> str:
        """Why the robot holds now, '' while it follows its plan."""
        awaited = self._awaited
        return awaited.get(PERSON, "") or self._reason or next(iter(awaited.values()), "")

    @property
    def kind(self) -> str:
        """Of which kind `reason` is ('tracking', 'plan age', …), '' while following."""
        awaited = self._awaited
        return PERSON if PERSON in awaited else self._kind or next(iter(awaited), "")

    @property
    def began_by(self) -> str:
        """Of which kind the reason was that began the hold, '' while following."""
        return self._began_by

    def held_s(self, now: float) -> float:
        """For how long it has been holding [s], 0 while following."""
        return now - self._since if self.holding else 0.0

    @property
    def exhausted(self) -> str:
        """Why the node must deactivate, '' while it need not."""
        return self._exhausted
