"""A 1-D U-Net over the steps of an action chunk, conditioned by FiLM: the denoiser of the diffusion policy.

After Diffusion Policy (arXiv 2303.04137), section 3 and appendix: convolutions along time, the condition scales and
shifts every block. Any horizon: what was halved is brought back to the length of its skip connection.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class FilmBlock(nn.Module):
    """Two convolutions over time; after the first each channel is scaled and shifted by the condition."""

    def __init__(self, inputs: int, outputs: int, condition: int, kernel: int = 3) -> None:
        super().__init__()
        groups = math.gcd(8, outputs)
        self.first = nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs)
        )
        self.second = nn.Sequential(
            nn.Conv1d(outputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs)
        )
        self.film = nn.Linear(condition, 2 * outputs)
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, steps: Tensor, condition: Tensor) -> Tensor:
        """steps (B, inputs, T), condition (B, condition) -> (B, outputs, T)."""
        scale, shift = self.film(condition).unsqueeze(2).chunk(2, dim=1)
        hidden = functional.silu(self.first(steps)) * (1 + scale) + shift
        return functional.silu(self.second(hidden)) + self.shortcut(steps)


class ConditionalUnet(nn.Module):
    """Noisy chunk, noise level and observation -> what the level's noise (or the clean chunk) is estimated to be.

    Two resolutions of `width` and 2 `width` channels; each of `levels` noise levels enters as 32 sines and cosines.
    """

    LEVELS = 32

    def __init__(self, actions: int, features: int, width: int, levels: int = 1) -> None:
        super().__init__()
        size = 2 * width
        self.condition = nn.Sequential(nn.Linear(features + levels * self.LEVELS, size), nn.SiLU())
        self.enter = FilmBlock(actions, width, size)
        self.halve = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.low = FilmBlock(width, 2 * width, size)
        self.middle = FilmBlock(2 * width, 2 * width, size)
        self.leave = FilmBlock(3 * width, width, size)
        self.out = nn.Conv1d(width, actions, 1)

    def forward(self, chunk: Tensor, level: Tensor, features: Tensor) -> Tensor:
        """chunk (B, H, A), level (B,) or (B, levels) noise step, features (B, F) -> (B, H, A)."""
        condition = self.condition(torch.cat([features, self._waves(level).to(features.dtype)], dim=1))
        steps = self.enter(chunk.transpose(1, 2), condition)
        low = self.middle(self.low(self.halve(steps), condition), condition)
        back = functional.interpolate(low, size=steps.shape[2], mode="nearest")
        return self.out(self.leave(torch.cat([back, steps], dim=1), condition)).transpose(1, 2)

    def _waves(self, level: Tensor) -> Tensor:
        half = self.LEVELS // 2
        rates = torch.exp(-math.log(1e4) * torch.arange(half, device=level.device) / (half - 1))
        angles = level.to(rates)[..., None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
