"""Costs on the commanded motion itself: how fast the joints move, and how fast and how tilted the tool is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from difftop_ros.costs.kinematics import RobotModel


class JointSpeed:
    """weight * sum over steps and joints of (excess / limit)^2, where a joint is planned faster than its limit.

    limits: (A,) [unit/s], of position commands `rate_hz` times a second. The first step counts from where the robot is
    (`position`).
    """

    ORDER: ClassVar[int] = 1  # of the differences that are limited

    def __init__(self, limits: Sequence[float], rate_hz: float, weight: float = 1.0) -> None:
        """Raises ValueError for a limit that is not above 0."""
        if not all(limit > 0 for limit in limits):
            raise ValueError(f"limits are {list(limits)}; expected numbers above 0")
        self.weight, self.rate_hz = weight, rate_hz
        self._limits = torch.tensor([*limits], dtype=torch.float32)
        self.position = torch.zeros(len(limits))

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), limits (A,), position (A,)."""
        return torch.tensor(self.weight), self._limits, self.position

    def __call__(self, commands: Tensor, weight: Tensor, limits: Tensor, position: Tensor) -> Tensor:
        """commands (B, H, A) -> cost (B,); none for a plan too short to have any."""
        path = torch.cat([position[:, None], commands], dim=1)
        rate = self.rate_hz**self.ORDER * path.diff(n=self.ORDER, dim=1).abs()
        return weight * (rate / limits[:, None] - 1.0).clamp_min(0.0).square().sum((1, 2))


class ToolHeight:
    """weight * sum over steps of (excess / softness)^2, where the tool's point is above `most` or below `least` [m]."""

    SOFTNESS_M = 0.01

    def __init__(self, robot: RobotModel, frame: str, least: float, most: float, weight: float = 1.0) -> None:
        """Raises ValueError for a range that is empty."""
        if not least < most:
            raise ValueError(f"the tool's height is between {least} and {most} m; expected the first below the second")
        self.robot, self.frame, self.weight = robot, frame, weight
        self._range = torch.tensor([least, most])
        robot.pose(torch.zeros(len(robot.joints)), frame)  # says now if there is no such frame

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), range (2,) [m]."""
        return torch.tensor(self.weight), self._range

    def __call__(self, commands: Tensor, weight: Tensor, range_m: Tensor) -> Tensor:
        """commands (B, H, A) -> cost (B,)."""
        height = self.robot.pose(commands, self.frame)[..., 2, 3]
        outside = torch.maximum(height - range_m[:, 1:], range_m[:, :1] - height).clamp_min(0.0)
        return weight * (outside / self.SOFTNESS_M).square().sum(1)


class ToolTilt:
    """weight * sum over steps of (excess / limit)^2, where the tool's z axis leans further than `most` [rad]."""

    def __init__(
        self, robot: RobotModel, frame: str, most: float, axis: Sequence[float] = (0, 0, -1), weight: float = 1.0
    ) -> None:
        """axis: of the base frame, length 1. Raises ValueError for an angle that is not between 0 and pi."""
        if not 0 < most < torch.pi:
            raise ValueError(f"the tool's tilt is at most {most} rad; expected between 0 and pi")
        self.robot, self.frame, self.weight, self.most = robot, frame, weight, most
        self._axis = torch.tensor([*axis], dtype=torch.float32)
        robot.pose(torch.zeros(len(robot.joints)), frame)

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), tilt () [rad], axis (3,)."""
        return torch.tensor(self.weight), torch.tensor(self.most), self._axis

    def __call__(self, commands: Tensor, weight: Tensor, most: Tensor, axis: Tensor) -> Tensor:
        """commands (B, H, A) -> cost (B,)."""
        pointing = self.robot.pose(commands, self.frame)[..., :3, 2]
        cosine = torch.einsum("bhi,bi->bh", pointing, axis).clamp(-1 + 1e-6, 1 - 1e-6)
        return weight * (cosine.acos() / most[:, None] - 1.0).clamp_min(0.0).square().sum(1)
