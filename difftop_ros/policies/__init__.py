"""Policies: from observations to a plan. No ROS, no training loop here.

What needs torch is imported on first use, so that options can be read without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from difftop_ros.policies.config import (
    DecoderOptions,
    OwnOptions,
    PolicyConfig,
    PolicyError,
    RefiningOptions,
    register,
)

if TYPE_CHECKING:
    from difftop_ros.policies.decoder import Box, Decoder, Encoding, Noise, Sizes, TrainingLoss
    from difftop_ros.policies.difftop import DifftopNet
    from difftop_ros.policies.net import ActingNet, PolicyNet, make_acting_net, make_net
    from difftop_ros.policies.policy import Policy, load_policy, resolve_device
    from difftop_ros.policies.pretrained_base import take_base, with_sizes_of_base
    from difftop_ros.policies.residual import ResidualNet

_WITH_TORCH = {
    "decoder": ("Box", "Decoder", "Encoding", "Noise", "Sizes", "TrainingLoss"),
    "difftop": ("DifftopNet",),
    "net": ("ActingNet", "PolicyNet", "make_acting_net", "make_net"),
    "policy": ("Policy", "load_policy", "resolve_device"),
    "pretrained_base": ("take_base", "with_sizes_of_base"),
    "residual": ("ResidualNet",),
}
__all__ = [
    "ActingNet",
    "Box",
    "Decoder",
    "DecoderOptions",
    "DifftopNet",
    "Encoding",
    "Noise",
    "OwnOptions",
    "Policy",
    "PolicyConfig",
    "PolicyError",
    "PolicyNet",
    "RefiningOptions",
    "ResidualNet",
    "Sizes",
    "TrainingLoss",
    "load_policy",
    "make_acting_net",
    "make_net",
    "register",
    "resolve_device",
    "take_base",
    "with_sizes_of_base",
]


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
