"""Timed plans and what to do *now* under them: interpolation between steps, blending over seams. No ROS here.

Sending nothing wrong is the gate's job; this file only refuses plans that do not mean what the contract says.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from difftop_ros.safety import MotionLimits
from difftop_ros.safety.checks.base import TOLERANCE

MAX_BLENDED = 8


@dataclass(frozen=True)
class TimedPlan:
    """A chunk of actions; row k is meant for stamp_ns + k * step_s.

    stamp_ns  time of the observation it was made from [ns];  step_s  time between rows [s]
    actions   float64 (H, A) in the contract's joint order and the mode's unit;  mode  the contract's command mode
    """

    stamp_ns: int
    step_s: float
    actions: np.ndarray
    names: tuple[str, ...]
    mode: str
    sequence: int = 0
    predicted_cost: float = field(default=float("nan"))

    def at(self, time_ns: int) -> np.ndarray:
        """The target (A,) at `time_ns`, linear between the plan's steps.

        Before the first step it is the first. After the last step a position is held; a velocity or an increment is
        held for the last step's own time and is zero after that, because nothing was planned there.
        """
        index = (time_ns - self.stamp_ns) / 1e9 / self.step_s
        last = len(self.actions) - 1
        if index >= last:
            over = self.mode != "position" and index >= last + 1
            return np.zeros_like(self.actions[last]) if over else self.actions[last]
        if index <= 0:
            return self.actions[0]
        row = int(index)
        part = index - row
        return (1.0 - part) * self.actions[row] + part * self.actions[row + 1]

    def shifted(self, stamp_ns: int) -> np.ndarray:
        """This plan seen from a later observation at `stamp_ns`: (H, A), the warm start of the next solve."""
        step_ns = self.step_s * 1e9
        return np.stack([self.at(stamp_ns + round(k * step_ns)) for k in range(len(self.actions))])

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


class PlanBuffer:
    """The plans in force: the newest, and while it is being blended in, those before it.

    A new plan takes over linearly within `blend_s`, so its first command equals the last one of the plan before: no
    step at the seam. Blends are convex combinations, hence inside the bounds that every plan has passed.
    Written by the planner thread, read by the control thread.
    """

    def __init__(self, blend_s: float) -> None:
        self._blend_ns = round(blend_s * 1e9)
        self._lock = threading.Lock()
        self._entries: tuple[tuple[TimedPlan, int], ...] = ()

    def push(self, plan: TimedPlan, now_ns: int) -> None:
        """Put `plan` in force from `now_ns` on."""
        with self._lock:
            kept = [entry for entry in self._entries if entry[1] <= now_ns]
            complete = [i for i, (_, since) in enumerate(kept) if now_ns - since >= self._blend_ns]
            kept = kept[complete[-1] :] if complete else kept
            self._entries = (*kept[-MAX_BLENDED + 1 :], (plan, now_ns))

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._entries = ()

    @property
    def newest(self) -> TimedPlan | None:
        """The newest plan, or None."""
        entries = self._entries
        return entries[-1][0] if entries else None

    def select(self, time_ns: int, now_ns: int) -> np.ndarray | None:
        """The blended target (A,) for `time_ns` with the weights of `now_ns`; None without a plan."""
        entries = self._entries  # one atomic read: the control thread takes no lock
        if not entries:
            return None
        target = entries[0][0].at(time_ns)
        for plan, since in entries[1:]:
            weight = 1.0 if self._blend_ns == 0 else min(max((now_ns - since) / self._blend_ns, 0.0), 1.0)
            if weight > 0.0:
                target = plan.at(time_ns) if weight == 1.0 else (1.0 - weight) * target + weight * plan.at(time_ns)
        return target
