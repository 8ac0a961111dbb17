"""Whether a measurement can be true, before anything follows it. What is done about one that cannot is not said here.

A driver that restarts, a wrong topic or a second publisher can send positions that are well formed, fresh and false.
Signs that only show over several readings are suspicion.py's.
"""

from __future__ import annotations

import numpy as np

from difftop_ros.safety.gate import PASS, Verdict
from difftop_ros.safety.limits import MotionLimits
from difftop_ros.safety.suspicion import Frozen, Opposed, Swings

OUTSIDE = 0.05  # share of a joint's range by which encoders and soft stops may exceed its limits
NOISE = 0.005  # share of a joint's range by which two readings of a resting joint may differ
JITTER_S = 0.04  # by which the stamps of two readings may be wrong: as long a joint may have moved on
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
        self._all = np.arange(limits.size)
        self._begin(0)

    def _begin(self, stamp_ns: int) -> None:
        self.position: np.ndarray | None = None
        self._stamps = np.full(self._limits.size, stamp_ns, dtype=np.int64)
        self._good, self._settled = AGAIN, 0
        self._frozen = Frozen(self._limits)
        self._suspicions = (Swings(self._limits), Opposed(self._limits))

    def commanded(self, values: np.ndarray) -> None:
        """Take note of a command (A,) that was published: readings that stand still meanwhile are noticed."""
        self._frozen.commanded(values)

    def judge(
        self,
        position: np.ndarray,
        stamp_ns: int,
        velocity: np.ndarray | None = None,
        joints: np.ndarray | None = None,
    ) -> Verdict:
        """Whether `position` (A,) [unit] is believed; the kind of doubt and a sentence if not.

        `joints` (n,) are the indices measured at `stamp_ns` [ns], None for all; the others are older. `velocity` (A,)
        [unit/s] is what the driver says of them, NaN where it says nothing.
        """
        measured = self._all if joints is None else joints
        if self.position is not None and stamp_ns < self._stamps.max() - round(BACK_S * 1e9):
            self._begin(stamp_ns)
        passed_s = (stamp_ns - self._stamps) / 1e9
        self._stamps[measured] = np.maximum(self._stamps[measured], stamp_ns)
        verdict = self._outside(position)
        if verdict.ok:
            verdict = self._jumped(position, passed_s)
            if not verdict.ok and self._settled < AGAIN:
                verdict, self._settled = PASS, 0
            signs = [s.see(position, velocity, stamp_ns, measured) for s in (*self._suspicions, self._frozen)]
            verdict = verdict if not verdict.ok else next((sign for sign in signs if not sign.ok), PASS)
        if not verdict.ok:
            self._good = 0
            return verdict
        self._settled += 1
        self._good += 1
        if self._good < AGAIN:
            said = f"the joints' positions are plausible again, {self._good} of {AGAIN} readings in a row"
            return Verdict(False, "recovering", said)
        self.position = position.copy()
        return PASS

    def _outside(self, position: np.ndarray) -> Verdict:
        low, high = self._limits.lower - self._margin, self._limits.upper + self._margin
        wrong = ~((position >= low) & (position <= high))  # so that NaN is wrong too
        if not wrong.any():
            return PASS
        joint = int(np.argmax(wrong))
        return Verdict(
            False,
            "limits",
            f"joint '{self._limits.names[joint]}' is measured at {position[joint]:.4g} {self._limits.units[joint]}, "
            f"outside its limits [{self._limits.lower[joint]:g}, {self._limits.upper[joint]:g}]; check its driver",
        )

    def reach(self, passed_s: np.ndarray | float) -> np.ndarray:
        """How far (A,) [unit] readings `passed_s` [s] apart may differ."""
        moved_s = np.clip(passed_s, SHORTEST_S, LONGEST_S) + JITTER_S
        return moved_s * self._limits.velocity + self._noise

    def _jumped(self, position: np.ndarray, passed_s: np.ndarray) -> Verdict:
        if self.position is None:
            return PASS
        moved = np.abs(position - self.position)
        excess = moved / self.reach(passed_s)
        joint = int(np.argmax(excess))
        if excess[joint] <= 1:
            return PASS
        name, unit = self._limits.names[joint], self._limits.units[joint]
        return Verdict(
            False,
            "jump",
            f"joint '{name}' is measured {moved[joint]:.3f} {unit} from where it was, more than its velocity limit "
            "allows; check for a second publisher or a restarted driver, then activate again",
        )
