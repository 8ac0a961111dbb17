"""One task of a running policy: from when, for how long, how it ended, what is told of it meanwhile. No ROS here."""

from __future__ import annotations

from dataclasses import dataclass

from difftop_ros.plan_result import PlanResult
from difftop_ros.runtime.run import Run

SUCCESS, CANCELED, TIMEOUT, STOPPED = "SUCCESS", "CANCELED", "TIMEOUT", "STOPPED"


@dataclass(frozen=True)
class Ending:
    """How a task ended: one of the outcomes above, and a sentence."""

    outcome: str
    reason: str


@dataclass(frozen=True)
class Progress:
    """What is told while it runs; seconds and remaining [s] by the robot's clock, `result` the newest plan's."""

    holding: bool
    hold_reason: str
    seconds: float
    remaining: float
    result: PlanResult | None


class Task:
    """Begins at `now_ns` and lets `run` move; `end` makes it hold again. Times [ns] are of the robot's clock."""

    def __init__(self, run: Run, now_ns: int, longest_s: float, words: str = "") -> None:
        self._run, self._begun_ns, self._longest_s = run, now_ns, longest_s
        self.words = words
        self._plans, self._holds = run.planner.accepted, run.supervisor.begun
        run.go()

    def seconds(self, now_ns: int) -> float:
        """Since its beginning [s]."""
        return (now_ns - self._begun_ns) / 1e9

    def due(self, now_ns: int, success_ns: int | None) -> Ending | None:
        """How it is to end now, None while it goes on. success_ns: when success was last told, None for never."""
        if success_ns is not None and success_ns >= self._begun_ns:
            return Ending(SUCCESS, f"success was told after {self.seconds(success_ns):.1f} s")
        if self.seconds(now_ns) >= self._longest_s:
            return Ending(TIMEOUT, f"the longest duration of {self._longest_s:g} s is over")
        return None

    def progress(self, now_ns: int) -> Progress:
        """What is to be told now."""
        supervisor, seconds = self._run.supervisor, self.seconds(now_ns)
        return Progress(
            supervisor.holding, supervisor.reason, seconds, max(self._longest_s - seconds, 0.0), self._run.result
        )

    def end(self, why: str) -> tuple[int, int]:
        """Let the robot hold until the next task; plans accepted and holds begun while this one went on."""
        self._run.hold(f"{why}; waiting for the next task")
        return self._run.planner.accepted - self._plans, self._run.supervisor.begun - self._holds
