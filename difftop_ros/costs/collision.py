"""Keep the robot clear of what is known or seen: its spheres against shapes and against a distance field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from difftop_ros.costs.field import Grid
from difftop_ros.costs.kinematics import RobotModel
from difftop_ros.costs.shapes import Shapes


@dataclass(frozen=True)
class Clearance:
    """Where a plan comes nearest: distance [m] (negative inside), step, link, and its sphere's place (3,) [m]."""

    distance: float
    step: int
    link: str
    place: tuple[float, float, float]


class Collision:
    """weight * sum over steps and spheres of ((margin - distance) / margin)^3 where a sphere is nearer than the margin.

    The third power is gentle at the margin's edge, so that a goal a little within it is still reached; steep inside.

    The motion between two steps is looked at too: `between` more configurations on each stretch, the first one from
    where the robot is. Zero, with zero gradient, for a plan that keeps its distance. Weight, margin, shapes, field and
    the robot's position may change under a prepared solve.
    """

    def __init__(
        self,
        robot: RobotModel,
        *,
        margin: float = 0.02,
        weight: float = 1.0,
        grid: Grid | None = None,
        between: int = 1,
    ) -> None:
        """margin [m]; grid: where clouds are looked up, None for shapes alone. Raises ValueError for bad numbers."""
        if not (margin > 0 and weight >= 0 and between >= 0):
            raise ValueError(f"margin {margin}, weight {weight}, between {between}; expected > 0, >= 0 and >= 0")
        self.robot, self.grid, self.between = robot, grid, between
        self.margin, self.weight = margin, weight
        self.position = torch.zeros(len(robot.joints))
        self.shapes = Shapes.none()
        self.soon = Shapes.none(0, 0, 0)  # where shapes that move will be: heeded as those, and may contain the robot
        self._share = torch.arange(1, between + 2) / (between + 1)
        self._tree: cKDTree | None = None
        self._field = torch.full((1, *(grid.size if grid else (1, 1, 1))), 1e3)

    def see(self, points: np.ndarray) -> None:
        """Take a cloud (n, 3) [m] in the base frame as what is in the way from now on."""
        if self.grid is None:
            raise ValueError("no grid was given to look clouds up in; give one when making the term")
        # a sphere that touches the margin interpolates between cells up to a cell's diagonal farther away
        reach = self.margin + float(self.robot.radii.max()) + 3**0.5 * self.grid.cell
        self._field = torch.from_numpy(self.grid.field(points, reach))[None]
        finite = points[np.isfinite(points).all(1)]
        self._tree = cKDTree(finite) if len(finite) else None

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), margin (), position (A,), the shapes' rows and the field, without a batch."""
        shapes = (group[0] for group in self.shapes.and_also(self.soon).groups)
        return torch.tensor(self.weight), torch.tensor(self.margin), self.position, *shapes, self._field[0]

    def __call__(self, commands: Tensor, weight: Tensor, margin: Tensor, position: Tensor, *around: Tensor) -> Tensor:
        """commands (B, H, A) [rad | m] -> cost (B,)."""
        near = margin[:, None, None] - self._distances(self._sweep(commands, position), *around)
        return weight * (near.clamp_min(0.0) / margin[:, None, None]).pow(3).sum((1, 2))

    def _sweep(self, commands: Tensor, position: Tensor) -> Tensor:
        """The configurations (B, H (between + 1), A) on the way, each stretch's end last."""
        path = torch.cat([position[:, None], commands], dim=1)
        share = self._share.to(path)[:, None]
        return (path[:, :-1, None] + share * path.diff(dim=1)[:, :, None]).flatten(1, 2)

    def _distances(self, swept: Tensor, boxes: Tensor, cylinders: Tensor, planes: Tensor, field: Tensor) -> Tensor:
        """Clearance (B, T, S) [m] of every sphere in every configuration (B, T, A)."""
        centres = self.robot.sphere_centres(swept)
        distance = Shapes(boxes, cylinders, planes).distance(centres)
        if self.grid is not None:
            distance = torch.minimum(distance, self.grid.lookup(field, centres))
        return distance - self.robot.radii

    @torch.no_grad()
    def clearance(self, commands: Tensor | np.ndarray) -> Clearance:
        """Where a plan (H, A) comes nearest to anything: the true distance, not that of the field."""
        position = self.position
        swept = self._sweep(torch.as_tensor(commands, dtype=position.dtype)[None], position[None])[0]
        centres = self.robot.sphere_centres(swept)
        distance = self.shapes.and_also(self.soon).distance(centres[None])[0]
        if self._tree is not None:
            seen = self._tree.query(centres.numpy())[0]
            distance = torch.minimum(distance, torch.from_numpy(seen).to(distance))
        distance = distance - self.robot.radii
        row, sphere = divmod(int(distance.argmin()), distance.shape[1])
        spheres = self.robot.body.spheres
        assert spheres is not None  # sphere_centres has refused a robot without
        x, y, z = centres[row, sphere].tolist()
        return Clearance(float(distance[row, sphere]), row // (self.between + 1), spheres.links[sphere], (x, y, z))
