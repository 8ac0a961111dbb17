"""The coming commands as one course, for controllers that follow whole trajectories. One command a tick: control.py.

A controller that is given a course goes on along it by itself: nothing need be sent until the course changes. It is
made by going through the coming ticks with a copy of the shaper, so that it is what would have been sent command by
command, and it always ends at rest, so that a robot whose commander dies comes to a stop. What is decided at a tick
takes effect LEAD ticks later: a message that is no longer than that on its way changes nothing that is over already.
A gripper's action is asked for where it is to go: GripperGoals says when a command is a goal.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from difftop_ros.runtime.plan import PlanBuffer
from difftop_ros.safety import CommandGate, MotionShaper, Proposal

LEAD = 1  # ticks
SAME = 1e-6  # of a joint's range: the course leads where the command is
_MOST_BRAKING_S = 2.0
SHARE = 0.02  # of a gripper's range: a command further than this from the last goal is one of its own
RESTING_SHARE = 0.001  # and a resting command further than this
PERIOD_S, RESTING_S = 0.1, 0.2
# Checks of what is not there yet; those of ages and tracking are asked when its tick has come, as always.
_OF_MOTION = ("finite", "joint names", "position", "velocity", "acceleration", "jerk")


@dataclass(frozen=True)
class Course:
    """Positions and velocities (K, A) [unit, unit/s]; row k is for stamp_ns + k * step_s."""

    stamp_ns: int
    step_s: float
    positions: np.ndarray
    velocities: np.ndarray


class CourseKeeper:
    """Knows the course that the controller follows, and publishes another when the commands leave it or it runs out.

    Used by the control thread alone, in position mode: `begin` before the first command, `follow` after each.
    """

    def __init__(
        self,
        seconds: float,
        plans: PlanBuffer,
        gate: CommandGate,
        shaper: MotionShaper,
        lookahead_ns: int,
        publish: Callable[[Course], None],
    ) -> None:
        """seconds: how far a course follows the plans, then it comes to rest; lookahead_ns: as the control loop's."""
        limits = gate.limits
        self._plans, self._gate, self._shaper = plans, gate, shaper
        self._dt, self._dt_ns = limits.dt, round(limits.dt * 1e9)
        self.lead_ns = LEAD * self._dt_ns  # by so much earlier a command is decided than one that is sent alone
        self._lookahead_ns, self._publish = lookahead_ns + self.lead_ns, publish
        self._steps = max(2, round(seconds / limits.dt))
        self._checks = tuple(check for check in gate.checks if check.kind in _OF_MOTION)
        self._same = SAME * (limits.upper - limits.lower)
        self._recent: list[np.ndarray] = []  # the last LEAD + 1 commands (A,)
        self._course: Course | None = None
        self._at = 0  # row of the last command

    def begin(self, position: np.ndarray) -> None:
        """The robot rests at `position` (A,)."""
        self._recent, self._course = [position] * (LEAD + 1), None

    def meanwhile(self, due_ns: int) -> list[np.ndarray]:
        """Commands (A,) of the course that ticks lost before `due_ns` did not commit: the robot has gone along them."""
        course = self._course
        if course is None:
            return []
        reached = (due_ns - course.stamp_ns + self._dt_ns // 2) // self._dt_ns + LEAD
        rows = list(course.positions[self._at + 1 : reached + 1])
        for row in rows:
            self._went(row)
        return rows

    def _went(self, command: np.ndarray) -> None:
        self._at += 1
        self._recent = [*self._recent[1:], command]

    def follow(self, command: np.ndarray, due_ns: int, moving: bool) -> None:
        """After `command` (A,) of the tick due at `due_ns` was committed; moving: along the plans, not to a hold."""
        if not self._still_on_it(command, moving):
            self._course, self._at = self._ahead(command, due_ns, moving), LEAD
            self._publish(self._course)
        self._went(command)

    def _still_on_it(self, command: np.ndarray, moving: bool) -> bool:
        """Whether the course leads to `command` at the end of this tick, and far enough beyond."""
        course = self._course
        if course is None:
            return False
        here = course.positions[min(self._at + 1, len(course.positions) - 1)]
        left = self._steps - self._at
        return bool(np.all(np.abs(here - command) <= self._same)) and (not moving or left > self._steps // 2)

    def _ahead(self, command: np.ndarray, due_ns: int, moving: bool) -> Course:
        shaper, gate = copy.copy(self._shaper), copy.copy(self._gate)  # both replace what they keep, and change none
        gate.checks = self._checks
        rows = [*self._recent, command]
        for tick in range(1, self._steps if moving else 1):
            row = self._planned(shaper, due_ns + tick * self._dt_ns)
            if row is None or not self._passes(gate, row, rows[-1]):
                break
            rows.append(self._committed(shaper, gate, row))
        for _ in range(round(_MOST_BRAKING_S / self._dt)):
            if shaper.at_rest:
                break
            rows.append(self._committed(shaper, gate, shaper.stop()))
        rows.append(rows[-1])
        positions = np.stack(rows)
        velocities = np.zeros_like(positions)
        velocities[1:-1] = (positions[2:] - positions[:-2]) / (2 * self._dt)
        velocities[: LEAD + 1] = self._speeds_until_then(positions.shape[1])
        return Course(due_ns, self._dt, positions, velocities)

    def _planned(self, shaper: MotionShaper, due_ns: int) -> np.ndarray | None:
        time_ns = due_ns + self._lookahead_ns
        before = self._plans.select(time_ns - self._dt_ns, due_ns)
        target = self._plans.select(time_ns, due_ns)
        return None if before is None or target is None else shaper.propose(before, target, target)

    def _passes(self, gate: CommandGate, row: np.ndarray, before: np.ndarray) -> bool:
        return gate.check(Proposal(gate.limits.names, row, None, before, 0.0)).ok

    @staticmethod
    def _committed(shaper: MotionShaper, gate: CommandGate, row: np.ndarray) -> np.ndarray:
        shaper.commit(row)
        gate.commit(row)
        return row

    def _speeds_until_then(self, joints: int) -> np.ndarray:
        """Speeds (LEAD + 1, A) of the old course up to where the new one leaves it."""
        course = self._course
        if course is None:
            return np.zeros((LEAD + 1, joints))
        rows = np.arange(self._at - LEAD, self._at + 1)
        return course.velocities[np.minimum(rows, len(course.velocities) - 1)]


class GripperGoals:
    """Decides from each tick's command whether a goal is due."""

    def __init__(self, lower: float, upper: float) -> None:
        """lower, upper: the joint's range [unit]."""
        self._range = upper - lower
        self._sent = self._before = math.nan
        self._sent_s = self._still_s = -math.inf

    def due(self, value: float, now_s: float) -> bool:
        """Whether `value` [unit], commanded at `now_s` [s, any steady clock], is to be a goal; if so, it is one."""
        if value != self._before:
            self._before, self._still_s = value, now_s
        away = math.inf if math.isnan(self._sent) else abs(value - self._sent) / self._range
        resting = now_s - self._still_s >= RESTING_S
        if now_s - self._sent_s < PERIOD_S or away <= (RESTING_SHARE if resting else SHARE):
            return False
        self._sent, self._sent_s = value, now_s
        return True

    def forget(self) -> None:
        """The last goal was cancelled: the next command is one of its own."""
        self._sent = math.nan
