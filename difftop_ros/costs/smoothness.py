"""Smooth motion: the accelerations within a plan, squared."""

from __future__ import annotations

import torch
from torch import Tensor


class Smoothness:
    """weight / 2 times the mean square of the plan's accelerations, in (unit / s^2)^2 of position commands.

    rate_hz: steps per second of the plan [Hz]. weight may be assigned between plans. A plan of fewer than three steps
    costs nothing. Raises ValueError for a rate that is not above 0 or a negative weight.
    """

    def __init__(self, rate_hz: float, weight: float = 1e-3) -> None:
        if not rate_hz > 0:
            raise ValueError(f"rate_hz is {rate_hz}; expected more than 0")
        self.rate_hz, self.weight = rate_hz, weight

    @property
    def weight(self) -> float:
        """Cost per (unit / s^2)^2."""
        return self._weight

    @weight.setter
    def weight(self, value: float) -> None:
        if not value >= 0:
            raise ValueError(f"weight is {value}; expected 0 or more")
        self._weight = value

    @property
    def data(self) -> tuple[Tensor, ...]:
        """The weight, shape ()."""
        return (torch.tensor(self._weight),)

    def __call__(self, commands: Tensor, weight: Tensor) -> Tensor:
        """commands (B, H, A) [unit], weight (B,) -> cost (B,)."""
        if commands.shape[1] < 3:
            return 0 * commands.flatten(1).sum(1)
        acceleration = self.rate_hz**2 * commands.diff(n=2, dim=1)
        return 0.5 * weight * acceleration.square().flatten(1).mean(1)
