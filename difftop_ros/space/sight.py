"""Which points of a cloud are in the way, and for how long they are remembered while the arm hides them.

A cloud holds the robot itself, what it is to touch, and what is in its way. The last alone is an obstacle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial import cKDTree

from difftop_ros.contract import Contract
from difftop_ros.contract.surroundings import Surroundings
from difftop_ros.errors import UserError
from difftop_ros.space.body import Body
from difftop_ros.space.motion import Motion, along

RECENT_S = 0.2  # points are thinned anew in every frame: those of the last few make one dense cloud
SAME_M = 0.02  # a point so near to one that lay in the way is of the same thing
OWN_M = 0.005  # a point nearer to a sphere than this is the robot's own, whatever lay there
VOXEL_M = 0.01  # remembered points are kept once in each cube of this edge
LEFT_M = 0.03  # remembered points so near to where a moving thing was are its own
BEHIND_M = 0.015  # between points that stand for what the camera cannot see of a thing


class StaleCloud(UserError):
    """The cloud is too old to tell what is in the way."""


class Sight:
    """Obstacle points of the newest cloud and of those before it. Used by one thread."""

    def __init__(self, body: Body, options: Surroundings, contract: Contract) -> None:
        """Raises UserError for a cloud that the contract does not have, or a body without spheres."""
        self.options, self._body = options, body
        self._tool, self._rows = contract.robot.tool_frame, contract.measured
        self._eye: np.ndarray | None = None
        self._most_ms = options.max_age_ms or 0.0
        if options.cloud is not None:
            observation = contract.observations.get(options.cloud)
            if observation is None or observation.modality != "cloud":
                clouds = [key for key, obs in contract.observations.items() if obs.modality == "cloud"]
                raise UserError(f"cloud is '{options.cloud}', which is no cloud of the contract; it has {clouds}")
            if getattr(observation, "relative_to", None) is not None:
                raise UserError(
                    f"cloud '{options.cloud}' is relative to the tool; what is in the way is looked for in the base "
                    "frame: add an observation of the same topic without relative_to, and name that"
                )
            transform = getattr(observation, "transform", None)
            # A camera that moves also turns away: what it saw is remembered, whether or not the arm hides it now.
            self._eye = None if transform is None or transform.link or transform.tf else np.array(transform.xyz)
            self._most_ms = options.max_age_ms or observation.max_age_ms
        self._radii = body.radii
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._points, self._times = np.empty((0, 3), np.float32), np.empty(0)
        self._motion = Motion()

    def refuse_stale(self, age_ms: float) -> None:
        """Raises StaleCloud for a cloud of that age [ms] where it is too old to go on with."""
        if self.options.on_stale == "hold" and age_ms > self._most_ms > 0:
            raise StaleCloud(
                f"its cloud '{self.options.cloud}' is {age_ms:.0f} ms old, max_age_ms is {self._most_ms:g}: what is in "
                "the way is not known; check the camera, or say on_stale: go_on"
            )

    def in_frames(self, frames: Mapping[str, np.ndarray], time_s: float, ages_ms: Mapping[str, float]) -> np.ndarray:
        """As `look`, at the newest of an observation's frames (obs_steps, ...), whose ages [ms] are judged first.

        Raises UserError for a cloud that is missing, and StaleCloud.
        """
        cloud = self.options.cloud or ""
        if cloud not in frames:
            raise UserError(f"the observation has no '{cloud}', the cloud to keep clear of; it has {sorted(frames)}")
        self.refuse_stale(ages_ms.get(cloud, 0.0))
        position = np.array([float(frames[key][-1][row]) for key, row in self._rows])
        return self.look(frames[cloud][-1][:, :3], position, time_s)

    def look(self, points: np.ndarray, position: np.ndarray, time_s: float) -> np.ndarray:
        """Obstacle points float32 (n, 3) after a cloud (m, 3) [m] was seen at `time_s` from commands' position (A,).

        Among them where what moves will be soon, and the unseen body behind each point, as the options say.
        """
        points = np.asarray(points, np.float32)
        fresh = points[self.among(points, position)]
        kept = (self._times >= time_s - self.options.memory_s) & (self._times <= time_s)
        kept &= (self._times >= time_s - RECENT_S) | self._hidden(self._points, position)
        ways = self._motion.ways(fresh, time_s) if self.options.ahead_s > 0 else []
        left = along(ways, -self.options.memory_s)  # what moves is no longer where it was
        if len(left) and len(self._points):
            kept &= cKDTree(left).query(self._points, distance_upper_bound=LEFT_M)[0] > LEFT_M
        points = np.concatenate([fresh, self._points[kept]])
        times = np.concatenate([np.full(len(fresh), time_s), self._times[kept]])
        _, first = np.unique(np.floor(points / VOXEL_M).astype(np.int64), axis=0, return_index=True)
        self._points, self._times = points[first], times[first]
        seen = np.concatenate([self._points, along(ways, self.options.ahead_s)])
        return np.concatenate([seen, self._behind(seen, position)])

    def _behind(self, seen: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Points (n, 3) [m] farther along the rays to `seen` (m, 3) ones; none where the robot itself stands."""
        depths = np.arange(1, round(self.options.thickness / BEHIND_M) + 1) * BEHIND_M
        if self._eye is None or not len(depths) or not len(seen):
            return np.empty((0, 3), np.float32)
        rays = seen - self._eye.astype(np.float32)
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-6)
        points = (seen[:, None] + rays[:, None] * depths[:, None].astype(np.float32)).reshape(-1, 3)
        _, first = np.unique(np.floor(points / VOXEL_M).astype(np.int64), axis=0, return_index=True)
        points = points[first]
        beyond = self._beyond(points, position)
        return points[beyond >= self.options.robot_margin]

    def _beyond(self, points: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Distances (n,) [m] of points (n, 3) to the robot's nearest sphere at commands' position (A,)."""
        centres = self._body.centres(position[None])[0]
        return np.asarray((np.linalg.norm(points[:, None] - centres, axis=2) - self._radii).min(1))

    def among(self, points: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Which points (n, 3) [m] are neither the robot's, nor held or touched by it, nor too low or far away; (n,).

        What lay in the way before still does when the robot has come near it: what it holds never did.
        """
        options = self.options
        inside = ((points >= np.array(options.low)) & (points <= np.array(options.high))).all(1)  # NaN is not
        found = inside & (points[:, 2] >= options.above)
        candidates = np.flatnonzero(found)
        beyond = self._beyond(points[candidates], position)
        away = beyond >= options.robot_margin
        if self._tool is not None:
            tool = self._body.pose(position[None], self._tool)[0, :3, 3]
            away &= np.linalg.norm(points[candidates] - tool, axis=1) >= options.tool_margin
        if len(self._points) and not away.all():
            known = cKDTree(self._points).query(points[candidates], distance_upper_bound=SAME_M)[0] <= SAME_M
            away |= known & (beyond >= OWN_M)
        found[candidates] = away
        return found

    def _hidden(self, points: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Which points (n, 3) the robot may hide: a sphere lies between them and the camera. All if that is unknown."""
        if self._eye is None or not len(points):
            return np.ones(len(points), bool)
        centres = self._body.centres(position[None])[0] - self._eye
        ray = points - self._eye
        share = np.clip(ray @ centres.T / np.maximum((ray**2).sum(1), 1e-12)[:, None], 0.0, 1.0)  # (n, S)
        beside = np.linalg.norm(share[..., None] * ray[:, None] - centres, axis=2)
        return (beside < self._radii + self.options.robot_margin).any(1)
