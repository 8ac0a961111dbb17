"""What a check of the command gate is, and what it is given: the proposed command and the one published before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from difftop_ros.safety.limits import MotionLimits

if TYPE_CHECKING:
    from difftop_ros.safety.guard import Guard

TOLERANCE = 1e-6


@dataclass(frozen=True)
class GateSettings:
    """Numbers that the checks are made with.

    max_plan_age_ms      a plan older than this may not be followed [ms]
    max_measured_age_ms  joint states older than this say nothing of where the robot is [ms]
    tracking_s           a position command may be ahead of the measured position by this many seconds at top velocity
    guard                knows what must not be touched; None: nothing is known
    """

    max_plan_age_ms: float
    max_measured_age_ms: float
    tracking_s: float
    guard: Guard | None = None


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

    @property
    def holds(self) -> bool:
        """True for a stop, which must remain possible when plans or joint states no longer come."""
        return self.plan_age_ms is None


@dataclass(frozen=True)
class LastCommand:
    """What was published last, under the contract's limits.

    position  the last position command (A,) [unit], None in the other modes;  speed  its speed (A,) [unit/s]
    acceleration  by how much that speed was another than the one before (A,) [unit/s^2]
    """

    limits: MotionLimits
    position: np.ndarray | None
    speed: np.ndarray
    acceleration: np.ndarray

    def speed_of(self, values: np.ndarray) -> np.ndarray:
        """Speed (A,) [unit/s] at which the command `values` (A,) would move the joints from here."""
        limits = self.limits
        if limits.mode == "velocity":
            return np.array(values)
        if limits.mode == "delta_position":
            return values / limits.dt
        return (values - self.position) / limits.dt if self.position is not None else np.zeros(limits.size)

    def next(self, values: np.ndarray) -> LastCommand:
        """The state after `values` (A,) has been published."""
        position = np.array(values) if self.limits.mode == "position" else None
        speed = self.speed_of(values)
        return LastCommand(self.limits, position, speed, (speed - self.speed) / self.limits.dt)


class Check(Protocol):
    """One question the gate asks of every command.

    `kind` names it in SolverStatus and in the list of checks. `fault` returns '' if the command may pass, else one
    sentence for the user: joint, what was got, what is allowed, what to do. It runs at the control rate in the control
    thread, so it must be quick, and must not change what it is given. A check named by entry point is made by calling
    what the entry point names with the GateSettings.
    """

    kind: str

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """Why `proposal` may not be published after `last`, '' if it may."""
        ...


def outside_sentence(
    limits: MotionLimits,
    bad: np.ndarray,
    got: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    what: str,
    per: str,
    remedy: str,
) -> str:
    """'' if no joint is `bad` (A,) bool, else the sentence on the first: `what` it `got` (A,) outside `bounds`."""
    if not bad.any():
        return ""
    joint = int(np.argmax(bad))
    low, high = bounds
    return (
        f"joint '{limits.names[joint]}': {what} {got[joint]:.6g} {limits.units[joint]}{per} is outside "
        f"[{low[joint]:.6g}, {high[joint]:.6g}]; {remedy}"
    )
