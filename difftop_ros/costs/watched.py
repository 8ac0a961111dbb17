"""A collision cost with the clouds that it looks at, and what the policy need not see of them.

A policy that never saw a post in training is disturbed by the points of one, so they may be withheld from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from difftop_ros.contract import CloudObs, Contract
from difftop_ros.costs.collision import Collision
from difftop_ros.costs.kinds import CollisionOptions
from difftop_ros.costs.solve import CostsFailed
from difftop_ros.space.relative import in_base
from difftop_ros.space.sight import Sight

SURFACE_M = 0.02  # points so near to a known shape are its own
COLUMN_M = 0.03  # a point that low may count as nothing is still an obstacle's if it lies below one of its points


class Watched:
    """Gives a Collision what the newest cloud shows."""

    def __init__(self, term: Collision, options: CollisionOptions, contract: Contract) -> None:
        self._term, self._options, self._contract = term, options, contract
        self._sight = Sight(term.robot.body, options, contract)
        self._clouds = [key for key, obs in contract.observations.items() if obs.modality == "cloud"]

    def reset(self) -> None:
        """Forget what was seen."""
        self._sight.reset()

    def look(self, obs: Mapping[str, np.ndarray], time_s: float, ages_ms: Mapping[str, float]) -> None:
        """Take the newest frame of the cost's cloud. Raises UserError for a cloud that is missing or too old."""
        if self._options.cloud is not None:
            self._term.see(self._sight.in_frames(obs, time_s, ages_ms))

    @torch.no_grad()
    def refuse_inside(self, position: Tensor) -> None:
        """Raises CostsFailed if a known shape contains a part of the robot at `position` (A,): the shape is wrong."""
        robot = self._term.robot
        distance = self._term.shapes.distance(robot.sphere_centres(position)[None])[0]
        sphere = int(distance.argmin())
        if distance[sphere] < 0:
            assert robot.body.spheres is not None
            raise CostsFailed(
                f"{robot.body.spheres.links[sphere]} stands {-1e3 * float(distance[sphere]):.0f} mm deep inside a "
                "shape of the costs; correct that shape, or move the robot away by hand"
            )

    def withhold(self, obs: Mapping[str, np.ndarray], position: Tensor) -> dict[str, np.ndarray]:
        """The frames with each obstacle point replaced by another point of its cloud; the rest as it is."""
        found = dict(obs)
        for key in self._clouds if self._options.withhold else ():
            if key in found:
                found[key] = np.stack([self._without(key, frame, position) for frame in found[key]])
        return found

    def _without(self, key: str, frame: np.ndarray, position: Tensor) -> np.ndarray:
        points, cloud = np.asarray(frame[:, :3], np.float32), self._contract.observations[key]
        if isinstance(cloud, CloudObs) and cloud.relative_to is not None:
            tool = str(self._contract.robot.tool_frame)
            points = in_base(points, cloud, self._term.robot.body.pose(position.double().numpy()[None], tool)[0])
        hidden = self._known(points)
        if self._options.cloud is not None:
            seen = self._sight.among(points, position.double().numpy())
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
