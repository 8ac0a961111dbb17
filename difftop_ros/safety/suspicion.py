"""Signs of false measurements that show over several readings: to and fro, against their own velocity, frozen.

Each `see` is told a reading and answers with a verdict. Believing or not is belief.py's matter.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from difftop_ros.safety.gate import PASS, Verdict
from difftop_ros.safety.limits import MotionLimits

SWING = 0.005  # share of a joint's range: smaller moves to and fro are noise
HARDER = 3.0  # multiple of the acceleration limit beyond which a reversal is not a motion
TO_SPEED_S = 0.05  # in which a joint without an acceleration limit is taken to reach its top speed
SWINGS, WITHIN_S = 4, 0.5  # reversals within this time that are no accident
MEMORY_S = 0.3  # over which motion and velocity are compared
OPPOSED = 0.005  # share of a joint's range: smaller differences of motion and velocity are noise
OPPOSED_S = 0.25
FROZEN = 0.02  # share of a joint's range that commands must have moved while its readings did not
FROZEN_S = 0.25


class Swings:
    """Positions that jump to and fro between readings: two drivers of one joint that do not agree."""

    def __init__(self, limits: MotionLimits) -> None:
        self._limits = limits
        self._noise = SWING * (limits.upper - limits.lower)
        known = np.isfinite(limits.acceleration)
        self._most = HARDER * np.where(known, limits.acceleration, limits.velocity / TO_SPEED_S)
        self._before: np.ndarray | None = None
        self._stamps = np.zeros(limits.size, dtype=np.int64)
        self._moved, self._passed_s = np.zeros(limits.size), np.ones(limits.size)
        self._times: deque[int] = deque(maxlen=SWINGS)
        self._said = PASS

    def see(self, position: np.ndarray, velocity: np.ndarray | None, stamp_ns: int, joints: np.ndarray) -> Verdict:
        """See Belief.judge."""
        if self._before is None:
            self._before = position.copy()
            self._stamps[:] = stamp_ns
            return PASS
        moved = (position - self._before)[joints]
        passed_s = np.maximum((stamp_ns - self._stamps[joints]) / 1e9, 1e-3)
        size = np.minimum(np.abs(moved), np.abs(self._moved[joints]))
        change = (np.abs(moved) / passed_s + np.abs(self._moved[joints]) / self._passed_s[joints]) / passed_s
        swung = (moved * self._moved[joints] < 0) & (size > self._noise[joints]) & (change > self._most[joints])
        self._before = position.copy()
        self._stamps[joints], self._moved[joints], self._passed_s[joints] = stamp_ns, moved, passed_s
        if swung.any():
            joint = int(joints[int(np.argmax(swung))])
            self._times.append(stamp_ns)
            self._said = Verdict(
                False,
                "two drivers",
                f"joint '{self._limits.names[joint]}' is measured to and fro by {abs(self._moved[joint]):.3f} "
                f"{self._limits.units[joint]} from reading to reading: two drivers that do not agree; end one of them",
            )
        recent = len(self._times) == SWINGS and abs(stamp_ns - self._times[0]) < WITHIN_S * 1e9
        return self._said if recent else PASS


class Opposed:
    """Positions that move against the velocity their own driver tells, for long: a sign is wrong in one of the two."""

    def __init__(self, limits: MotionLimits) -> None:
        self._limits = limits
        self._noise = OPPOSED * (limits.upper - limits.lower)
        self._before: np.ndarray | None = None
        self._stamps = np.zeros(limits.size, dtype=np.int64)
        self._moved, self._told = np.zeros(limits.size), np.zeros(limits.size)
        self._since = np.full(limits.size, -1, dtype=np.int64)

    def see(self, position: np.ndarray, velocity: np.ndarray | None, stamp_ns: int, joints: np.ndarray) -> Verdict:
        """See Belief.judge."""
        if self._before is None:
            self._before = position.copy()
            self._stamps[:] = stamp_ns
            return PASS
        passed_s = np.clip((stamp_ns - self._stamps[joints]) / 1e9, 0.0, MEMORY_S)
        kept = np.exp(-passed_s / MEMORY_S)
        told = np.zeros(len(joints)) if velocity is None else velocity[joints]
        told = np.where(np.isfinite(told), told, 0.0)  # a driver that says nothing does not contradict itself
        self._moved[joints] = kept * self._moved[joints] + (position - self._before)[joints]
        self._told[joints] = kept * self._told[joints] + told * passed_s
        self._before = position.copy()
        self._stamps[joints] = stamp_ns
        clear = np.minimum(np.abs(self._moved), np.abs(self._told)) > self._noise
        opposed = clear & (self._moved * self._told < 0)
        self._since = np.where(opposed, np.where(self._since < 0, stamp_ns, self._since), -1)
        long = opposed & (stamp_ns - self._since > OPPOSED_S * 1e9)
        if not long.any():
            return PASS
        joint = int(np.argmax(long))
        return Verdict(
            False,
            "velocity",
            f"joint '{self._limits.names[joint]}' is measured moving against the velocity its driver tells; correct "
            "the sign in the driver",
        )


class Frozen:
    """Readings that stay the same to the last bit while commands move: a driver that repeats what it once read.

    Joints that are measured together are judged together, as a gripper that holds an object does stand still. So one
    joint that has a driver of its own is not judged; the gate's tracking check is there for it.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self._limits = limits
        self._enough = FROZEN * (limits.upper - limits.lower)
        self._asked = np.zeros(limits.size)  # where commands have led [unit], from anywhere
        self._started = False
        self._groups: dict[bytes, _Group] = {}

    def commanded(self, values: np.ndarray) -> None:
        """Take note of a command (A,)."""
        limits = self._limits
        if limits.mode == "position":
            self._asked = np.array(values)
        else:
            self._asked = self._asked + values * (limits.dt if limits.mode == "velocity" else 1.0)
        for group in self._groups.values():
            group.low = np.minimum(group.low, self._asked) if self._started else self._asked
            group.high = np.maximum(group.high, self._asked) if self._started else self._asked
        self._started = True

    def see(self, position: np.ndarray, velocity: np.ndarray | None, stamp_ns: int, joints: np.ndarray) -> Verdict:
        """See Belief.judge."""
        if len(joints) == 1 < self._limits.size:
            return PASS
        group = self._groups.get(joints.tobytes())
        if group is None or not np.array_equal(group.position, position[joints]):
            self._groups[joints.tobytes()] = _Group(position[joints], stamp_ns, self._asked)
            return PASS
        led = (group.high - group.low)[joints] / self._enough[joints]
        if stamp_ns - group.since_ns < FROZEN_S * 1e9 or led.max() <= 1:
            return PASS
        joint = int(joints[int(np.argmax(led))])
        return Verdict(
            False,
            "frozen",
            f"the joints' readings have not changed for {(stamp_ns - group.since_ns) / 1e9:.1f} s while joint "
            f"'{self._limits.names[joint]}' was commanded to move; check the driver, or what blocks the robot",
        )


class _Group:
    """What joints measured together read last, since when, and between what commands have led meanwhile."""

    def __init__(self, position: np.ndarray, since_ns: int, asked: np.ndarray) -> None:
        self.position, self.since_ns = position.copy(), since_ns
        self.low = self.high = asked
