"""Where the tool's point may be, and how fast it goes, as costs. Limits that are kept for certain: keep.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from difftop_ros.contract.shapes import AnyShape, Box
from difftop_ros.costs.kinematics import RobotModel
from difftop_ros.costs.shapes import Shapes


class ToolSpeed:
    """weight * sum over steps of (excess / limit)^2, where the tool's point is planned faster than `most` [m/s].

    The first step counts from where the robot is (`position`).
    """

    def __init__(self, robot: RobotModel, frame: str, most: float, rate_hz: float, weight: float = 1.0) -> None:
        """rate_hz: steps of the plan per second. Raises ValueError for numbers that are not above 0."""
        if not (most > 0 and rate_hz > 0):
            raise ValueError(f"most is {most} m/s, rate_hz {rate_hz}; expected numbers above 0")
        self.robot, self.frame, self.most, self.rate_hz, self.weight = robot, frame, most, rate_hz, weight
        self.position = torch.zeros(len(robot.joints))
        robot.pose(self.position, frame)  # says now if there is no such frame

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), limit () [m/s], position (A,)."""
        return torch.tensor(self.weight), torch.tensor(self.most), self.position

    def __call__(self, commands: Tensor, weight: Tensor, most: Tensor, position: Tensor) -> Tensor:
        """commands (B, H, A) -> cost (B,)."""
        places = self.robot.pose(torch.cat([position[:, None], commands], dim=1), self.frame)[..., :3, 3]
        speed = self.rate_hz * (places.diff(dim=1).square().sum(2) + 1e-12).sqrt()
        return weight * (speed / most[:, None] - 1.0).clamp_min(0.0).square().sum(1)


class ToolRegion:
    """weight * sum over steps of (depth / softness)^2, where the tool's point is outside a box or inside a shape.

    The shapes count as larger by `margin` [m], the box as smaller. Shapes and box may change under a prepared solve.
    """

    SOFTNESS_M = 0.01

    def __init__(
        self,
        robot: RobotModel,
        frame: str,
        keep_in: Box | None = None,
        keep_out: Sequence[AnyShape] = (),
        margin: float = 0.0,
        weight: float = 1.0,
    ) -> None:
        """Raises ValueError where neither box nor shape is given."""
        if keep_in is None and not keep_out:
            raise ValueError("neither keep_in nor keep_out is given; give a box to stay in, or shapes to stay out of")
        self.robot, self.frame, self.margin, self.weight = robot, frame, margin, weight
        self.keep_out, self._boxed = Shapes.of(keep_out), keep_in is not None
        self.keep_in = Shapes.of([keep_in] if keep_in is not None else []).boxes
        robot.pose(torch.zeros(len(robot.joints)), frame)

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), margin (), the box's row, and the shapes'."""
        out = self.keep_out
        shapes = (out.boxes[0], out.cylinders[0], out.planes[0])
        return torch.tensor(self.weight), torch.tensor(self.margin), self.keep_in[0], *shapes

    def __call__(self, commands: Tensor, weight: Tensor, margin: Tensor, inside: Tensor, *outside: Tensor) -> Tensor:
        """commands (B, H, A) -> cost (B,)."""
        places = self.robot.pose(commands, self.frame)[..., :3, 3]
        boxes, cylinders, planes = outside
        depth = (margin[:, None] - Shapes(boxes, cylinders, planes).distance(places)).clamp_min(0.0)
        if self._boxed:
            within = Shapes(inside, cylinders[:, :0], planes[:, :0]).distance(places)
            depth = depth + (within + margin[:, None]).clamp_min(0.0)
        return weight * (depth / self.SOFTNESS_M).square().sum(1)
