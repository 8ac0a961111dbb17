"""What a batch of sequences asks of a latent agent: the model's losses, the prior's, and that of the plan itself.

Model: the next latent state (against the encoder's own, without gradient), the reward, the value (TD against the slow
values under the prior). Prior: it maximises the value. Plan: -Q(s, a*_0), a* the solution of the planner's problem, the
gradient of which reaches encoder, dynamics and reward through the optimality condition, all plans of a batch at once.
Q is the ensemble at the encoder's state, held fixed: what a first action is worth by experience, not by the rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from difftop_ros.learning.imitation.augment import random_shift
from difftop_ros.learning.reinforcement.replay import Sequences
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.policies.latent_planning.agent import LatentAgent

SATURATION = 1e-3  # weight of the prior's squared output before its tanh: where that is large there is no gradient


@dataclass(frozen=True)
class Batch:
    """Frames[key] (L + 1, B, ...), actions (L, B, A), rewards (L, B), goes_on (L, B), as tensors."""

    frames: dict[str, Tensor]
    actions: Tensor
    rewards: Tensor
    goes_on: Tensor

    @classmethod
    def of(cls, found: Sequences, device: torch.device, shift_px: int) -> Batch:
        """The sequences on a device, pictures shifted at random, each sequence and moment by itself."""
        frames = {}
        for key, column in found.frames.items():
            tensor = torch.from_numpy(column).to(device)
            if column.dtype.kind == "u" and shift_px:
                tensor = random_shift(tensor.flatten(0, 1)[:, None], shift_px)[:, 0].unflatten(0, tensor.shape[:2])
            frames[key] = tensor
        rest = (torch.from_numpy(part).to(device) for part in (found.actions, found.rewards, found.goes_on))
        return cls(frames, *rest)

    def first(self, count: int) -> dict[str, Tensor]:
        """The first frames of so many sequences, (count, 1, ...)."""
        return {key: column[0, :count, None] for key, column in self.frames.items()}


def encoded(agent: LatentAgent, frames: Mapping[str, Tensor]) -> Tensor:
    """frames[key] (T, B, ...) -> states (T, B, Z)."""
    steps, batch = next(iter(frames.values())).shape[:2]
    return agent.encode({key: column.flatten(0, 1)[:, None] for key, column in frames.items()}).view(steps, batch, -1)


def model_loss(agent: LatentAgent, batch: Batch, settings: TryingSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Total (), its parts (3,): consistency, reward, value; and the unrolled states (L + 1, B, Z) without graph."""
    model, length = agent.model, len(batch.actions)
    with torch.no_grad():
        reached = encoded(agent, {key: column[1:] for key, column in batch.frames.items()})
        target = value_target(agent, reached, batch, settings)
    states = [encoded(agent, {key: column[:1] for key, column in batch.frames.items()})[0]]
    for action in batch.actions:
        states.append(model.dynamics(states[-1], action))
    rolled = torch.stack(states)
    weight = settings.decay ** torch.arange(length, device=rolled.device, dtype=rolled.dtype)
    weight = (weight / weight.sum())[:, None]
    before, actions = rolled[:-1].flatten(0, 1), batch.actions.flatten(0, 1)
    numbers, shape = model.numbers, batch.rewards.shape
    earned = numbers.error(model.reward_outputs(before, actions).unflatten(0, shape), batch.rewards)
    worth = model.value_outputs(before, actions).unflatten(1, shape)
    worth_error = numbers.error(worth, target.expand(model.sizes.values, -1, -1)).mean(0)
    errors = ((rolled[1:] - reached).square().mean(-1), earned, worth_error)
    parts = torch.stack([(weight * error).sum(0).mean() for error in errors])
    total = settings.consistency * parts[0] + settings.reward * parts[1] + settings.value * parts[2]
    return total, parts.detach(), rolled.detach()


def value_target(agent: LatentAgent, reached: Tensor, batch: Batch, settings: TryingSettings) -> Tensor:
    """r + discount min Q'(s', prior(s') + noise), (L, B); where an episode terminated, r alone."""
    state = reached.flatten(0, 1)
    action = agent.model.prior(state)
    noise = (settings.smoothing * torch.randn_like(action)).clamp(-0.5, 0.5)
    following = agent.model.values(state, (action + noise).clamp(-1, 1), slow=True)[:2].amin(0)
    return batch.rewards + agent.get_buffer("discount") * batch.goes_on * following.view_as(batch.rewards)


def prior_loss(agent: LatentAgent, states: Tensor, settings: TryingSettings) -> tuple[Tensor, Tensor]:
    """-Q(s, prior(s)) over the running scale, at states (L + 1, B, Z) without graph; and the first's values (B,).

    Gradients are to be taken with respect to the prior's parameters alone.
    """
    model = agent.model
    weight = settings.decay ** torch.arange(len(states), device=states.device, dtype=states.dtype)
    outputs = model.first(states.flatten(0, 1))
    found = model.values(states.flatten(0, 1), outputs.tanh()).mean(0).view(states.shape[:2])
    pull = SATURATION * outputs.square().mean()
    return pull - ((weight / weight.sum())[:, None] * found).sum(0).mean() / agent.get_buffer("scale"), found[
        0
    ].detach()


def imitation_loss(agent: LatentAgent, states: Tensor, batch: Batch) -> Tensor:
    """The prior's mean squared distance to what was done at states (L + 1, B, Z), ()."""
    return (agent.model.prior(states[:-1].flatten(0, 1)) - batch.actions.flatten(0, 1)).square().mean()


@torch.no_grad()
def judges(agent: LatentAgent, batch: Batch, count: int) -> Tensor:
    """How far (2,) two judges err of what the first step of `count` sequences was worth: the values, and the model by

    its own reward and next state. Variances about the reward and the state's value that came of it: an error that all
    steps share moves no plan.
    """
    model = agent.model
    state, reached = encoded(agent, {key: column[:2, :count] for key, column in batch.frames.items()})
    action, later = batch.actions[0, :count], agent.get_buffer("discount") * batch.goes_on[0, :count]
    told = batch.rewards[0, :count] + later * model.final(reached)
    by_values = model.values(state, action).mean(0)
    by_model = model.reward(state, action) + later * model.final(model.dynamics(state, action))
    return torch.stack([by_values - told, by_model - told]).var(1)


def plan_loss(agent: LatentAgent, frames: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """-Q(s, a*_0) over the running scale, with the graph through the solve, and how much more it is than the prior's.

    frames[key] (B, 1, ...); both are means over the batch, ().
    """
    state = agent.encode(frames)
    action = agent.plan(state).actions[:, 0]
    fixed, scale = state.detach(), agent.get_buffer("scale")
    worth = agent.model.values(fixed, action).mean(0)
    with torch.no_grad():
        gain = (worth - agent.model.values(fixed, agent.model.prior(fixed)).mean(0)).mean()
    return -worth.mean() / scale, gain
