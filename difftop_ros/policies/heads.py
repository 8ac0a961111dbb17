"""The networks DiffTOP has beside its base: prior, posterior, cost. Their size is the measure for other policies."""

from __future__ import annotations

import torch
from torch import nn

from difftop_ros.nets import ChunkCost, GaussianHead, MixtureHead, RolloutCost
from difftop_ros.policies.config import CHOOSING, PolicyConfig
from difftop_ros.policies.decoders import make_decoder, parameters, width_for


def make_heads(config: PolicyConfig, horizon: int, actions: int) -> dict[str, nn.Module]:
    """By name, in the order of their initialisation. With latent dynamics the cost is as large as without, and a prior
    with modes is as large as a Gaussian.

    Where the base chooses among several ways the prior sees its chunk, to stay on the way that was chosen.
    """
    variables = horizon * actions
    known = config.latent + (variables if config.base in CHOOSING else 0)
    chunk_cost = (variables, config.latent + config.code, config.hidden, config.cost_outputs)

    def rollout(width: int) -> RolloutCost:
        return RolloutCost(actions, config.latent, config.code, config.state, width, config.cost_outputs)

    def mixture(width: int) -> MixtureHead:
        return MixtureHead(known, width, config.code, config.code_modes)

    with torch.device("meta"):
        of_cost = parameters(ChunkCost(*chunk_cost))
        of_prior = parameters(GaussianHead(known, config.hidden, config.code))
    several = config.code_modes > 1
    return {
        "prior": mixture(width_for(mixture, of_prior)) if several else GaussianHead(known, config.hidden, config.code),
        "posterior": GaussianHead(config.latent + variables, config.hidden, config.code),
        "cost": rollout(width_for(rollout, of_cost)) if config.dynamics == "latent" else ChunkCost(*chunk_cost),
    }


def budgets(config: PolicyConfig, frame_size: int, horizon: int, actions: int) -> tuple[int, int]:
    """Parameters of DiffTOP's feed-forward base, and of all its heads."""
    with torch.device("meta"):
        base = parameters(make_decoder("bc", config, frame_size, horizon, actions, None))
        return base, sum(parameters(head) for head in make_heads(config, horizon, actions).values())
