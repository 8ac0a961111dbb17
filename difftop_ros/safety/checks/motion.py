"""Whether a command keeps the contract's limits of motion, and whether the robot follows.

Limits are compared with a relative tolerance of 1e-6, which is rounding, not a margin.
"""

from __future__ import annotations

import numpy as np

from difftop_ros.safety.checks.base import TOLERANCE, GateSettings, LastCommand, Proposal, outside_sentence
from difftop_ros.safety.limits import MotionLimits


class Position:
    """Where the command leads lies within the position limits."""

    kind = "position"

    def __init__(self, settings: GateSettings) -> None:
        pass

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        limits = last.limits
        slack = TOLERANCE * (limits.upper - limits.lower)
        if limits.mode == "position":
            where = proposal.values
            bad = (where < limits.lower - slack) | (where > limits.upper + slack)
        elif proposal.holds:
            return ""  # a stop that still moves outwards beats one that is refused
        else:
            speed = last.speed_of(proposal.values)
            where = proposal.measured + speed * limits.dt
            bad = ((speed < 0) & (where < limits.lower - slack)) | ((speed > 0) & (where > limits.upper + slack))
        bounds = (limits.lower, limits.upper)
        return outside_sentence(limits, bad, where, bounds, "position", "", "check the plan and the contract")


class Velocity:
    """No joint is faster than its velocity limit."""

    kind = "velocity"

    def __init__(self, settings: GateSettings) -> None:
        pass

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        limits, top = last.limits, last.limits.velocity
        speed = last.speed_of(proposal.values)
        bad = np.abs(speed) > top + TOLERANCE * top + _rounding(limits) / limits.dt
        remedy = "plan slower or correct the contract"
        return outside_sentence(limits, bad, speed, (-top, top), "velocity", "/s", remedy)


class Acceleration:
    """No command differs from the last by more than the step limit, no speed by more than the acceleration limit."""

    kind = "acceleration"

    def __init__(self, settings: GateSettings) -> None:
        pass

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        limits, remedy = last.limits, "plan a smoother motion"
        speed = last.speed_of(proposal.values)
        if limits.mode != "velocity":
            step, per, rounding = speed * limits.dt, "", _rounding(limits)
        else:
            step, per, rounding = speed - last.speed, "/s", np.zeros(limits.size)
        bad = np.abs(step) > limits.step * (1 + TOLERANCE) + rounding
        if bad.any():
            return outside_sentence(limits, bad, step, (-limits.step, limits.step), "step", per, remedy)
        change = (speed - last.speed) / limits.dt
        top = limits.acceleration  # inf where the contract has none
        bad = np.abs(change) > top * (1 + TOLERANCE) + 2 * _rounding(limits) / limits.dt**2
        return outside_sentence(limits, bad, change, (-top, top), "acceleration", "/s^2", remedy)


class Jerk:
    """No acceleration differs from the last by more than the jerk limit allows in a control period."""

    kind = "jerk"

    def __init__(self, settings: GateSettings) -> None:
        pass

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        limits, top = last.limits, last.limits.jerk  # inf where the contract has none
        acceleration = (last.speed_of(proposal.values) - last.speed) / limits.dt
        jerk = (acceleration - last.acceleration) / limits.dt
        bad = np.abs(jerk) > top * (1 + TOLERANCE) + 4 * _rounding(limits) / limits.dt**3
        return outside_sentence(limits, bad, jerk, (-top, top), "jerk", "/s^3", "plan a smoother motion")


class Tracking:
    """A position command is not far from where the robot is: it follows."""

    kind = "tracking"

    def __init__(self, settings: GateSettings) -> None:
        self._seconds = settings.tracking_s

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        limits = last.limits
        if proposal.holds or limits.mode != "position":
            return ""
        ahead = proposal.values - proposal.measured
        most = self._seconds * limits.velocity
        remedy = "the robot does not follow: check its drives, its limits or what blocks it, or raise tracking_s"
        what = "command minus measured position"
        return outside_sentence(limits, np.abs(ahead) > most, ahead, (-most, most), what, "", remedy)


def _rounding(limits: MotionLimits) -> np.ndarray:
    """What float64 may lose in a difference of two positions (A,) [unit]."""
    return 8 * np.finfo(np.float64).eps * np.maximum(np.maximum(np.abs(limits.lower), limits.upper), 1.0)
