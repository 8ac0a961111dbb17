"""What a collision cost sees in a cloud, and what a policy need not see of it.

A cloud holds the robot itself, what it is to touch, and what is in its way. The last is the cost's affair: a policy
that never saw a post in training is disturbed by the points of one, so they may be withheld from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from difftop_ros.contract import Contract
from difftop_ros.costs.collision import Collision
from difftop_ros.costs.kinds import CollisionOptions

SURFACE_M = 0.02  # points so near to a known shape are its own
COLUMN_M = 0.03  # a point that low may count as nothing is still an obstacle's if it lies below one of its points


class Sight:
    """Gives a Collision the newest cloud, and those of the last `memory_s`, for what the arm hides meanwhile."""

    def __init__(self, term: Collision, options: CollisionOptions, contract: Contract) -> None:
        self._term, self._options = term, options
        self._tool = contract.robot.tool_frame
        self._clouds = [key for key, obs in contract.observations.items() if obs.modality == "cloud"]
        self._memory: list[np.ndarray] = []
        self._most = max(round(options.memory_s * contract.rate_hz), 1)

    def reset(self) -> None:
        """Forget what was seen."""
        self._memory = []

    def look(self, obs: Mapping[str, np.ndarray], position: Tensor) -> None:
        """Take the newest frame of the cost's cloud, seen with the robot at `position` (A,)."""
        if self._options.cloud is None:
            return
        points = np.asarray(obs[self._options.cloud][-1][:, :3], np.float32)
        self._memory = [*self._memory, points[self._obstacle(points, position)]][-self._most :]
        self._term.see(np.concatenate(self._memory))

    def withhold(self, obs: Mapping[str, np.ndarray], position: Tensor) -> dict[str, np.ndarray]:
        """The frames with each obstacle point replaced by another point of its cloud; the rest as it is."""
        found = dict(obs)
        for key in self._clouds if self._options.withhold else ():
            if key in found:
                found[key] = np.stack([self._without(frame, position) for frame in found[key]])
        return found

    def _without(self, frame: np.ndarray, position: Tensor) -> np.ndarray:
        points = np.asarray(frame[:, :3], np.float32)
        hidden = self._known(points)
        if self._options.cloud is not None:
            seen = self._obstacle(points, position)
            across = np.linalg.norm(points[:, None, :2] - points[None, seen, :2], axis=2)
            hidden |= seen | ((points[:, 2] < self._options.above) & (across < COLUMN_M).any(1))
        if not hidden.any() or hidden.all():
            return frame
        kept = np.flatnonzero(~hidden)
        index = np.arange(len(frame))
        index[hidden] = np.resize(kept, int(hidden.sum()))
        return frame[index]

    @torch.no_grad()
    def _known(self, points: np.ndarray) -> np.ndarray:
        """Which points (n, 3) [m] lie on a known shape."""
        return (self._term.shapes.distance(torch.from_numpy(points)[None])[0] < SURFACE_M).numpy()

    @torch.no_grad()
    def _obstacle(self, points: np.ndarray, position: Tensor) -> np.ndarray:
        """Which points (n, 3) [m] are neither the robot's, nor held or touched by it, nor too low or far away."""
        options, robot = self._options, self._term.robot
        centres = robot.sphere_centres(position).numpy()
        away = np.linalg.norm(points[:, None] - centres, axis=2) >= robot.radii.numpy() + options.robot_margin
        inside = ((points >= np.array(options.low)) & (points <= np.array(options.high))).all(1)  # NaN is not
        found = inside & (points[:, 2] >= options.above) & away.all(1)
        if self._tool is not None:
            tool = robot.pose(position, self._tool)[:3, 3].numpy()
            found &= np.linalg.norm(points - tool, axis=1) >= options.tool_margin
        return found
