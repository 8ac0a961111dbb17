"""The slew step before the gate: turns plan targets into commands that keep the motion limits by construction.

A plan is a list of *targets*: the first one may be far from the arm at activation, two plans disagree at their seam, a
gripper jumps from open to closed. Approaching a target at limited speed is what a plan means, so it is done here, in
the control loop's select step, and the gate that follows does not trip in normal use. A target that itself lies
outside the contract's bounds is not a motion to be slewed: such a plan is refused when it arrives (runtime/plan.py).
Not here: any decision whether a command may be sent.

At every tick the quickest stop (braking.py) from the last command lies within the limits, and one step of that stop may
be taken whatever is asked. So the next command is what is asked, or as much of it as leaves such a stop.
"""

from __future__ import annotations

import numpy as np

from difftop_ros.safety.braking import end_speed, extent, towards
from difftop_ros.safety.limits import MotionLimits

GRID = np.linspace(0.0, 1.0, 17)[:, None]
SLACK = 1e-9  # of a limit: rounding, far below the gate's tolerance


class MotionShaper:
    """Follows targets under speed, acceleration and jerk limits, able to stop before the position limits at every tick.

    A reference that keeps the limits is followed exactly; otherwise the command lags and catches up without overshoot
    of the position limits. `commit` records what was really published; `propose` and `stop` change nothing.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self.limits = limits
        self._top_speed, self._top, self._ramp = limits.per_tick
        self.reset(np.zeros(limits.size))

    def reset(self, position: np.ndarray) -> None:
        """Start at rest at the measured `position` (A,) [unit]."""
        self._command = np.array(position, dtype=np.float64)
        self._moved = np.zeros(self.limits.size)  # per tick, as braking.py counts time
        self._change = np.zeros(self.limits.size)

    def commit(self, command: np.ndarray) -> None:
        """Record the command (A,) that was published, in the mode's unit."""
        before = self._moved
        if self.limits.mode == "position":
            self._moved = command - self._command
            self._command = np.array(command)
        else:
            self._moved = self._per_tick(command)
        self._change = self._moved - before

    @property
    def speed(self) -> np.ndarray:
        """Speed of the last published command [unit/s], (A,)."""
        return self._moved / self.limits.dt

    @property
    def at_rest(self) -> bool:
        """True when the last published command moves no joint and the next need not either."""
        still = 1e-9 * np.maximum(self.limits.velocity, 1e-3) * self.limits.dt
        return bool(np.all(np.abs(self._moved) <= still) and np.all(np.abs(self._change) <= self._ramp))

    def propose(self, before: np.ndarray, target: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """The next command (A,) towards the plan's target (A,) at this tick; `before` (A,) is its target a tick ago.

        In position mode the difference of the two is the plan's own speed, which is followed beside the remaining
        error. In velocity and delta modes `target` is the speed itself and `measured` (A,) gives the room left.
        """
        if self.limits.mode == "position":
            return self._command_for(self._follow(before, target), self._command)
        before, target = self._per_tick(before), self._per_tick(target)
        on_it = np.abs(before - self._moved) <= SLACK * self._top_speed
        quickest = towards(target - self._moved, self._change, self._ramp, self._top)
        return self._command_for(np.where(on_it, target - self._moved, quickest), measured)

    def stop(self, measured: np.ndarray | None = None) -> np.ndarray:
        """The next command (A,) of the quickest stop; in position mode with `measured` (A,), of the way there."""
        if self.limits.mode == "position" and measured is not None:
            goal = np.clip(measured, self.limits.lower, self.limits.upper)
            return self._command_for(self._follow(goal, goal), self._command)
        return self._in_mode(self._brake())

    def _per_tick(self, command: np.ndarray) -> np.ndarray:
        """The motion (A,) [unit] of one tick under a command that is no position."""
        return np.array(command) * (self.limits.dt if self.limits.mode == "velocity" else 1.0)

    def _in_mode(self, change: np.ndarray) -> np.ndarray:
        moved = self._moved + change
        if self.limits.mode == "position":
            return self._command + moved
        return moved / self.limits.dt if self.limits.mode == "velocity" else moved

    def _brake(self) -> np.ndarray:
        return towards(-self._moved, self._change, self._ramp, self._top)

    def _follow(self, before: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The change of motion (A,) that follows a target moving on as from `before` to `target`, without overshoot.

        At once where that can be done, else so that the quickest stop beside the target ends on it.
        """
        error, at_once = before - self._command, target - self._command - self._moved
        margin = SLACK * self._top
        reachable = (np.abs(at_once - self._change) <= self._ramp + margin) & (np.abs(at_once) <= self._top + margin)
        on_it = np.abs(error) <= margin
        # two ticks more must do to keep beside it: -error to take its speed, then none
        settles = (np.abs(error + at_once) <= self._ramp) & (np.abs(error) <= np.minimum(self._ramp, self._top))
        exact = reachable & (on_it | settles)
        if exact.all():
            return at_once
        low, high = np.maximum(self._change - self._ramp, -self._top), np.minimum(self._change + self._ramp, self._top)
        changes = low + GRID * (high - low)
        moved = self._moved + changes
        beside = extent(moved - (target - before), changes, self._ramp, self._top)[0]
        past = self._command + moved + beside - target  # where the stop ends beyond the target: it grows with `changes`
        upper = np.clip((past < 0).sum(0), 1, len(GRID) - 1)
        joints = np.arange(self.limits.size)
        under, over = past[upper - 1, joints], past[upper, joints]
        share = np.clip(-under / np.where(over > under, over - under, 1.0), 0.0, 1.0)
        from_it = changes[upper - 1, joints]
        return np.where(exact, at_once, from_it + share * (changes[upper, joints] - from_it))

    def _command_for(self, wanted: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The command nearest to a change of motion `wanted` (A,) after which a stop from `position` keeps all."""
        wanted = np.clip(wanted, self._change - self._ramp, self._change + self._ramp)
        wanted = np.clip(wanted, -self._top, self._top)
        if self._leaves_a_stop(wanted, position).all():
            return self._in_mode(wanted)
        nearest = self._brake()
        for _ in range(2):
            tried = nearest + GRID * (wanted - nearest)
            kept = np.logical_and.accumulate(self._leaves_a_stop(tried, position)).sum(0)
            joints = np.arange(self.limits.size)
            wanted = tried[np.clip(kept, 0, len(GRID) - 1), joints]
            nearest = tried[np.maximum(kept - 1, 0), joints]
        return self._in_mode(nearest)

    def _leaves_a_stop(self, change: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Whether (..., A) the quickest stop after changes of motion (..., A) keeps speed and position limits."""
        limits, moved = self.limits, self._moved + change
        most = self._top_speed * (1 + SLACK)
        _, lowest, highest = extent(moved, change, self._ramp, self._top)
        slack = SLACK * (limits.upper - limits.lower)
        # from outside the limits the way back is open
        low, high = np.minimum(limits.lower, position) - slack, np.maximum(limits.upper, position) + slack
        fast = (np.abs(moved) > most) | (np.abs(end_speed(moved, change, self._ramp)) > most)
        within = (position + moved + lowest >= low) & (position + moved + highest <= high)
        return within & ~fast
