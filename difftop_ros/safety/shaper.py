"""The slew step before the gate: turns plan targets into commands that keep the motion limits by construction.

A plan is a list of *targets*: the first one may be far from the arm at activation, two plans disagree at their seam, a
gripper jumps from open to closed. Approaching a target at limited speed is what a plan means, so it is done here, in
the control loop's select step, and the gate that follows does not trip in normal use. A target that itself lies
outside the contract's bounds is not a motion to be slewed: such a plan is refused when it arrives (runtime/plan.py).
Not here: any decision whether a command may be sent.
"""

from __future__ import annotations

import numpy as np

from difftop_ros.safety.limits import MotionLimits


class MotionShaper:
    """Follows targets under speed and acceleration limits, able to stop before the position limits at every tick.

    A reference that keeps the limits is followed exactly; otherwise the command lags and catches up without overshoot
    of the position limits. `commit` records what was really published; `propose` and `stop` change nothing.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self.limits = limits
        self._command = np.zeros(limits.size)
        self._speed = np.zeros(limits.size)

    def reset(self, position: np.ndarray) -> None:
        """Start at rest at the measured `position` (A,) [unit]."""
        self._command = np.array(position, dtype=np.float64)
        self._speed = np.zeros(self.limits.size)

    def commit(self, command: np.ndarray) -> None:
        """Record the command (A,) that was published, in the mode's unit."""
        limits = self.limits
        if limits.mode == "position":
            self._speed = (command - self._command) / limits.dt
            self._command = np.array(command)
        else:
            self._speed = np.array(command) if limits.mode == "velocity" else command / limits.dt

    @property
    def speed(self) -> np.ndarray:
        """Speed of the last published command [unit/s], (A,)."""
        return self._speed

    @property
    def at_rest(self) -> bool:
        """True when the last published command does not move any joint."""
        return bool(np.all(np.abs(self._speed) <= 1e-9 * np.maximum(self.limits.velocity, 1e-3)))

    def propose(self, before: np.ndarray, target: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """The next command (A,) towards the plan's target (A,) at this tick; `before` (A,) is its target a tick ago.

        In position mode the difference of the two is the plan's own speed, which is followed beside the remaining
        error. In velocity and delta modes `target` is the speed itself and `measured` (A,) gives the room left.
        """
        limits = self.limits
        if limits.mode == "position":
            error = before - self._command
            catch_up = np.copysign(np.minimum(np.abs(error) / limits.dt, limits.stop_speed(np.abs(error))), error)
            return self._step((target - before) / limits.dt + catch_up, self._command)
        wanted = target if limits.mode == "velocity" else target / limits.dt
        return self._step(wanted, measured)

    def stop(self, measured: np.ndarray | None = None) -> np.ndarray:
        """The next command (A,) of the quickest stop; in position mode with `measured` (A,), of the way there."""
        limits = self.limits
        wanted = np.zeros(limits.size)
        if limits.mode == "position" and measured is not None:
            error = np.clip(measured, limits.lower, limits.upper) - self._command
            wanted = np.copysign(limits.stop_speed(np.abs(error)), error)
        return self._step(wanted, self._command if limits.mode == "position" else None)

    def _step(self, wanted: np.ndarray, position: np.ndarray | None) -> np.ndarray:
        """Limits `wanted` (A,) [unit/s] by top speed, by the room to the position limits, by acceleration."""
        limits = self.limits
        speed = np.clip(wanted, -limits.top_speed, limits.top_speed)
        if position is not None:
            down, up = limits.stop_speed(position - limits.lower), limits.stop_speed(limits.upper - position)
            speed = np.clip(speed, -down, up)
        change = limits.top_acceleration * limits.dt
        speed = np.clip(speed, self._speed - change, self._speed + change)
        if limits.mode == "position":
            return self._command + speed * limits.dt
        return speed if limits.mode == "velocity" else speed * limits.dt
