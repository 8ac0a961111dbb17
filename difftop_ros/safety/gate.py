"""The command gate: the last thing before a publish. It answers yes or no and never changes a number.

It asks an ordered list of checks (safety/checks/) and takes the first sentence for its answer. Not here: shaping of
motion (shaper.py), the hold (hold.py), anything of ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from difftop_ros.safety.checks.base import Check, LastCommand, Proposal
from difftop_ros.safety.limits import MotionLimits

START_MARGIN = 0.05


@dataclass(frozen=True)
class Verdict:
    """The gate's answer; `kind` names the check that failed and `reason` is a sentence, both '' when ok."""

    ok: bool
    kind: str = ""
    reason: str = ""


PASS = Verdict(True)


class CommandGate:
    """Asks `checks` in order, about commands under `limits`; keeps the last published one, which `commit` records."""

    def __init__(self, limits: MotionLimits, checks: Sequence[Check]) -> None:
        self.limits = limits
        self.checks = tuple(checks)
        self._last = self._at_rest(None)

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
        start = np.array(position, dtype=np.float64) if self.limits.mode == "position" else None
        self._last = self._at_rest(start)

    def _at_rest(self, position: np.ndarray | None) -> LastCommand:
        return LastCommand(self.limits, position, np.zeros(self.limits.size), np.zeros(self.limits.size))

    def commit(self, values: np.ndarray) -> None:
        """Record the command (A,) that was published."""
        self._last = self._last.next(values)

    def check(self, proposal: Proposal) -> Verdict:
        """May this command be published? Raises nothing; any doubt is a no, also a check that fails itself."""
        if self.limits.mode == "position" and self._last.position is None:
            return Verdict(False, "start", "the gate knows no start position; reset it to the measured pose first")
        values = np.asarray(proposal.values).view()
        values.setflags(write=False)  # no check changes what the checks before it have passed
        proposal = replace(proposal, values=values)
        for check in self.checks:
            try:
                reason = check.fault(proposal, self._last)
            except Exception as error:
                reason = f"the check '{check.kind}' itself failed: {type(error).__name__}: {error}; mend that check"
            if reason != "":
                return Verdict(False, check.kind, str(reason))
        return PASS
