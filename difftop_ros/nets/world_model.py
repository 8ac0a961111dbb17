"""Task-oriented latent dynamics for planning: what a state becomes, what it earns, what it is worth, a first action.

After TD-MPC and TD-MPC2 (arXiv 2203.04955, 2310.16828): nothing is reconstructed; a state holds what reward and value
ask for. SiLU and layer norm throughout, as the solver differentiates twice. No losses, no solver, no environment here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TOP = 10.0  # symlog of the largest number that bins can say: 22,000
LOG_STD = 1e-6


@dataclass(frozen=True)
class ModelSizes:
    """latent: numbers of a state; actions; width of the hidden layers; values in the ensemble, at least two.

    simplex: a state is made of groups of so many numbers that are positive and sum to one (SimNorm); 0: layer norm.
    bins: rewards and values are a distribution over so many bins (two-hot, symlog); 0: plain numbers.
    """

    latent: int
    actions: int
    width: int
    values: int = 2
    simplex: int = 8
    bins: int = 0

    def __post_init__(self) -> None:
        if self.values < 2:
            raise ValueError(f"values is {self.values}; expected an ensemble of at least 2")
        if self.simplex and self.latent % self.simplex:
            raise ValueError(f"latent is {self.latent}; expected a multiple of simplex = {self.simplex}")


class SimNorm(nn.Module):
    """Each group of `size` numbers becomes a softmax: bounded, sparse, and no scale to drift along a rollout."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """x (..., Z) -> the same shape."""
        return x.unflatten(-1, (-1, self.size)).softmax(-1).flatten(-2)


class Ensemble(nn.Module):
    """Perceptrons of one shape side by side, each with weights of its own: (B, inputs) -> (members, B, outputs)."""

    def __init__(self, members: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs, width, width, outputs]
        pairs = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(members, i, o)) for i, o in pairs])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(members, 1, o)) for _, o in pairs])
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(members, 1, o)) for _, o in pairs[:-1]])
        self.shifts = nn.ParameterList([nn.Parameter(torch.zeros(members, 1, o)) for _, o in pairs[:-1]])
        for weight in list(self.weights)[:-1]:
            for one in weight:
                nn.init.trunc_normal_(one, std=1 / math.sqrt(one.shape[0]))
        nn.init.zeros_(self.weights[-1])  # a value nobody has learned yet is 0

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs) -> (members, B, outputs)."""
        hidden = torch.matmul(x, self.weights[0]) + self.biases[0]
        for gain, shift, weight, bias in zip(self.gains, self.shifts, self.weights[1:], self.biases[1:]):
            hidden = nn.functional.layer_norm(hidden, hidden.shape[-1:]) * gain + shift
            hidden = torch.baddbmm(bias, nn.functional.silu(hidden), weight)
        return hidden


class Numbers(nn.Module):
    """How a network says a number: as it is, or as a distribution over bins of its symlog. Both ways, and the loss."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins, self.outputs = bins, max(bins, 1)
        self.register_buffer("centres", torch.linspace(-TOP, TOP, bins) if bins else torch.zeros(1), persistent=False)

    def read(self, outputs: Tensor) -> Tensor:
        """outputs (..., outputs) -> the numbers (...)."""
        if not self.bins:
            return outputs[..., 0]
        middle = (outputs.softmax(-1) * self.get_buffer("centres")).sum(-1)
        return middle.sign() * torch.expm1(middle.abs())

    def error(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Squared error, or cross entropy with the two bins next to the target: (..., outputs), (...) -> (...)."""
        if not self.bins:
            return (outputs[..., 0] - target).square()
        place = (target.sign() * torch.log1p(target.abs())).clamp(-TOP, TOP)
        place = (place + TOP) / (2 * TOP) * (self.bins - 1)
        low = place.floor().long().clamp(0, self.bins - 2)
        share = place - low
        log = outputs.log_softmax(-1)
        low = low.expand(log.shape[:-1])[..., None]
        return -((1 - share) * log.gather(-1, low)[..., 0] + share * log.gather(-1, low + 1)[..., 0])


def hidden(inputs: int, width: int) -> list[nn.Module]:
    """One layer, normed, before its activation's next."""
    return [nn.Linear(inputs, width), nn.LayerNorm(width), nn.SiLU()]


class VectorEncoder(nn.Module):
    """A perceptron over all vectors of all frames side by side."""

    def __init__(self, inputs: int, width: int, out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*hidden(inputs, width), nn.Linear(width, out))

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """obs[key] (B, obs_steps, n) normalised -> (B, out)."""
        return self.net(torch.cat([frames.flatten(1) for frames in obs.values()], dim=1))


class WorldModel(nn.Module):
    """The networks of a latent planner; the encoder is the caller's, to (B, sizes.latent), normed here.

    Rewards and values are read as numbers; `*_outputs` are what the loss compares. `slow` are the values that targets
    are made of: they follow by `follow`.
    """

    def __init__(self, encoder: nn.Module, sizes: ModelSizes) -> None:
        super().__init__()
        self.sizes, self.numbers = sizes, Numbers(sizes.bins)
        latent, both, width = sizes.latent, sizes.latent + sizes.actions, sizes.width
        self.encoder = encoder
        self.norm: nn.Module = SimNorm(sizes.simplex) if sizes.simplex else nn.LayerNorm(latent)
        self.next = nn.Sequential(*hidden(both, width), *hidden(width, width), nn.Linear(width, latent))
        self.earns = nn.Sequential(*hidden(both, width), *hidden(width, width), nn.Linear(width, self.numbers.outputs))
        self.worth = Ensemble(sizes.values, both, width, self.numbers.outputs)
        self.slow = Ensemble(sizes.values, both, width, self.numbers.outputs).requires_grad_(False)
        self.first = nn.Sequential(*hidden(latent, width), *hidden(width, width), nn.Linear(width, sizes.actions))
        for net, gain in ((self.earns, 0.0), (self.first, 0.1)):
            last = net[-1]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.weight.mul_(gain)
        self.slow.load_state_dict(self.worth.state_dict())

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Normalised frames obs[key] (B, obs_steps, ...) -> states (B, Z)."""
        return self.norm(self.encoder(obs))

    def dynamics(self, state: Tensor, action: Tensor) -> Tensor:
        """state (B, Z), action (B, A) in [-1, 1] -> next state (B, Z)."""
        return self.norm(self.next(torch.cat([state, action], dim=-1)))

    def reward_outputs(self, state: Tensor, action: Tensor) -> Tensor:
        """(..., Z), (..., A) -> (..., outputs)."""
        return self.earns(torch.cat([state, action], dim=-1))

    def reward(self, state: Tensor, action: Tensor) -> Tensor:
        """What a step earns, (B,)."""
        return self.numbers.read(self.reward_outputs(state, action))

    def value_outputs(self, state: Tensor, action: Tensor, slow: bool = False) -> Tensor:
        """(B, Z), (B, A) -> (members, B, outputs)."""
        return (self.slow if slow else self.worth)(torch.cat([state, action], dim=-1))

    def values(self, state: Tensor, action: Tensor, slow: bool = False) -> Tensor:
        """Each member's discounted sum of rewards from here on, (members, B)."""
        return self.numbers.read(self.value_outputs(state, action, slow))

    def prior(self, state: Tensor) -> Tensor:
        """The prior policy's action, (B, A) in (-1, 1)."""
        return self.first(state).tanh()

    def final(self, state: Tensor, caution: float = 0.0) -> Tensor:
        """The mean of the values under the prior's action, less `caution` deviations of the ensemble, (B,)."""
        found = self.values(state, self.prior(state))
        if not caution:
            return found.mean(0)
        return found.mean(0) - caution * (found.var(0, correction=0) + LOG_STD).sqrt()

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Move the slow values this share of the way to the values."""
        torch._foreach_lerp_(list(self.slow.parameters()), list(self.worth.parameters()), share)
