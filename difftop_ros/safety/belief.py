"""Whether a measurement can be true, before anything follows it. What is done about one that cannot is not said here.

A driver that restarts, a wrong topic or a second publisher can send positions that are well formed, fresh and false.
"""

from __future__ import annotations

import numpy as np

from difftop_ros.safety.limits import MotionLimits

OUTSIDE = 0.05  # share of a joint's range by which encoders and soft stops may exceed its limits
FASTER = 3.0  # multiple of the velocity limit that a measurement may show: filters overshoot, stamps jitter
NOISE = 0.005  # share of a joint's range by which two readings of a resting joint may differ
SHORTEST_S, LONGEST_S = 0.02, 0.25  # of the time between two readings, for what a joint can have moved in it
BACK_S = 1.0  # time that goes back by more is another time; by less, the order of two topics
AGAIN = 5  # plausible readings in a row after which a pose is believed again


class Belief:
    """Judges positions in order of time; `position` is the last believed one, None before the first.

    The first AGAIN readings settle where the robot is: a jump among them begins anew, as nothing follows them yet.
    After a reading that cannot be true nothing is believed until AGAIN readings in a row lie where the joints can have
    got to, from the last believed pose in the time since the reading before: how long a false reading lasts does not
    make it true, and a robot that is really elsewhere must be activated anew. Time that goes back (a simulation's
    reset) begins anew. Not thread-safe.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self._limits = limits
        self._margin = OUTSIDE * (limits.upper - limits.lower)
        self._noise = NOISE * (limits.upper - limits.lower)
        self.position: np.ndarray | None = None
        self._stamp_ns = 0
        self._good = AGAIN
        self._settled = 0

    def judge(self, position: np.ndarray, stamp_ns: int) -> str:
        """Why `position` (A,) [unit], measured at `stamp_ns` [ns], is not believed; '' if it is."""
        if self.position is not None and stamp_ns < self._stamp_ns - round(BACK_S * 1e9):
            self.position, self._stamp_ns, self._good, self._settled = None, stamp_ns, AGAIN, 0
        passed_s = min(max((stamp_ns - self._stamp_ns) / 1e9, SHORTEST_S), LONGEST_S)
        self._stamp_ns = max(stamp_ns, self._stamp_ns)
        outside = self._outside(position)
        jumped = "" if outside else self._jumped(position, passed_s)
        if jumped and self._settled < AGAIN:
            jumped, self._settled = "", 0
        if outside or jumped:
            self._good = 0
            return outside or jumped
        self._settled += 1
        self._good += 1
        if self._good < AGAIN:
            return f"the joints' positions are plausible again, {self._good} of {AGAIN} readings in a row"
        self.position = position.copy()
        return ""

    def _outside(self, position: np.ndarray) -> str:
        low, high = self._limits.lower - self._margin, self._limits.upper + self._margin
        wrong = ~((position >= low) & (position <= high))  # so that NaN is wrong too
        if not wrong.any():
            return ""
        joint = int(np.argmax(wrong))
        return (
            f"joint '{self._limits.names[joint]}' is measured at {position[joint]:.4g} {self._limits.units[joint]}, "
            f"outside its limits [{self._limits.lower[joint]:g}, {self._limits.upper[joint]:g}]; check its driver"
        )

    def _jumped(self, position: np.ndarray, passed_s: float) -> str:
        if self.position is None:
            return ""
        moved = np.abs(position - self.position)
        excess = moved / (FASTER * passed_s * self._limits.velocity + self._noise)
        joint = int(np.argmax(excess))
        if excess[joint] <= 1:
            return ""
        name, unit = self._limits.names[joint], self._limits.units[joint]
        return (
            f"joint '{name}' is measured {moved[joint]:.3f} {unit} from where it was, more than {FASTER:g} times its "
            "velocity limit allows; check for a second publisher or a restarted driver, then activate again"
        )
