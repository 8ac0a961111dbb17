"""The one place that knows which class a configuration asks for."""

from __future__ import annotations

from difftop_ros.contract import Contract
from difftop_ros.policies.config import PolicyConfig
from difftop_ros.policies.difftop import DifftopNet
from difftop_ros.policies.net import PolicyNet
from difftop_ros.policies.residual import ResidualNet

NETS: dict[str, type[PolicyNet]] = {"difftop": DifftopNet, "residual": ResidualNet}


def make_net(contract: Contract, config: PolicyConfig) -> PolicyNet:
    """Networks with fresh weights for `config` under `contract`."""
    return NETS.get(config.policy, PolicyNet)(contract, config)
