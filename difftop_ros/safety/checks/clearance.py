"""Whether a command can still be stopped before the robot touches what it must not touch."""

from __future__ import annotations

from difftop_ros.safety.checks.base import GateSettings, LastCommand, Proposal


class Clearance:
    """The way of the command, and of the quickest stop after it, touches nothing that the guard knows or sees."""

    kind = "clearance"

    def __init__(self, settings: GateSettings) -> None:
        self._guard = settings.guard

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        if self._guard is None or proposal.holds:  # a stop must remain possible
            return ""
        return self._guard.stopping(proposal.values, last)
