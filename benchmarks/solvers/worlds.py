"""Simulated systems the benchmark's nets are trained on: a chain of pendulums, and two-way reaching demonstrations.

Small, vectorised, torch alone. No network and no solver here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TORQUE = 6.0  # largest torque [1/s^2]; gravity is 9.8, so that an upright pendulum needs a swing
DT, REPEAT = 0.05, 2  # [s], and steps of the simulation in it: an action repeat, whose rewards add up


@dataclass(frozen=True)
class PendulumChain:
    """`joints` pendulums in a row, neighbours joined by torsion springs, one torque each; task: all upright and calm.

    A state is (B, 2 joints): angles from upright [rad], velocities [rad/s]. Actions (B, joints) in [-1, 1].
    """

    joints: int

    @property
    def observations(self) -> int:
        """How many numbers `observe` returns per sample."""
        return 3 * self.joints

    def reset(self, batch: int, generator: torch.Generator) -> Tensor:
        """Random states (batch, 2 joints): any angle, small velocities."""
        angle = (torch.rand(batch, self.joints, generator=generator) * 2 - 1) * torch.pi
        return torch.cat([angle, 0.5 * torch.randn(batch, self.joints, generator=generator)], dim=1)

    def observe(self, state: Tensor) -> Tensor:
        """cos, sin of the angles and scaled velocities, (B, 3 joints)."""
        angle, velocity = state.chunk(2, dim=1)
        return torch.cat([angle.cos(), angle.sin(), velocity / 8], dim=1)

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The state after DT and the reward (B,) for it: at most REPEAT, upright without torque."""
        angle, velocity = state.chunk(2, dim=1)
        reward = torch.zeros_like(state[:, 0])
        for _ in range(REPEAT):
            stretch = torch.sin(angle[:, 1:] - angle[:, :-1])
            spring = torch.nn.functional.pad(stretch, (0, 1)) - torch.nn.functional.pad(stretch, (1, 0))
            force = 9.8 * angle.sin() + 4 * spring + TORQUE * action.clamp(-1, 1) - 0.3 * velocity
            velocity = (velocity + force * DT / REPEAT).clamp(-8, 8)
            angle = angle + velocity * DT / REPEAT
            reward = reward + (1 + angle.cos()).mean(1) / 2 - 0.1 * action.square().mean(1)
        return torch.cat([angle, velocity], dim=1), reward


@dataclass(frozen=True)
class TwoWays:
    """Demonstrations of reaching past an obstacle: a smooth path of `horizon` points in `actions` dimensions.

    The context (B, 2 actions + 1) is start, goal and the obstacle's size. Which side is taken is a coin toss that the
    context does not show, so a plain regression learns the mean of two ways, which leads into the obstacle.
    """

    horizon: int
    actions: int

    @property
    def context(self) -> int:
        """Numbers that describe one situation."""
        return 2 * self.actions + 1

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Situations (batch, context) and the chunks (batch, horizon, actions) in (-1, 1) of the demonstrator."""
        ends = torch.rand(batch, 2, self.actions, generator=generator) * 1.2 - 0.6
        size = 0.2 + 0.5 * torch.rand(batch, 1, generator=generator)
        side = torch.randint(0, 2, (batch, 1, 1), generator=generator) * 2.0 - 1
        t = torch.linspace(0, 1, self.horizon)[None, :, None]
        smooth = t**3 * (10 - 15 * t + 6 * t**2)  # least jerk between rest and rest
        across = torch.nn.functional.normalize((ends[:, 1] - ends[:, 0]).roll(1, dims=1), dim=1)[:, None]
        bump = side * size[:, :, None] * torch.sin(torch.pi * smooth) * across
        path = ends[:, :1] + smooth * (ends[:, 1:] - ends[:, :1]) + bump
        path = path + 0.01 * torch.randn(path.shape, generator=generator)
        return torch.cat([ends.flatten(1), size], dim=1), path.clamp(-0.98, 0.98)
