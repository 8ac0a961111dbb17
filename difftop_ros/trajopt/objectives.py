"""Ready-made returns for Problem: a rollout of learned latent dynamics, a cost of a whole chunk, squared residuals.

They are plain callables over the caller's networks, with the structure in sight for the solvers that use it (`ilqr`
the rollout, `theseus` and Gauss-Newton the residuals). No solver and no network lives here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError


@dataclass(frozen=True)
class LatentRollout:
    """G = sum_t discount^t reward(z_t, a_t) + discount^H value(z_H), z_{t+1} = dynamics(z_t, a_t), z_0 = context[0].

    The RL form of arXiv 2402.05421, eq. 1, with reward in place of cost. For a batch of B:
    dynamics: (z (B, Z), a (B, A), *rest) -> (B, Z), step by step;  reward: (z, a, *rest) -> (B,), asked for all steps
    at once, as a batch of B H;  value: (z (B, Z), *rest) -> (B,), or None for no terminal value. `rest` is what follows
    z_0 in the problem's context, every row beside the state it belongs to. Prefer the mean of twin values: their
    minimum has kinks.
    timed: which of `rest` (0 for context[1]) hold data per time step, (B, H + 1, ...) or without a terminal value
    (B, H, ...): a reference to follow, a known disturbance. Step t is given its [:, t], the terminal value [:, H].
    Raises TrajoptError naming the function whose output, or the context whose shape, does not fit.
    """

    dynamics: Callable[..., Tensor]
    reward: Callable[..., Tensor]
    value: Callable[..., Tensor] | None = None
    discount: float = 1.0
    timed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.discount) and self.discount > 0):
            raise TrajoptError(f"discount is {self.discount}; expected a finite number above 0, usually at most 1")

    def __call__(self, actions: Tensor, start: Tensor, *rest: Tensor) -> Tensor:
        """Return (B,) of actions (B, H, A) from the latent state `start` (B, Z)."""
        states = self.states(actions, start, *rest)
        batch, horizon = actions.shape[:2]
        # all rewards at once: at a small batch reading the weights is what takes time, and this reads them once
        rewards = self.reward_of(states[:, :-1].flatten(0, 1), actions.flatten(0, 1), *self.staged(horizon, *rest))
        weights = self.discount ** torch.arange(horizon, dtype=rewards.dtype, device=rewards.device)
        total = (rewards.view(batch, horizon) * weights).sum(1)
        if self.value is None:
            return total
        return total + self.discount**horizon * self.value_of(states[:, -1], *self.at(-1, *rest))

    def states(self, actions: Tensor, start: Tensor, *rest: Tensor) -> Tensor:
        """The states (B, H + 1, Z) that actions (B, H, A) lead through."""
        self.check(actions, start, *rest)
        states = [start]
        for step, action in enumerate(actions.unbind(1)):
            states.append(self.next_state(states[-1], action, *self.at(step, *rest)))
        return torch.stack(states, dim=1)

    def staged(self, horizon: int, *rest: Tensor) -> tuple[Tensor, ...]:
        """What follows state and action for all (sample, step) pairs as one batch of B H, a sample's steps in a row."""
        return tuple(
            (x[:, :horizon] if i in self.timed else x[:, None].expand(-1, horizon, *x.shape[1:])).flatten(0, 1)
            for i, x in enumerate(rest)
        )

    def at(self, step: int, *rest: Tensor) -> tuple[Tensor, ...]:
        """What the functions are given after state and action at a time step; -1 for the terminal value."""
        return tuple(x[:, step] if i in self.timed else x for i, x in enumerate(rest))

    def check(self, actions: Tensor, start: Tensor, *rest: Tensor) -> None:
        """Raise TrajoptError unless the latent state is (B, Z) and the timed context as long as the horizon asks."""
        if start.ndim != 2 or start.shape[0] != actions.shape[0]:
            raise TrajoptError(
                f"the latent state (context 0) has shape {tuple(start.shape)}; expected ({actions.shape[0]}, Z)"
            )
        length = actions.shape[1] + (self.value is not None)
        for index in self.timed:
            if not 0 <= index < len(rest):
                raise TrajoptError(
                    f"timed names entry {index} of the context after the latent state, which has {len(rest)}; "
                    "expected indices from 0"
                )
            if rest[index].ndim < 2 or rest[index].shape[1] != length:
                last = " and one for the terminal value" if self.value else ""
                raise TrajoptError(
                    f"the timed context {index + 1} has shape {tuple(rest[index].shape)}; expected "
                    f"(batch, {length}, ...), one entry per step{last}"
                )

    def next_state(self, state: Tensor, action: Tensor, *now: Tensor) -> Tensor:
        """dynamics, its output's shape checked."""
        return shaped("dynamics", self.dynamics(state, action, *now), tuple(state.shape), "the shape of its state")

    def reward_of(self, state: Tensor, action: Tensor, *now: Tensor) -> Tensor:
        """reward, its output's shape checked."""
        expected = (state.shape[0],)
        return shaped("reward", self.reward(state, action, *now), expected, "one number per sample and time step")

    def value_of(self, state: Tensor, *now: Tensor) -> Tensor:
        """value, its output's shape checked. Only where there is one."""
        assert self.value is not None
        return shaped("value", self.value(state, *now), (state.shape[0],), "one number per sample")


@dataclass(frozen=True)
class ActionChunk:
    """G = -cost(a, *context): a learned cost (B,) of the whole chunk (B, H, A), given features and a latent code.

    The IL form of arXiv 2402.05421: no dynamics; the context is usually (features (B, F), code (B, K)).
    """

    cost: Callable[..., Tensor]

    def __call__(self, actions: Tensor, *context: Tensor) -> Tensor:
        """Return (B,)."""
        return -shaped("cost", self.cost(actions, *context), (actions.shape[0],), "one number per sample")


@dataclass(frozen=True)
class Tracking:
    """G = -1/2 ||residuals(a, *context)||^2 with residuals (B, R): tracking, inverse kinematics, least squares."""

    residuals: Callable[..., Tensor]

    def __call__(self, actions: Tensor, *context: Tensor) -> Tensor:
        """Return (B,)."""
        return -0.5 * self.vector(actions, *context).square().sum(1)

    def vector(self, actions: Tensor, *context: Tensor) -> Tensor:
        """residuals (B, R), their shape checked."""
        found = self.residuals(actions, *context)
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[0] != actions.shape[0]:
            raise TrajoptError(
                f"residuals returned {_said(found)}; expected ({actions.shape[0]}, R), one row per sample"
            )
        return found


def shaped(name: str, found: Tensor, expected: tuple[int, ...], why: str) -> Tensor:
    """`found`, or TrajoptError if the caller's function `name` returned anything but a tensor of that shape."""
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        raise TrajoptError(f"{name} returned {_said(found)}; expected shape {expected}, {why}")
    return found


def _said(found: object) -> str:
    return f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
