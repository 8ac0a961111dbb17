"""The networks of a policy: normalisation, encoder, base decoder. What refines a base is in difftop.py, residual.py.

All policies share everything here, so that only the policy class differs. No files, no numpy, no ROS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from difftop_ros.contract import Contract
from difftop_ros.nets import ObservationEncoder
from difftop_ros.policies.config import DecoderOptions, PolicyConfig, PolicyError
from difftop_ros.policies.decoder import (
    Added,
    Box,
    Decoder,
    Encoding,
    Noise,
    Sizes,
    TrainingLoss,
    clamped,
    parameters,
    squared_error,
)
from difftop_ros.policies.normalisation import ActionScaler, ObservationNormaliser, cloud_origin, observation_spec
from difftop_ros.trajopt import Solution, Status


class ActingNet(nn.Module, ABC):
    """What `Policy` needs of networks under a contract: to encode an observation and to plan from it.

    solves: whether a plan is the solution of an optimisation, to which terms may be added and which can be prepared.
    asked: the scaled chunk (B, H, A) that the networks gave last, before it was brought into its box.
    continues: whether `plan` also takes `committed` (plan_result.WarmStart) and heeds it.
    """

    solves = False
    continues: ClassVar[bool] = False

    def __init__(self, contract: Contract, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.shape = (config.horizon, len(contract.command.joints))
        self.scaler = ActionScaler(contract, config)
        self.asked: Tensor | None = None

    @abstractmethod
    def encode(self, obs: Mapping[str, Tensor]) -> Encoding:
        """Raw frames obs[key] (B, obs_steps, ...) -> their encoding."""

    @abstractmethod
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
        """Scaled actions (B, H, A) inside the box, with how they came about. `iterations` 0 gives those of the base.

        Policies without an optimiser need no warm start, iterations or deadline, take no terms and report no costs.
        """

    def prepare(self, encoding: Encoding, origin: Tensor, backend: str, terms: Sequence[Added] = ()) -> None:
        """Make plans for one sample like this one ready with a backend of trajopt.prepare; 'none' undoes it.

        From then on `plan` takes a batch of one, unless it is told its iterations. PolicyError where it does not solve.
        """
        raise PolicyError(f"policy '{self.config.policy}' solves nothing that could be made ready; leave prepare out")

    def parts(self) -> dict[str, int]:
        """Parameters of each part that has any."""
        sizes = {name: parameters(child) for name, child in self.named_children()}
        return {name: size for name, size in sizes.items() if size}


class PolicyNet(ActingNet):
    """Encoder and base; the base is the policy: bc, bc_rnn, ibc, diffusion. Refining policies build on it."""

    def __init__(self, contract: Contract, config: PolicyConfig) -> None:
        super().__init__(contract, config)
        self.normaliser = ObservationNormaliser(observation_spec(contract), cloud_origin(contract, config))
        spec = observation_spec(contract)
        if config.image_encoder != "cnn" and all(kind != "image" for kind, _ in spec.values()):
            raise PolicyError(
                f"image_encoder is {config.image_encoder!r} but the contract '{contract.name}' has no pictures, only"
                f" {sorted(spec)}; leave it out, or add an observation of kind image"
            )
        decoder = config.decoder.network_class()
        self.encoder = ObservationEncoder(
            spec,
            config.obs_steps,
            config.features,
            config.point_widths,
            config.image_widths,
            config.keypoints,
            image=config.image_encoder,
            image_sharpness=config.image_sharpness,
            tokens=config.tokens,
            fused=config.refines or not decoder.fuses,
        )
        sizes = Sizes(config.features, self.encoder.frame_size, *self.shape)
        self.base: Decoder = decoder(sizes, config.decoder)
        # padding past an episode's end means "stay there" for positions and nothing for rates
        self.padding_counts = contract.command.mode == "position"

    def encode(self, obs: Mapping[str, Tensor]) -> Encoding:
        """Raw frames obs[key] (B, obs_steps, ...) -> their encoding."""
        streams = self.encoder.streams(self.normaliser(obs))
        frames = torch.cat(streams, dim=2)
        return Encoding(self.encoder.fused(streams) if hasattr(self.encoder, "fuse") else frames[:, -1], frames)

    def base_chunk(self, encoding: Encoding, box: Box | None = None, noise: Noise | None = None) -> Tensor:
        """The base policy's scaled chunk (B, H, A); without a box it is [-1, 1], without noise it is repeatable."""
        if box is None:
            ones = encoding.frames.new_ones(len(encoding.frames), *self.shape)
            box = (-ones, ones)
        chunk = self.base.sample(encoding, box, noise or Noise(0))
        self.asked = chunk.detach()
        return chunk

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
        """As ActingNet.plan: the base's chunk, which may go on from the plan in force."""
        box = self.scaler.bounds(origin)
        chunk = clamped(self.base_chunk(encoding, box, noise), box)
        if warm_start is not None:
            chunk = self.base.continued(chunk, warm_start)
        return chosen(clamped(chunk, box))

    def loss(
        self, obs: Mapping[str, Tensor], actions: Tensor, mask: Tensor, seen: Mapping[str, Tensor] | None = None
    ) -> TrainingLoss:
        """Imitation loss of a batch: obs[key] (B, obs_steps, ...), actions (B, H, A) in contract units, mask (B, H).

        `seen` is what the encoder gets in place of obs (augmented frames); relative actions still start from obs.
        """
        origin = self.scaler.origin(obs)
        expert = self.scaler.scale(actions, origin)
        weight = torch.ones_like(mask, dtype=expert.dtype) if self.padding_counts else mask.to(expert.dtype)
        weight = (weight / weight.mean()).unsqueeze(2)
        return self.learn(self.encode(obs if seen is None else seen), expert, weight, self.scaler.bounds(origin))

    def learn(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """The loss of an encoded batch; see Decoder.loss."""
        return self.base.loss(encoding, expert, weight, box)

    def errors(self, obs: Mapping[str, Tensor], actions: Tensor) -> dict[str, Tensor]:
        """Squared errors of scaled plans as they are made at run time: base_mse, and plan_mse of a refining policy."""
        origin = self.scaler.origin(obs)
        expert = self.scaler.scale(actions, origin)
        encoding = self.encode(obs)
        everywhere = torch.ones_like(expert[..., :1])
        base = self.base_chunk(encoding, self.scaler.bounds(origin))
        found = {"base_mse": squared_error(base, expert, everywhere)}
        if self.config.refines:
            found["plan_mse"] = squared_error(self.plan(encoding, origin).actions, expert, everywhere)
        return found


def make_net(contract: Contract, config: PolicyConfig) -> PolicyNet:
    """Networks with fresh weights for `config` under `contract`, of a policy that learns by imitation.

    Raises PolicyError where they do not go together.
    """
    net = make_acting_net(contract, config)
    if not isinstance(net, PolicyNet):
        raise PolicyError(f"policy {config.policy!r} learns by {config.learns}, not by imitation: see difftop train-rl")
    return net


def make_acting_net(contract: Contract, config: PolicyConfig) -> ActingNet:
    """As make_net, of any policy."""
    kind = PolicyNet if isinstance(config.own, DecoderOptions) else config.own.network_class()
    return kind(contract, config)


def chosen(actions: Tensor) -> Solution:
    """Actions (B, H, A) that nobody optimised, as a Solution: converged, at no cost; flagged where not finite."""
    zeros = actions.new_zeros(len(actions))
    count = torch.zeros_like(zeros, dtype=torch.long)
    finite = torch.isfinite(actions).flatten(1).all(1)
    status = torch.where(finite, int(Status.CONVERGED), int(Status.NONFINITE))
    return Solution(
        actions=actions,
        status=status,
        iterations=count,
        initial_cost=zeros,
        final_cost=zeros,
        gradient_norm=zeros,
        active_fraction=zeros,
        gradients=count,
    )
