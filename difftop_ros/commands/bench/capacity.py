"""Equal budgets: widths at which every policy has about as many parameters as difftop on bc. `difftop train` has none.

A policy alone gets as many in all, as difftop's base, prior, posterior and cost; a base as many as difftop's own base;
the residual's correction as many as difftop's prior, posterior and cost; a prior with modes and a cost along a rollout
as many as without.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from difftop_ros.contract import Contract
from difftop_ros.policies import PolicyConfig, make_net
from difftop_ros.policies.builtin import DifftopOptions, ResidualOptions


def parts(contract: Contract, config: PolicyConfig) -> dict[str, int]:
    """Parameters of each part of the policy's networks, without making them."""
    with torch.device("meta"):
        return make_net(contract, config).parts()


def width_for(size: Callable[[int], int], budget: int) -> int:
    """The width, a multiple of 8, at which size(width) comes nearest to `budget` parameters; size grows with it."""
    low, high = 1, 2
    while size(8 * high) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(8 * middle) < budget else (low, middle)
    return 8 * min(low, high, key=lambda eighths: abs(size(8 * eighths) - budget))


def with_equal_budget(contract: Contract, config: PolicyConfig, reference: PolicyConfig | None = None) -> PolicyConfig:
    """The configuration with its widths chosen; what is shared by all (encoders, horizon) is left as it is.

    reference: the difftop policy that is the measure, None for one of plain widths. A base from a folder keeps its
    sizes.
    """
    shared = {option.name: getattr(config, option.name) for option in PolicyConfig.listed()}
    measure = parts(contract, reference or PolicyConfig(**{**shared, "policy": "difftop"}))

    def fitted(config: PolicyConfig, width: str, part: str, budget: int) -> PolicyConfig:
        def size(value: int) -> int:
            found = parts(contract, config.replace(**{width: value}))
            return sum(found.values()) if part == "all" else found[part]

        return config.replace(**{width: width_for(size, budget)})

    width = config.decoder.width
    if not config.refines:
        return fitted(config, width, "all", sum(measure.values())) if width else config
    if width and not getattr(config.own, "base_from", ""):
        config = fitted(config, width, "base", measure["base"])
    if isinstance(config.own, ResidualOptions):
        budget = sum(measure[part] for part in ("prior", "posterior", "cost"))
        return fitted(config, "residual_width", "correction", budget)
    own = config.own
    if isinstance(own, DifftopOptions):
        plain = parts(contract, config.replace(latent_modes=1, dynamics="none", solver="qn"))
        if own.latent_modes > 1:
            config = fitted(config, "prior_width", "prior", plain["prior"])
        if own.dynamics == "latent":
            config = fitted(config, "cost_width", "cost", plain["cost"])
    return config
