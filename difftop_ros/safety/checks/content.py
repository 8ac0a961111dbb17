"""Whether a command is one at all: finite numbers, one for each joint of the contract, in its order."""

from __future__ import annotations

import numpy as np

from difftop_ros.safety.checks.base import GateSettings, LastCommand, Proposal


class Finite:
    """No NaN and no infinity; comparisons in later checks would let a NaN pass."""

    kind = "finite"

    def __init__(self, settings: GateSettings) -> None:
        pass

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        values = np.asarray(proposal.values, dtype=np.float64).ravel()
        bad = ~np.isfinite(values)
        if not bad.any():
            return ""
        joint = int(np.argmax(bad))
        name = proposal.names[joint] if joint < len(proposal.names) else f"number {joint}"
        return (
            f"the command for joint '{name}' is {values[joint]}; a command must be a finite number: check the "
            "policy's output"
        )


class JointNames:
    """The contract's joints in the contract's order, one number each."""

    kind = "joint names"

    def __init__(self, settings: GateSettings) -> None:
        pass

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        """See Check."""
        limits, names = last.limits, tuple(proposal.names)
        if names != limits.names:
            return (
                f"the command is for joints {list(names)}, the contract commands {list(limits.names)} in this "
                "order; run the policy under the contract it was trained with"
            )
        shape = np.shape(proposal.values)
        if shape != (limits.size,):
            return f"the command has shape {shape}, expected ({limits.size},): one number per joint"
        return ""
