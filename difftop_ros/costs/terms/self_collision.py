"""Keep the robot off itself: pairs of its spheres that can meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from difftop_ros.costs.kinematics import RobotModel
from difftop_ros.space import Body


class SelfCollision:
    """weight * sum over steps and pairs of ((margin - distance) / margin)^2 where two spheres are nearer.

    The motion between two steps is looked at half-way too, from where the robot is (`position`) on. Pairs are those of
    `pairs_of`. Weight and margin may change under a prepared solve.
    """

    def __init__(self, robot: RobotModel, rest: Sequence[float], *, margin: float = 0.01, weight: float = 1.0) -> None:
        """rest: commands (A,) of a pose in which nothing touches. Raises ValueError for bad numbers or no pairs."""
        if not (margin > 0 and weight >= 0):
            raise ValueError(f"margin {margin}, weight {weight}; expected > 0 and >= 0")
        pairs = pairs_of(robot.body, np.array(rest), margin)
        if not len(pairs):
            raise ValueError("no two of the robot's spheres can meet: every two links are neighbours or touch at rest")
        self.robot, self.margin, self.weight = robot, margin, weight
        self.pairs = torch.from_numpy(pairs)
        self.position = torch.zeros(len(robot.joints))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), margin (), position (A,)."""
        return torch.tensor(self.weight), torch.tensor(self.margin), self.position

    def __call__(self, commands: Tensor, weight: Tensor, margin: Tensor, position: Tensor) -> Tensor:
        """commands (B, H, A) [rad | m] -> cost (B,)."""
        path = torch.cat([position[:, None], commands], dim=1)
        swept = torch.cat([path[:, 1:], 0.5 * (path[:, 1:] + path[:, :-1])], dim=1)
        near = margin[:, None, None] - self.distances(swept)
        return weight * (near.clamp_min(0.0) / margin[:, None, None]).square().sum((1, 2))

    def distances(self, commands: Tensor) -> Tensor:
        """Gaps (B, T, pairs) [m] between the spheres of each pair, negative where they meet, for commands (B, T, A)."""
        centres, radii = self.robot.sphere_centres(commands), self.robot.radii
        first, second = self.pairs[:, 0], self.pairs[:, 1]
        apart = centres[:, :, first] - centres[:, :, second]
        return (apart.square().sum(3) + 1e-12).sqrt() - radii[first] - radii[second]


def pairs_of(body: Body, rest: np.ndarray, margin: float) -> np.ndarray:
    """Pairs (P, 2) of a body's spheres that are to be kept apart.

    Left out are those on one link, on links that hang on one another or side by side, as fingers do, and on links that
    come nearer than `margin` [m] in the pose `rest` (A,): those are made to. Raises RobotModelError without spheres.
    """
    radii, spheres = body.radii, body.spheres
    assert spheres is not None  # radii has refused a body without
    joints = [int(body.frame_joints[body.row(link)]) for link in spheres.links]
    parents = [int(body.parents[joint]) if joint >= 0 else -2 for joint in joints]
    centres = body.centres(rest[None])[0]
    first, second = np.triu_indices(len(radii), 1)
    neighbours = np.array([
        joints[i] in (joints[j], parents[j]) or parents[i] in (joints[j], parents[j])
        for i, j in zip(first, second, strict=True)
    ])  # fmt: skip
    gaps = np.linalg.norm(centres[first] - centres[second], axis=1) - radii[first] - radii[second]
    made_to = {
        frozenset((spheres.links[i], spheres.links[j]))
        for i, j, gap in zip(first, second, gaps, strict=True)
        if gap < margin
    }
    kept = [
        not near and frozenset((spheres.links[i], spheres.links[j])) not in made_to
        for i, j, near in zip(first, second, neighbours, strict=True)
    ]
    return np.stack([first[kept], second[kept]], axis=1)
