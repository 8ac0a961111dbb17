"""The planner loop: newest observation, solve, timed plan; on a thread of its own. No ROS and no torch here.

Observing and solving are one callable, `work`, so that they may run in this process or in another. A plan that is not
finite, misshapen or out of bounds is refused with a sentence and the robot holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from difftop_ros.errors import UserError
from difftop_ros.runtime.clock import TimeSource
from difftop_ros.runtime.plan import PlanBuffer, TimedPlan, plan_fault
from difftop_ros.safety import HoldSupervisor, MotionLimits

REFUSED_STATUS = "NONFINITE"


class PlannerLost(UserError):
    """The planner cannot go on at all (its process is gone): the node deactivates instead of holding for ever."""


@dataclass(frozen=True)
class Solution:
    """What `work` returns: the policy's output, the time of its observation, and how long each part took.

    actions float64 (H, A);  stamp_ns  the observation's time [ns];  age_ms  age of its oldest stream [ms]
    """

    actions: np.ndarray
    stamp_ns: int
    age_ms: float
    status: str
    message: str = ""
    iterations: int = 0
    initial_cost: float = float("nan")
    final_cost: float = float("nan")
    gradient_norm: float = float("nan")
    observe_ms: float = 0.0
    encode_ms: float = 0.0
    solve_ms: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """One round of the planner: the plan if it was accepted, the solution if there was one, else why not."""

    sequence: int
    stamp_ns: int
    plan: TimedPlan | None
    solution: Solution | None
    reason: str
    total_ms: float


Work = Callable[[Callable[[int], np.ndarray | None]], Solution]


class PlannerLoop:
    """Plans at most once per `period_s`, as soon as new sensor data make `fresh` set (see `offer`).

    It begins when streams_ready() is true, at the latest after `grace_s` seconds.

    work(warm_start) observes and solves; warm_start(time_ns) -> (H, A) or None is the plan in force, shifted to the new
    observation's time. It raises a UserError (stale or undecodable observation, refused by the policy).
    """

    def __init__(
        self,
        *,
        work: Work,
        plans: PlanBuffer,
        supervisor: HoldSupervisor,
        limits: MotionLimits,
        source: TimeSource,
        step_s: float,
        period_s: float,
        horizon: int,
        on_attempt: Callable[[Attempt], None],
        streams_ready: Callable[[], bool] = lambda: True,
        grace_s: float = 1.0,
    ) -> None:
        self._work, self._plans, self._supervisor = work, plans, supervisor
        self._limits, self._source = limits, source
        self._step_s, self._period_ns, self._horizon = step_s, round(period_s * 1e9), horizon
        self._on_attempt = on_attempt
        self._streams_ready, self._grace_s = streams_ready, grace_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._offered_ns = 0
        self.fresh = threading.Event()
        self.failure = ""
        self.sequence = 0
        self.accepted = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="difftop-planner", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """End the thread; False if it is still in a solve after `timeout_s` [s]. Its plan will then be ignored."""
        self._stopping.set()
        self.fresh.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def offer(self, time_ns: int) -> None:
        """Tells that an observation can be made for `time_ns` [ns]; `fresh` is set if that is later than before.

        So a plan begins when the slowest stream's message arrives, and not some time after it.
        """
        went_back = time_ns < self._offered_ns - 10 * self._period_ns
        if went_back or time_ns > self._offered_ns:
            self._offered_ns = time_ns
            self.fresh.set()

    def _run(self) -> None:
        try:
            next_ns = 0
            early_ns = self._period_ns // 5  # a message may be a little early; the grid, and so the rate, stays
            self._wait_for_streams()
            while not self._stopping.is_set():
                self._wait_until(next_ns - early_ns)
                # Without new data the wait ends by itself, so that streams that died are noticed.
                self.fresh.wait(timeout=max(self._period_ns / 1e9, 0.02))
                self.fresh.clear()
                if self._stopping.is_set():
                    return
                now = self._source.now_ns()
                on_grid = -early_ns <= now - next_ns < self._period_ns
                next_ns = (next_ns if on_grid else now) + self._period_ns
                self.plan_once()
        except Exception as error:  # the thread's last word: the node reads it and deactivates
            what = str(error) if isinstance(error, PlannerLost) else f"{type(error).__name__}: {error}"
            self.failure = f"the planner stopped: {what}"
            self._supervisor.trip(self.failure, time.monotonic(), "planner")

    def _wait_for_streams(self) -> None:
        """Activation kept the callbacks waiting, so what is stored has aged: wait for new messages, not for long."""
        end = time.monotonic() + self._grace_s
        while not self._stopping.is_set() and not self._streams_ready() and time.monotonic() < end:
            self.fresh.wait(0.02)
            self.fresh.clear()

    def _wait_until(self, due_ns: int) -> None:
        """Wait in slices, since simulated time may stop; a due time far ahead means that time went back."""
        while not self._stopping.is_set():
            remaining_ns = due_ns - self._source.now_ns()
            if remaining_ns <= 0 or remaining_ns > 10 * self._period_ns:
                return
            self._stopping.wait(min(remaining_ns / 1e9 / self._source.rate, 0.05))

    def plan_once(self) -> Attempt:
        """Observe, solve, judge; put an accepted plan in force, hold for a refused one."""
        begin = time.perf_counter()
        self.sequence += 1
        try:
            solution: Solution | None = self._work(self._warm_start)
            reason = ""
        except PlannerLost:
            raise
        except UserError as error:
            solution, reason = None, str(error)
        plan = None
        if solution is not None:
            plan = TimedPlan(
                solution.stamp_ns, self._step_s, np.asarray(solution.actions, dtype=np.float64), self._limits.names,
                self._limits.mode, self.sequence, solution.final_cost,
            )  # fmt: skip
            reason = plan_fault(plan, self._limits, self._horizon)
            if solution.status == REFUSED_STATUS and not reason:
                reason = f"the solver found no finite cost: {solution.message or 'check the observation'}"
        stamp_ns = solution.stamp_ns if solution is not None else self._source.now_ns()
        if self._stopping.is_set():
            return Attempt(self.sequence, stamp_ns, None, solution, "stopped", 0.0)
        if reason or plan is None:
            self._supervisor.trip(reason, time.monotonic(), "plan" if solution is not None else "observation")
            plan = None
        else:
            self.accepted += 1
            self._plans.push(plan, self._source.now_ns())
            self._supervisor.good_plan()
        total_ms = (time.perf_counter() - begin) * 1e3
        attempt = Attempt(self.sequence, stamp_ns, plan, solution, reason, total_ms)
        self._on_attempt(attempt)
        return attempt

    def _warm_start(self, stamp_ns: int) -> np.ndarray | None:
        """The plan in force as seen from `stamp_ns`, or None when there is none or time went back."""
        plan = self._plans.newest
        if plan is None or stamp_ns < plan.stamp_ns:
            return None
        return plan.shifted(stamp_ns)
