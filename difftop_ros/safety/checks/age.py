"""Whether what a command is based on is recent: the plan's observation and the measured joint positions."""

from __future__ import annotations

import numpy as np

from difftop_ros.safety.checks.base import GateSettings, LastCommand, Proposal


class PlanAge:
    """A plan from an old observation is not followed."""

    kind = "plan age"

    def __init__(self, settings: GateSettings) -> None:
        self._most_ms = settings.max_plan_age_ms

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        age_ms = proposal.plan_age_ms
        if age_ms is None or age_ms <= self._most_ms:
            return ""
        return (
            f"the plan is {age_ms:.0f} ms old, max_plan_age_ms is {self._most_ms:g}; the planner or a "
            "sensor stream is too slow or has stopped"
        )


class Measurement:
    """A plan is followed only while it is known where the robot is."""

    kind = "measurement"

    def __init__(self, settings: GateSettings) -> None:
        self._most_ms = settings.max_measured_age_ms

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        if proposal.holds:
            return ""
        if not proposal.measured_age_ms <= self._most_ms:
            return (
                f"the joint states are {proposal.measured_age_ms:.0f} ms old, the contract allows "
                f"{self._most_ms:g} ms; check their publisher"
            )
        measured, limits = proposal.measured, last.limits
        bad = ~np.isfinite(measured) if np.shape(measured) == (limits.size,) else np.ones(1, dtype=bool)
        if not bad.any():
            return ""
        name = limits.names[int(np.argmax(bad))]
        return f"the measured position of joint '{name}' is not a finite number; check its joint state driver"
