"""The command gate: the last thing before a publish. It answers yes or no and never changes a number.

Checks in order: finite, joint names, plan age, measurement, position, velocity, acceleration or step, tracking. Each
sentence names the joint, what was got, the limit and a remedy. Limits are compared with a relative tolerance of 1e-6,
which is rounding, not a margin. Not here: shaping of motion (shaper.py), the hold (hold.py), anything of ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from difftop_ros.contract import Command
from difftop_ros.safety.limits import MotionLimits

TOLERANCE = 1e-6
START_MARGIN = 0.05


@dataclass(frozen=True)
class Proposal:
    """One command on its way to the robot.

    values  the command (A,) in the mode's unit;  names  the joints it is for, in order
    plan_age_ms  now minus the time of the plan's observation [ms]; None for a command that follows no plan (a hold)
    measured  newest measured positions (A,) [unit];  measured_age_ms  their age [ms]
    """

    names: Sequence[str]
    values: np.ndarray
    plan_age_ms: float | None
    measured: np.ndarray
    measured_age_ms: float


@dataclass(frozen=True)
class Verdict:
    """The gate's answer; `kind` names the check that failed and `reason` is a sentence, both '' when ok."""

    ok: bool
    kind: str = ""
    reason: str = ""


PASS = Verdict(True)


class CommandGate:
    """Checks proposals against the contract; keeps the last published command, which `commit` records.

    max_plan_age_ms      a plan older than this may not be followed [ms]
    max_measured_age_ms  joint states older than this say nothing of where the robot is [ms]
    tracking_s           a position command may be ahead of the measured position by this many seconds at top velocity
    """

    def __init__(
        self,
        command: Command,
        control_rate_hz: float,
        *,
        max_plan_age_ms: float,
        max_measured_age_ms: float,
        tracking_s: float,
    ) -> None:
        self.limits = MotionLimits.of(command, control_rate_hz)
        self._max_plan_age_ms = max_plan_age_ms
        self._max_measured_age_ms = max_measured_age_ms
        self._tracking_s = tracking_s
        self._last: np.ndarray | None = None
        self._last_speed = np.zeros(self.limits.size)

    def start_position(self, measured: np.ndarray) -> tuple[np.ndarray | None, str]:
        """Where commands may start from (A,) given the measured pose, or None and the sentence why not.

        A reading up to 5 % of the joint's range outside its limits is taken as resting on the limit: encoders and
        soft stops do that. Further out the robot must be moved back by hand.
        """
        limits = self.limits
        bad = ~np.isfinite(measured)
        if bad.any():
            joint = int(np.argmax(bad))
            return None, f"joint '{limits.names[joint]}' is measured at {measured[joint]}; check its joint state driver"
        margin = START_MARGIN * (limits.upper - limits.lower)
        outside = (measured < limits.lower - margin) | (measured > limits.upper + margin)
        if outside.any():
            joint = int(np.argmax(outside))
            return None, (
                f"joint '{limits.names[joint]}' is measured at {measured[joint]:.4f} {limits.units[joint]}, outside "
                f"its limits [{limits.lower[joint]:g}, {limits.upper[joint]:g}]; move the robot back or correct the "
                "contract"
            )
        return np.clip(measured, limits.lower, limits.upper), ""

    def reset(self, position: np.ndarray) -> None:
        """Start at rest at `position` (A,) [unit], as returned by `start_position`."""
        self._last = np.array(position, dtype=np.float64) if self.limits.mode == "position" else None
        self._last_speed = np.zeros(self.limits.size)

    def commit(self, values: np.ndarray) -> None:
        """Record the command (A,) that was published."""
        self._last_speed = self._speed(values)
        if self.limits.mode == "position":
            self._last = np.array(values)

    def check(self, proposal: Proposal) -> Verdict:
        """May this command be published? Raises nothing; any doubt is a no."""
        if self.limits.mode == "position" and self._last is None:
            return Verdict(False, "start", "the gate knows no start position; reset it to the measured pose first")
        checks: list[tuple[str, Callable[[Proposal], str]]] = [
            ("finite", self._finite), ("joint names", self._names), ("plan age", self._plan_age),
            ("measurement", self._measurement), ("position", self._position), ("velocity", self._velocity),
            ("acceleration", self._acceleration), ("tracking", self._tracking),
        ]  # fmt: skip
        for kind, check in checks:
            reason = check(proposal)
            if reason:
                return Verdict(False, kind, reason)
        return PASS

    def _speed(self, values: np.ndarray) -> np.ndarray:
        limits = self.limits
        if limits.mode == "velocity":
            return np.array(values)
        if limits.mode == "delta_position":
            return values / limits.dt
        return (values - self._last) / limits.dt if self._last is not None else np.zeros(limits.size)

    def _finite(self, p: Proposal) -> str:
        bad = ~np.isfinite(np.atleast_1d(np.asarray(p.values, dtype=np.float64)))
        if not bad.any():
            return ""
        joint = int(np.flatnonzero(bad.ravel())[0])
        name = p.names[joint] if joint < len(p.names) else f"number {joint}"
        got = np.asarray(p.values, dtype=np.float64).ravel()[joint]
        return f"the command for joint '{name}' is {got}; a command must be a finite number: check the policy's output"

    def _names(self, p: Proposal) -> str:
        names = tuple(p.names)
        if names != self.limits.names:
            return (
                f"the command is for joints {list(names)}, the contract commands {list(self.limits.names)} in this "
                "order; run the policy under the contract it was trained with"
            )
        if np.shape(p.values) != (self.limits.size,):
            return f"the command has shape {np.shape(p.values)}, expected ({self.limits.size},): one number per joint"
        return ""

    def _plan_age(self, p: Proposal) -> str:
        if p.plan_age_ms is None or p.plan_age_ms <= self._max_plan_age_ms:
            return ""
        return (
            f"the plan is {p.plan_age_ms:.0f} ms old, max_plan_age_ms is {self._max_plan_age_ms:g}; the planner or a "
            "sensor stream is too slow or has stopped"
        )

    def _measurement(self, p: Proposal) -> str:
        if p.plan_age_ms is None:
            return ""  # a hold must remain possible when the joint states have stopped
        if not p.measured_age_ms <= self._max_measured_age_ms:
            return (
                f"the joint states are {p.measured_age_ms:.0f} ms old, the contract allows "
                f"{self._max_measured_age_ms:g} ms; check their publisher"
            )
        bad = ~np.isfinite(p.measured) if np.shape(p.measured) == (self.limits.size,) else np.ones(1, dtype=bool)
        if not bad.any():
            return ""
        name = self.limits.names[int(np.argmax(bad))]
        return f"the measured position of joint '{name}' is not a finite number; check its joint state driver"

    def _position(self, p: Proposal) -> str:
        limits = self.limits
        slack = TOLERANCE * (limits.upper - limits.lower)
        if limits.mode == "position":
            where = p.values
            bad = (where < limits.lower - slack) | (where > limits.upper + slack)
        elif p.plan_age_ms is None:
            return ""  # a stop that still moves outwards beats one that is refused
        else:
            move = self._speed(p.values) * limits.dt
            where = p.measured + move
            bad = ((move < 0) & (where < limits.lower - slack)) | ((move > 0) & (where > limits.upper + slack))
        return self._sentence(bad, where, "position", "", limits.lower, limits.upper, "check the plan and the contract")

    def _velocity(self, p: Proposal) -> str:
        limits = self.limits
        speed, top = self._speed(p.values), limits.velocity
        slack = TOLERANCE * top + self._rounding() / limits.dt
        return self._sentence(
            np.abs(speed) > top + slack, speed, "velocity", "/s", -top, top, "plan slower or correct the contract"
        )

    def _acceleration(self, p: Proposal) -> str:
        limits = self.limits
        speed = self._speed(p.values)
        if limits.mode != "velocity":
            step = speed * limits.dt
            bad = np.abs(step) > limits.step * (1 + TOLERANCE) + self._rounding()
        else:
            step = speed - self._last_speed
            bad = np.abs(step) > limits.step * (1 + TOLERANCE)
        if bad.any():
            suffix = "/s" if limits.mode == "velocity" else ""
            return self._sentence(bad, step, "step", suffix, -limits.step, limits.step, "plan a smoother motion")
        change = (speed - self._last_speed) / limits.dt
        top = limits.acceleration
        slack = np.where(np.isfinite(top), TOLERANCE * np.where(np.isfinite(top), top, 0.0), 0.0)
        bad = np.abs(change) > top + slack + 2 * self._rounding() / limits.dt**2
        return self._sentence(bad, change, "acceleration", "/s^2", -top, top, "plan a smoother motion")

    def _tracking(self, p: Proposal) -> str:
        if p.plan_age_ms is None or self.limits.mode != "position":
            return ""
        ahead = p.values - p.measured
        allowed = self._tracking_s * self.limits.velocity
        bad = np.abs(ahead) > allowed
        remedy = "the robot does not follow: check its drives, its limits or what blocks it, or raise tracking_s"
        return self._sentence(bad, ahead, "command minus measured position", "", -allowed, allowed, remedy)

    def _rounding(self) -> np.ndarray:
        """What float64 may lose in a difference of two positions (A,) [unit]."""
        return 8 * np.finfo(np.float64).eps * np.maximum(np.maximum(np.abs(self.limits.lower), self.limits.upper), 1.0)

    def _sentence(
        self, bad: np.ndarray, got: np.ndarray, what: str, per: str, low: np.ndarray, high: np.ndarray, remedy: str
    ) -> str:
        if not bad.any():
            return ""
        joint = int(np.argmax(bad))
        unit = self.limits.units[joint] + per
        return (
            f"joint '{self.limits.names[joint]}': {what} {got[joint]:.6g} {unit} is outside "
            f"[{low[joint]:.6g}, {high[joint]:.6g}]; {remedy}"
        )
