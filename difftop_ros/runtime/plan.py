"""Timed plans and what to do *now* under them: interpolation, blending over seams, going on from the one before.

Sending nothing wrong is the gate's job; this file only refuses plans that do not mean what the contract says. No ROS
here.

A plan is made from an observation that is old when the plan takes over, by the time of observing and solving. Until
then the plan in force is executed: those steps of the new one are settled (Continuation; after "real-time chunking",
Black et al. 2025). How far that reaches is estimated from the delays before; where a plan really takes over is decided
by the clock alone, so that a wrong estimate costs smoothness and never repeats or skips a motion.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from difftop_ros.plan_result import WarmStart
from difftop_ros.safety import MotionLimits
from difftop_ros.safety.checks.base import TOLERANCE

MAX_BLENDED = 16
KEPT = 20  # delays
LOG = 512  # commands that are remembered
LONGER = 3  # times the blend's usual duration, at most
RATE, BEND = 15 / 8, 10 / 3**0.5  # largest first and second derivative of a blend's weight over a duration of 1


@dataclass(frozen=True)
class TimedPlan:
    """A chunk of actions; row k is meant for begin_ns + k * step_s.

    stamp_ns  time of the observation it was made from [ns];  step_s  time between rows [s]
    begin_ns  time of row 0 [ns]; None: stamp_ns, as it is for a plan that goes on with what is being done
    actions   float64 (H, A) in the contract's joint order and the mode's unit;  mode  the contract's command mode
    began_s   when observing for it began [s], by time.monotonic
    """

    stamp_ns: int
    step_s: float
    actions: np.ndarray
    names: tuple[str, ...]
    mode: str
    sequence: int = 0
    predicted_cost: float = field(default=float("nan"))
    began_s: float = field(default=float("nan"))
    begin_ns: int | None = None

    @property
    def start_ns(self) -> int:
        """Time of row 0 [ns]."""
        return self.stamp_ns if self.begin_ns is None else self.begin_ns

    def at(self, time_ns: int) -> np.ndarray:
        """The target (A,) at `time_ns`, linear between the plan's steps.

        Before the first step it is the first. After the last step a position is held; a velocity or an increment is
        held for the last step's own time and is zero after that, because nothing was planned there.
        """
        index = (time_ns - self.start_ns) / 1e9 / self.step_s
        last = len(self.actions) - 1
        if index >= last:
            over = self.mode != "position" and index >= last + 1
            return np.zeros_like(self.actions[last]) if over else self.actions[last]
        if index <= 0:
            return self.actions[0]
        row = int(index)
        part = index - row
        return (1.0 - part) * self.actions[row] + part * self.actions[row + 1]

    def age_ms(self, time_ns: int) -> float:
        """Time since its observation [ms]."""
        return (time_ns - self.stamp_ns) / 1e6


def plan_fault(plan: TimedPlan, limits: MotionLimits, horizon: int | None = None) -> str:
    """Why `plan` must be refused, '' if it may be followed. Nothing is corrected: a bad plan is no plan."""
    if plan.names != limits.names:
        return f"the plan is for joints {list(plan.names)}, the contract commands {list(limits.names)}"
    rows = "H" if horizon is None else horizon
    if (
        plan.actions.ndim != 2
        or plan.actions.shape[1] != limits.size
        or len(plan.actions) != (len(plan.actions) if horizon is None else horizon)
    ):
        return f"the policy returned actions of shape {plan.actions.shape}, expected ({rows}, {limits.size})"
    bad = ~np.isfinite(plan.actions)
    if bad.any():
        step, joint = (int(i) for i in np.argwhere(bad)[0])
        return f"the plan is {plan.actions[step, joint]} for joint '{limits.names[joint]}' at step {step}"
    low, high = limits.action_bounds()
    slack = TOLERANCE * (high - low)
    bad = (plan.actions < low - slack) | (plan.actions > high + slack)
    if bad.any():
        step, joint = (int(i) for i in np.argwhere(bad)[0])
        return (
            f"the plan asks joint '{limits.names[joint]}' for {plan.actions[step, joint]:.6g} at step {step}, outside "
            f"[{low[joint]:g}, {high[joint]:g}]"
        )
    return ""


@dataclass(frozen=True)
class _Entry:
    """A plan in force since `since_ns`, wholly so `ramp_ns` later."""

    plan: TimedPlan
    since_ns: int
    ramp_ns: int

    def weight(self, now_ns: int) -> float:
        """0 to 1, with no speed and no acceleration at either end."""
        if now_ns >= self.since_ns + self.ramp_ns:
            return 1.0
        part = max((now_ns - self.since_ns) / self.ramp_ns, 0.0)
        return part**3 * (10.0 + part * (6.0 * part - 15.0))


class PlanBuffer:
    """The plans in force: the newest, and while it is being blended in, those before it.

    A new plan takes over smoothly within `blend_s`: at the seam target, speed and acceleration go on as they were.
    `limits`: where plans are further apart than can be made up for in that time within half of the acceleration limits,
    more time is taken, up to LONGER times as much. Blends are convex combinations, hence inside the bounds that every
    plan has passed. Written by the planner thread, read by the control thread.
    """

    def __init__(self, blend_s: float, limits: MotionLimits | None = None) -> None:
        self._blend_ns, self._limits = round(blend_s * 1e9), limits
        self._lock = threading.Lock()
        self._entries: tuple[_Entry, ...] = ()

    def push(self, plan: TimedPlan, now_ns: int) -> None:
        """Put `plan` in force from `now_ns` on."""
        before = self.select(now_ns, now_ns)
        ramp_ns = self._blend_ns if before is None else self._ramp_ns(np.abs(plan.at(now_ns) - before))
        with self._lock:
            kept = [entry for entry in self._entries if entry.since_ns <= now_ns]
            complete = [i for i, entry in enumerate(kept) if entry.weight(now_ns) == 1.0]
            kept = kept[complete[-1] :] if complete else kept
            self._entries = (*kept[-MAX_BLENDED + 1 :], _Entry(plan, now_ns, ramp_ns))

    def _ramp_ns(self, apart: np.ndarray) -> int:
        """How long plans that are `apart` (A,) [unit] now are blended [ns]."""
        if self._limits is None:
            return self._blend_ns
        share = apart / (0.5 * self._limits.acceleration)
        needed_s = float(np.max(RATE * share if self._limits.mode == "velocity" else np.sqrt(BEND * share)))
        return min(max(round(needed_s * 1e9), self._blend_ns), LONGER * self._blend_ns)

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._entries = ()

    @property
    def newest(self) -> TimedPlan | None:
        """The newest plan, or None."""
        entries = self._entries
        return entries[-1].plan if entries else None

    def select(self, time_ns: int, now_ns: int) -> np.ndarray | None:
        """The blended target (A,) for `time_ns` with the weights of `now_ns`; None without a plan."""
        entries = self._entries  # one atomic read: the control thread takes no lock
        if not entries:
            return None
        target = entries[0].plan.at(time_ns)
        for entry in entries[1:]:
            weight = entry.weight(now_ns)
            if weight > 0.0:
                new = entry.plan.at(time_ns)
                target = new if weight == 1.0 else (1.0 - weight) * target + weight * new
        return target


class Delays:
    """Delays of the newest plans, from the observation's time to the first command [s]."""

    def __init__(self, quantile: float) -> None:
        """quantile: 0 to 1; at 1 the slowest of the newest it is all the same."""
        self._quantile = quantile
        self._newest: deque[float] = deque(maxlen=KEPT)

    def add(self, delay_s: float) -> None:
        """Count one."""
        self._newest.append(delay_s)

    @property
    def usual_s(self) -> float:
        """The quantile of the newest, rounded down to one of them; NaN before the first.

        So of two or more the slowest is never it, and a slow first inference counts once.
        """
        if not self._newest:
            return math.nan
        return float(np.quantile(np.array(self._newest), self._quantile, method="lower"))


class Continuation:
    """Told by the control thread what was commanded, asked by the planner thread where a solve begins and a plan fits.

    horizon, step_s: steps of a plan and the time between them [s]; quantile: of the recent delays, which one the next
    is taken to be; most_steps: of a plan, how many its delay may span: with a longer one all motion is slower, because
    what a policy foresees is the less sure the further away it is (0: never slower); settles: whether a policy is told
    which steps are settled.
    """

    def __init__(
        self, plans: PlanBuffer, horizon: int, step_s: float, *, quantile: float = 0.75, most_steps: float = 4.0,
        settles: bool = False,
    ) -> None:  # fmt: skip
        self._plans, self._horizon, self._step_s = plans, horizon, step_s
        self._most_s, self._settles = most_steps * step_s, settles
        self.delays = Delays(quantile)
        self.stretch = 1.0  # how much longer than trained the steps of the plan being made last
        self._log: deque[tuple[int, np.ndarray]] = deque(maxlen=LOG)
        self._followed: TimedPlan | None = None
        self._on_it = False

    def commanded(self, plan: TimedPlan, time_ns: int, values: np.ndarray, lag_s: float) -> bool:
        """`values` (A,) were sent for the time `time_ns` [ns] of `plan`; True for the first command under it.

        lag_s: how far they are behind what the plan asks for, in seconds at top speed. A plan that waited for the end
        of a hold has no first command.
        """
        first = plan is not self._followed and (bool(self._log) or self._followed is None)
        if first:
            self.delays.add((time_ns - plan.stamp_ns) / 1e9)
        self._followed, self._on_it = plan, lag_s <= self._step_s
        self._log.append((time_ns, values))
        return first

    def interrupted(self) -> None:
        """The robot holds, or time went back: what was planned is not what happens."""
        self._on_it = False
        self._log.clear()

    def warm_start(self, stamp_ns: int) -> WarmStart | None:
        """For a plan from the observation of `stamp_ns` [ns]; None when there is no plan or time went back."""
        delay_s = self.delays.usual_s
        self.stretch = self._stretch(delay_s)
        newest = self._plans.newest
        if newest is None or stamp_ns < newest.stamp_ns:
            return None
        step_ns, log = self._step_s * self.stretch * 1e9, list(self._log)
        actions = np.stack([self._at(stamp_ns + round(k * step_ns), log) for k in range(self._horizon)])
        if newest.mode != "position":
            actions *= self.stretch  # a policy wants speeds and increments as it knows them
        return WarmStart(actions, self._committed(delay_s))

    def timed(self, plan: TimedPlan, now_ns: int) -> TimedPlan:
        """The plan that arrives now [ns], at the pace its warm start was made for.

        While the robot stands no step of it has been executed, however long it took: it begins when it arrives.
        """
        stands, stretch = not self._log, self.stretch
        if stands and self._followed is None:
            stretch = self._stretch((now_ns - plan.stamp_ns) / 1e9)  # the first of all: its own delay is known now
        actions = plan.actions if plan.mode == "position" else plan.actions / stretch
        begin_ns = now_ns if stands else plan.stamp_ns
        return replace(plan, step_s=plan.step_s * stretch, actions=actions, begin_ns=begin_ns)

    def _stretch(self, delay_s: float) -> float:
        return delay_s / self._most_s if self._most_s > 0 and delay_s > self._most_s else 1.0  # false for NaN

    def _committed(self, delay_s: float) -> int:
        """Steps that will be over when the plan takes over, and the one after; never more than half of a plan."""
        if not (self._settles and self._on_it and delay_s > 0):  # false for NaN too
            return 0
        return min(math.ceil(delay_s / (self._step_s * self.stretch) - 1e-9) + 1, self._horizon // 2)

    def _at(self, time_ns: int, log: list[tuple[int, np.ndarray]]) -> np.ndarray:
        """What was commanded at a time, or what will be (A,)."""
        if log and log[0][0] <= time_ns <= log[-1][0]:
            times = [then for then, _ in log]
            after = int(np.searchsorted(times, time_ns))
            (before_ns, before), (after_ns, value) = log[max(after - 1, 0)], log[after]
            share = (time_ns - before_ns) / max(after_ns - before_ns, 1)
            return before + share * (value - before)
        target = self._plans.select(time_ns, time_ns)
        assert target is not None  # there is a plan, see warm_start
        return target
