"""What a whole plan asks of the joints, judged before any of it runs. What is refused for its content: plan.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difftop_ros.runtime.plan import TimedPlan
from difftop_ros.safety import MotionLimits
from difftop_ros.safety.checks.base import TOLERANCE


@dataclass(frozen=True)
class Finding:
    """The first step at which a plan asks for more than a limit, or if none does the one nearest to it.

    what  'velocity', 'acceleration', 'jerk' or 'seam';  step  row of the plan;  got, limit  [unit] with /s, /s^2, /s^3
    """

    what: str
    step: int
    joint: str
    got: float
    limit: float
    unit: str

    @property
    def excess(self) -> float:
        """Multiple of the limit that is asked for: up to 1 is within it."""
        return abs(self.got) / self.limit

    def __str__(self) -> str:
        return (
            f"{self.what} of joint '{self.joint}' at step {self.step} is {self.got:.4g} {self.unit}, "
            f"{self.excess:.2g} times its limit {self.limit:g}"
        )


@dataclass(frozen=True)
class PlanVerdict:
    """A finding per quantity that has a limit."""

    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding | None:
        """The finding of largest excess."""
        return max(self.findings, key=lambda finding: finding.excess, default=None)

    @property
    def slowed(self) -> str:
        """What the shaper will slow down, as a sentence; '' if the plan keeps all limits."""
        beyond = [str(finding) for finding in self.findings if finding.excess > 1 + TOLERANCE]
        return f"slowed: {'; '.join(beyond)}" if beyond else ""

    def refusal(self, max_excess: float) -> str:
        """Why the plan must not be followed, '' if it may or `max_excess` is 0."""
        beyond = [f for f in self.findings if f.excess > max_excess > 0]
        return f"the plan's {beyond[0]}, max_plan_excess is {max_excess:g}; check the policy" if beyond else ""


def judge_plan(plan: TimedPlan, limits: MotionLimits, in_force: TimedPlan | None, now_ns: int) -> PlanVerdict:
    """The verdict on a plan of sound content (see `plan_fault`) that takes over from `in_force` at `now_ns` [ns].

    Differences are between the plan's steps. The seam is the distance of the two plans' targets now, and its limit what
    the joint can move in one step at top speed (velocity mode: what its speed can change by).
    """
    dt, actions = plan.step_s, plan.actions
    position = limits.mode == "position"
    rates = np.diff(actions, axis=0) / dt if position else actions / (1.0 if limits.mode == "velocity" else dt)
    change = np.diff(rates, axis=0) / dt
    first = 1 if position else 0  # row of the plan that a rate leads to
    asked = [
        ("velocity", rates, limits.velocity, "/s", first),
        ("acceleration", change, limits.acceleration, "/s^2", first + 1),
        ("jerk", np.diff(change, axis=0) / dt, limits.jerk, "/s^3", first + 2),
    ]
    if in_force is not None:
        seam = (plan.at(now_ns) - in_force.at(now_ns))[None]
        row = int(np.clip((now_ns - plan.start_ns) / 1e9 / dt, 0, len(actions) - 1))
        most = limits.acceleration * dt if limits.mode == "velocity" else limits.velocity * dt
        asked.append(("seam", seam, most, "/s" if limits.mode == "velocity" else "", row))
    found = (_first(what, got, most, limits, per, row) for what, got, most, per, row in asked)
    return PlanVerdict(tuple(finding for finding in found if finding is not None))


def _first(what: str, got: np.ndarray, most: np.ndarray, limits: MotionLimits, per: str, row: int) -> Finding | None:
    """Of `got` (K, A), whose row 0 belongs to the plan's row `row`: the first beyond `most` (A,), or the nearest."""
    excess = np.abs(got) / most
    if not excess.size or not np.isfinite(most).any():
        return None
    beyond = np.argwhere(excess > 1 + TOLERANCE)
    k, joint = beyond[0] if len(beyond) else np.unravel_index(int(np.argmax(excess)), excess.shape)
    if len(beyond):  # of the joints beyond at that step the worst
        joint = np.argmax(excess[k])
    unit = f"{limits.units[joint]}{per}"
    return Finding(what, int(k) + row, limits.names[joint], float(got[k, joint]), float(most[joint]), unit)
