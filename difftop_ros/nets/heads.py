"""Small networks on top of the latent: perceptrons, a Gaussian head and the cost of an action chunk."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


def mlp(sizes: list[int], final_gain: float = 1.0) -> nn.Sequential:
    """Linear layers with SiLU between them. SiLU, not ReLU: the solver differentiates the cost twice.

    `final_gain` scales the last layer's initial weights.
    """
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if index < len(sizes) - 2:
            layers.append(nn.SiLU())
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(final_gain)
        last.bias.zero_()
    return nn.Sequential(*layers)


class GaussianHead(nn.Module):
    """Mean and log-variance (B, latent) of a diagonal Gaussian over the latent."""

    def __init__(self, inputs: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.net = mlp([inputs, hidden, 2 * latent], final_gain=0.1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, inputs) -> mean (B, latent), log variance (B, latent) within [-8, 4]."""
        mean, log_variance = self.net(features).chunk(2, dim=-1)
        return mean, -8 + 12 * torch.sigmoid(log_variance + 0.7)


class MixtureHead(nn.Module):
    """A mixture of `modes` diagonal Gaussians over the latent."""

    def __init__(self, inputs: int, hidden: int, latent: int, modes: int) -> None:
        super().__init__()
        self.size = (modes, latent)
        self.net = mlp([inputs, hidden, modes * (2 * latent + 1)])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """features (B, inputs) -> log weight (B, M), mean and log variance (B, M, latent), the last in [-8, 4]."""
        modes, latent = self.size
        logits, means, log_variances = self.net(features).split([modes, modes * latent, modes * latent], dim=1)
        log_variance = -8 + 12 * torch.sigmoid(log_variances + 0.7)
        return logits.log_softmax(1), means.unflatten(1, self.size), log_variance.unflatten(1, self.size)


class ChunkCost(nn.Module):
    """Learned cost c(a | z, latent) = 1/2 ||f(a, z, latent)||^2 of a whole action chunk, at least 0.

    A sum of squares cannot run away to minus infinity inside the box, and its curvature is mostly positive, which is
    what the solver and the implicit adjoint like. `prepare` does once per solve what does not depend on the actions.
    """

    def __init__(self, variables: int, features: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.from_actions = nn.Linear(variables, hidden, bias=False)
        self.from_context = nn.Linear(features, hidden)
        self.rest = mlp([hidden, hidden, outputs], final_gain=1.0)
        self.activation = nn.SiLU()

    def prepare(self, features: Tensor) -> Tensor:
        """features (B, features) -> the first layer's share of them, (B, hidden)."""
        return self.from_context(features)

    def forward(self, actions: Tensor, prepared: Tensor) -> Tensor:
        """actions (B, H, A) scaled, prepared (B, hidden) -> cost (B,)."""
        hidden = self.activation(self.from_actions(actions.flatten(1)) + prepared)
        return 0.5 * self.rest(hidden).square().sum(1)


class RolloutCost(nn.Module):
    """Learned cost of a chunk rolled out in a latent state: the imitation form of arXiv 2402.05421 with its dynamics.

    z_0 = W z, z_{t+1} = z_t + d(z_t, a_t); cost 1/2 ||f(z_t, a_t, latent)||^2 a step,
    1/2 ||g(z_H, latent)||^2 at the end.
    """

    def __init__(self, actions: int, features: int, latent: int, state: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.start = nn.Linear(features, state)
        self.change = mlp([state + actions, hidden, state], final_gain=0.1)
        self.stage_cost = mlp([state + actions + latent, hidden, outputs])
        self.final_cost = mlp([state + latent, hidden, outputs])

    def dynamics(self, state: Tensor, action: Tensor, latent: Tensor) -> Tensor:
        """state (B, Z), action (B, A) -> next state (B, Z)."""
        return state + self.change(torch.cat([state, action], dim=1))

    def stage(self, state: Tensor, action: Tensor, latent: Tensor) -> Tensor:
        """Minus the cost of one step, (B,)."""
        return -0.5 * self.stage_cost(torch.cat([state, action, latent], dim=1)).square().sum(1)

    def final(self, state: Tensor, latent: Tensor) -> Tensor:
        """Minus the cost of where the chunk leads, (B,)."""
        return -0.5 * self.final_cost(torch.cat([state, latent], dim=1)).square().sum(1)
