"""Costs on how the joints move: their accelerations, their jerk, and how far a plan is from the one in force."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from difftop_ros.costs.motion import JointSpeed


class JointAcceleration(JointSpeed):
    """As JointSpeed, where a joint is planned with more than its acceleration limit.

    limits: (A,) [unit/s^2], infinite for joints without one.
    """

    ORDER = 2


class Jerk:
    """weight / 2 times the mean square of the plan's third differences, in (unit / s^3)^2 of position commands.

    A plan of fewer than four steps costs nothing. Accelerations: smoothness.py.
    """

    def __init__(self, rate_hz: float, weight: float = 1e-6) -> None:
        """rate_hz: steps per second of the plan. Raises ValueError for a rate that is not above 0."""
        if not rate_hz > 0:
            raise ValueError(f"rate_hz is {rate_hz}; expected more than 0")
        self.rate_hz, self.weight = rate_hz, weight

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight ()."""
        return (torch.tensor(self.weight),)

    def __call__(self, commands: Tensor, weight: Tensor) -> Tensor:
        """commands (B, H, A) -> cost (B,)."""
        if commands.shape[1] < 4:
            return 0 * commands.flatten(1).sum(1)
        return 0.5 * weight * (self.rate_hz**3 * commands.diff(n=3, dim=1)).square().flatten(1).mean(1)


class NearPlan:
    """weight / 2 times the square of the difference to the plan in force, in steps at top speed; 0 while none is.

    So it weighs as the second solve's tether does. scale: (A,) what a joint moves in a step at top speed [unit]. `take`
    the plan in force before each plan.
    """

    def __init__(self, scale: Sequence[float], weight: float = 1.0) -> None:
        """Raises ValueError for a scale that is not above 0."""
        if not all(size > 0 for size in scale):
            raise ValueError(f"scale is {list(scale)}; expected numbers above 0")
        self.weight = weight
        self._scale = torch.tensor([*scale], dtype=torch.float32)
        self.reset(1)

    def reset(self, horizon: int) -> None:
        """No plan is in force; plans have `horizon` steps."""
        self._plan, self._there = torch.zeros(horizon, len(self._scale)), 0.0

    def take(self, plan: Tensor | None) -> None:
        """The plan in force (H, A) as it goes on from the new observation's time, None for none."""
        self._there = float(plan is not None)
        self._plan = self._plan if plan is None else plan

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Weight (), 0 without a plan in force; scale (A,), the plan (H, A)."""
        return torch.tensor(self.weight * self._there), self._scale, self._plan

    def __call__(self, commands: Tensor, weight: Tensor, scale: Tensor, plan: Tensor) -> Tensor:
        """commands (B, H, A) -> cost (B,)."""
        return 0.5 * weight * ((commands - plan) / scale[:, None]).square().flatten(1).sum(1)
