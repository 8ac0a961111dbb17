"""A latent agent under a robot contract: the networks of a Policy, for the live node as for simulation.

The agent commands steps within [-1, 1]. For position commands a step of 1 is an offset of `step` from where the joint
is, or from where the step before wanted it; velocities and increments are the range of the command itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from difftop_ros.contract import Contract
from difftop_ros.policies.config import PolicyConfig
from difftop_ros.policies.decoder import Added, Encoding, Noise
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.latent_planning.options import DifftopRlOptions, LatentPlanningConfig
from difftop_ros.policies.net import ActingNet
from difftop_ros.policies.normalisation import ObservationNormaliser, cloud_origin, observation_spec
from difftop_ros.trajopt import Solution


class LatentPlanningNet(ActingNet):
    """Plans of a LatentAgent as scaled commands of the contract."""

    def __init__(self, contract: Contract, config: PolicyConfig) -> None:
        super().__init__(contract, config)
        assert isinstance(config, LatentPlanningConfig)
        self.solves = isinstance(config.own, DifftopRlOptions)
        spec = observation_spec(contract)
        normaliser = ObservationNormaliser(spec, cloud_origin(contract, config))
        self.agent = LatentAgent(spec, self.shape[1], config, normaliser)
        self._fit_steps(contract)

    def _fit_steps(self, contract: Contract) -> None:
        """The scale of commands: what the joints' speeds allow in a step, summed up along a plan of positions."""
        scaler = self.scaler
        if scaler.relative:
            count = torch.arange(1, self.shape[0] + 1, dtype=torch.float32)[:, None]
            scaler.get_buffer("half_range").copy_(count * torch.tensor(position_steps(contract), dtype=torch.float32))
            return
        low, high = scaler.get_buffer("low"), scaler.get_buffer("high")
        scaler.get_buffer("half_range").copy_(((high - low) / 2).expand(self.shape))
        scaler.get_buffer("center").copy_(((high + low) / 2).expand(self.shape))

    def encode(self, obs: Mapping[str, Tensor]) -> Encoding:
        """Raw frames obs[key] (B, obs_steps, ...) -> the latent state."""
        state = self.agent.encode(obs)
        return Encoding(state, state[:, None])

    def to_scaled(self, steps: Tensor) -> Tensor:
        """The agent's steps (B, H, A) -> scaled commands."""
        return steps.cumsum(1) / self._count(steps) if self.scaler.relative else steps

    def to_steps(self, scaled: Tensor) -> Tensor:
        """The inverse, within [-1, 1]."""
        if self.scaler.relative:
            total = scaled * self._count(scaled)
            scaled = torch.cat([total[:, :1], total.diff(dim=1)], dim=1)
        return scaled.clamp(-1, 1)

    @staticmethod
    def _count(like: Tensor) -> Tensor:
        return torch.arange(1, like.shape[1] + 1, dtype=like.dtype, device=like.device)[:, None]

    def plan(
        self,
        encoding: Encoding,
        origin: Tensor,
        warm_start: Tensor | None = None,
        iterations: int | None = None,
        deadline_ms: float | None = None,
        noise: Noise | None = None,
        terms: Sequence[Added] = (),
    ) -> Solution:
        """As ActingNet.plan; `iterations` 0 gives the prior's proposal."""
        warm = None if warm_start is None else self.to_steps(warm_start)
        found = self.agent.plan(encoding.features, warm, iterations, deadline_ms, self._of_steps(terms))
        low, high = self.scaler.bounds(origin)
        self.asked = scaled = self.to_scaled(found.actions)
        return replace(found, actions=torch.maximum(torch.minimum(scaled, high), low))

    def prepare(self, encoding: Encoding, origin: Tensor, backend: str, terms: Sequence[Added] = ()) -> None:
        """As ActingNet.prepare."""
        self.agent.prepare(backend, len(encoding.features), self._of_steps(terms))

    def _of_steps(self, terms: Sequence[Added]) -> list[Added]:
        """Terms of scaled commands as terms of the agent's steps."""

        def seen(cost: object) -> object:
            return lambda steps, *data: cost(self.to_scaled(steps), *data)  # type: ignore[operator]

        return [(seen(cost), data) for cost, data in terms]  # type: ignore[misc]


def position_steps(contract: Contract) -> list[float]:
    """The farthest a policy that learns by trying moves each commanded joint in one step [rad | m].

    Half of what the joint's velocity limit allows in it, at most a twentieth of its range: what is tried at random
    must not be what the gate refuses.
    """
    bounds = zip(contract.command.joints, *contract.command.bounds())
    return [min(0.5 * joint.velocity / contract.rate_hz, 0.05 * (high - low)) for joint, low, high in bounds]
