"""Decoders by name, and how wide each must be to have as many parameters as the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from difftop_ros.policies.config import PolicyConfig
from difftop_ros.policies.decoders.base import (
    Box,
    Decoder,
    Encoding,
    Noise,
    TrainingLoss,
    clamped,
    squared_error,
)
from difftop_ros.policies.decoders.bc import BcDecoder, ZeroDecoder
from difftop_ros.policies.decoders.bc_rnn import BcRnnDecoder
from difftop_ros.policies.decoders.diffusion import DiffusionDecoder
from difftop_ros.policies.decoders.ibc import IbcDecoder

__all__ = [
    "Box",
    "Decoder",
    "Encoding",
    "Noise",
    "TrainingLoss",
    "clamped",
    "make_decoder",
    "parameters",
    "squared_error",
    "width_for",
]


def make_decoder(
    name: str, config: PolicyConfig, frame_size: int, horizon: int, actions: int, budget: int | None
) -> Decoder:
    """The decoder `name`, with about `budget` parameters; None keeps `hidden` as its width."""

    def build(width: int) -> Decoder:
        sizes = (config.latent, horizon, actions, width)
        if name == "bc":
            return BcDecoder(*sizes)
        if name == "bc_rnn":
            return BcRnnDecoder(frame_size, *sizes[1:], config.gmm_modes, config.gmm_act)
        if name == "ibc":
            return IbcDecoder(*sizes, config.ibc_negatives, config.ibc_candidates, config.ibc_sampler)
        if name == "diffusion":
            steps = (config.diffusion_steps, config.diffusion_inference_steps)
            return DiffusionDecoder(*sizes, *steps, config.diffusion_target)
        return ZeroDecoder(horizon, actions)

    return build(config.hidden if budget is None or name == "zero" else width_for(build, budget))


def parameters(module: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in module.parameters())


def width_for(build: Callable[[int], nn.Module], budget: int) -> int:
    """The width, a multiple of 8, at which build(width) comes nearest to `budget` parameters. Costs no memory."""

    def size(width: int) -> int:
        with torch.device("meta"):
            return parameters(build(width))

    low, high = 1, 2
    while size(8 * high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(8 * middle) < budget else (low, middle)
    return 8 * min(low, high, key=lambda eighths: abs(size(8 * eighths) - budget))
