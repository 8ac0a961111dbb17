"""The planner loop: newest observation, solve, timed plan; on a thread of its own. No ROS and no torch here.

Observing and solving are `ObserveAndSolve`, whose worker runs in this process or in another. A plan that is not finite,
misshapen or out of bounds is refused with a sentence and the robot holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.plan_result import PlanResult, WarmStart
from difftop_ros.runtime.clock import TimeSource
from difftop_ros.runtime.plan import Continuation, PlanBuffer, TimedPlan, plan_fault
from difftop_ros.runtime.streams import Request, StreamBuffers
from difftop_ros.runtime.verdict import PlanVerdict, judge_plan
from difftop_ros.safety import HoldSupervisor, MotionLimits

REFUSED_STATUS = "NONFINITE"


class PlannerLost(UserError):
    """The planner cannot go on at all (its process is gone): the node deactivates instead of holding for ever."""


class Work(Protocol):
    """Observes and solves; `warm_start(time_ns)` is where to begin for an observation of that time [ns].

    Raises UserError (stale or undecodable observation, refused by the policy).
    """

    def __call__(self, warm_start: Callable[[int], WarmStart | None]) -> PlanResult: ...


class Worker(Protocol):
    """A policy with its observation pipeline: in this process or in another (runtime/worker.py)."""

    def solve(self, request: Request, warm_start: WarmStart | None, deadline_ms: float | None) -> PlanResult: ...


class ObserveAndSolve:
    """The planner's work: a window of messages at the newest time that every stream has reached, then the solve.

    most_ns: how far that time may lie back [ns];  steps, step_s: observations of the window and time between them [s];
    turns: gives the continuous joints' angles as counted (Request.turns)
    """

    def __init__(
        self, worker: Worker, buffers: StreamBuffers, contract: Contract, source: TimeSource, *, most_ns: int,
        steps: int, deadline_ms: float, turns: Callable[[], dict[str, float]] = dict,
    ) -> None:  # fmt: skip
        self._turns = turns
        self._worker, self._buffers, self._contract, self._source = worker, buffers, contract, source
        self._most_ns, self._steps, self._deadline_ms = most_ns, steps, deadline_ms
        self._step_s = 1.0 / contract.rate_hz

    def __call__(self, warm_start: Callable[[int], WarmStart | None]) -> PlanResult:
        """See Work."""
        now = self._source.now_ns()
        self._buffers.refuse_stale(self._contract, now)
        at = self._buffers.synchronised_ns(now, self._most_ns)
        request = replace(self._buffers.request(at, self._steps, self._step_s), turns=self._turns())
        result = self._worker.solve(request, warm_start(at), self._deadline_ms)
        return replace(result, age_ms=result.age_ms + (now - at) / 1e6)


class PlannerLoop:
    """Plans at most once per `period_s`, as soon as new sensor data make `fresh` set (see `offer`).

    It begins when streams_ready() is true, at the latest after `grace_s` seconds. objection(plan) tells why a plan
    that is sound otherwise must not be followed, '' if it may. on_result(result, plan) is called after each round in
    the planner's thread; plan is None if it was refused.
    """

    def __init__(
        self,
        *,
        work: Work,
        plans: PlanBuffer,
        continuation: Continuation | None = None,
        supervisor: HoldSupervisor,
        limits: MotionLimits,
        source: TimeSource,
        step_s: float,
        period_s: float,
        horizon: int,
        on_result: Callable[[PlanResult, TimedPlan | None], None],
        max_plan_excess: float = 0.0,
        max_novelty: float = 0.0,
        max_outside: float = 0.0,
        streams_ready: Callable[[], bool] = lambda: True,
        objection: Callable[[TimedPlan], str] = lambda plan: "",
        grace_s: float = 1.0,
    ) -> None:
        self._work, self._plans, self._supervisor = work, plans, supervisor
        self._continuation = continuation or Continuation(plans, horizon, step_s)
        self._limits, self._source = limits, source
        self._step_s, self._period_ns, self._horizon = step_s, round(period_s * 1e9), horizon
        self._on_result, self._max_excess, self._max_novelty = on_result, max_plan_excess, max_novelty
        self._max_outside, self._objection = max_outside, objection
        self._streams_ready, self._grace_s = streams_ready, grace_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._offered_ns = 0
        self.fresh = threading.Event()
        self.failure = ""
        self.sequence = 0
        self.accepted = self.refused = self.slowed = self.clipped = 0
        self.outside = 0.0  # the largest of all plans
        self.verdict = PlanVerdict(())

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

    def plan_once(self) -> PlanResult:
        """Observe, solve, judge; put an accepted plan in force, hold for a refused one."""
        self.sequence += 1
        began_s = time.monotonic()
        try:
            result = replace(self._work(self._continuation.warm_start), sequence=self.sequence)
            plan, novel = self._timed(result, began_s), self._novel(result)
            self.clipped += result.outside > 0
            self.outside = max(self.outside, result.outside)
            kind, refusal = ("observation", novel) if novel else ("plan", self._refusal(result, plan))
            if not refusal:
                kind, refusal = "clearance", self._objection(plan)
            slowed = "" if refusal else self.verdict.slowed
            result = replace(result, message="; ".join(filter(None, (result.message, slowed))))
        except PlannerLost:
            raise
        except UserError as error:
            result = PlanResult(stamp_ns=self._source.now_ns(), sequence=self.sequence)
            plan, kind, refusal, slowed = None, "observation", str(error), ""
        if self._stopping.is_set():
            return replace(result, refusal="stopped")
        if refusal or plan is None:
            self._supervisor.trip(refusal, time.monotonic(), kind)
            self.refused += kind in ("plan", "clearance")
            plan, result = None, replace(result, refusal=refusal)
        else:
            self.accepted += 1
            self.slowed += bool(slowed)
            self._plans.push(plan, self._source.now_ns())
            self._supervisor.good_plan()
        self._on_result(result, plan)
        return result

    def _novel(self, result: PlanResult) -> str:
        """Why no plan from such an observation may be followed, '' if one may."""
        if not result.novelty > self._max_novelty > 0:
            return ""
        return (
            f"the observation is not like those of training: novelty {result.novelty:.3g} of '{result.novelty_of}', "
            f"max_novelty is {self._max_novelty:g}; look at that sensor and the scene"
        )

    def _timed(self, result: PlanResult, began_s: float) -> TimedPlan:
        limits = self._limits
        actions = np.asarray(result.actions, dtype=np.float64)
        plan = TimedPlan(
            result.stamp_ns, self._step_s, actions, limits.names, limits.mode, result.sequence, result.final_cost,
            began_s,
        )  # fmt: skip
        return self._continuation.timed(plan, self._source.now_ns())

    def _refusal(self, result: PlanResult, plan: TimedPlan) -> str:
        reason = plan_fault(plan, self._limits, self._horizon)
        if not reason and result.status == REFUSED_STATUS:
            reason = f"the solver found no finite cost: {result.message or 'check the observation'}"
        if not reason and result.outside > self._max_outside > 0:
            reason = (
                f"the policy asks for {result.outside:.2g} times a joint's range outside its bounds, max_outside is "
                f"{self._max_outside:g}; check the model, and that the contract is the one it was trained under"
            )
        if not reason:
            self.verdict = judge_plan(plan, self._limits, self._plans.newest, self._source.now_ns())
            reason = self.verdict.refusal(self._max_excess)
        return reason
