"""Brings a plan within the limits of a run: the tool inside its region, then the whole way as slow as joints must be.

Slowing keeps the way: all joints wait for the one that is too fast, where clamping each by itself would cut corners.
"""

from __future__ import annotations

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.contract.run_limits import RunLimits
from difftop_ros.space.body import body_of
from difftop_ros.space.tool import ToolRegion, tool_region

EXACT = 1.0 - 1e-6  # a share of the limit that rounding does not take beyond it


class Kept:
    """Plans (H, A) of one robot, made to keep the limits."""

    def __init__(self, limits: RunLimits, contract: Contract) -> None:
        """Raises UserError for limits of the tool where the contract lacks its model or frame."""
        command = contract.command
        self._step = EXACT * limits.velocity * np.array([joint.velocity for joint in command.joints]) / contract.rate_hz
        self._near = 5.0 * self._step
        self._fixed = np.array([name in contract.robot.coupling for name in command.joint_names])
        self._bounds = np.array(command.bounds())
        self._tool: ToolRegion | None = None
        if limits.tool is not None:
            self._tool = tool_region(limits.tool, body_of(contract), contract)
        self._sent: np.ndarray | None = None

    def reset(self) -> None:
        """Begin where the robot is."""
        self._sent = None

    def __call__(self, plan: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The plan from where the last one began, or if that is not near from the measured `position` (A,)."""
        start = position
        if self._sent is not None and (np.abs(self._sent - position) <= self._near).all():
            start = self._sent
        if self._tool is not None:
            plan = np.clip(self._tool.inside(plan, self._fixed), *self._bounds)
        found = slowed(np.vstack([start, plan]), self._step)
        self._sent = found[0]
        return found


def slowed(path: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Places (K - 1, A) along the way `path` (K, A), each at most `step` (A,) from the one before, the first of all."""
    asked = (np.abs(np.diff(path, axis=0)) / step).max(1)
    if (asked <= 1.0).all():
        return path[1:]
    times = np.concatenate([[0.0], np.cumsum(np.maximum(asked, 1.0))])
    wanted = np.arange(1, len(path))
    return np.stack([np.interp(wanted, times, column) for column in path.T], axis=1)
