"""Equal budgets: `difftop bench` gives every policy about as many parameters, and says so in its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from difftop_ros.commands.bench.capacity import parts, with_equal_budget
from difftop_ros.contract import Contract, load_contract
from difftop_ros.paths import share_path
from difftop_ros.policies import PolicyConfig, make_net
from difftop_ros.policies.config import base_names, policy_names

CASES: list[dict[str, Any]] = [
    *({"policy": name} for name in policy_names()),
    *({"policy": name, "base": base} for name in ("difftop", "residual") for base in base_names()),
    {"policy": "difftop", "latent_modes": 3, "latent_samples": 4},
    {"policy": "difftop", "dynamics": "latent", "solver": "ilqr"},
]


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(share_path("config/metaworld_state.yaml"))


@pytest.mark.parametrize("options", CASES, ids=str)
def test_parameters_are_about_as_many_for_all(contract: Contract, options: dict[str, Any]) -> None:
    measure = parts(contract, PolicyConfig())
    config = with_equal_budget(contract, PolicyConfig(**options))
    found = sum(parts(contract, config).values())
    if options.get("base") == "zero":  # it has no base to count
        found += measure["base"]
    assert found == pytest.approx(sum(measure.values()), rel=0.2)
    again = PolicyConfig.from_dict(config.to_dict())
    assert again == config and sum(make_net(contract, again).parts().values()) == sum(parts(contract, config).values())


@pytest.mark.parametrize("base", ["bc", "diffusion"])
def test_modes_of_the_prior_cost_no_parameters(contract: Contract, base: str) -> None:
    one, eight = (
        sum(parts(contract, with_equal_budget(contract, PolicyConfig(base=base, latent_modes=modes))).values())
        for modes in (1, 8)
    )
    assert eight == pytest.approx(one, rel=0.005)


def test_widths_are_the_users_where_nothing_is_compared(contract: Contract) -> None:
    assert PolicyConfig(policy="bc").own.to_dict() == {"bc_width": 256}
    assert make_net(contract, PolicyConfig(policy="bc", bc_width=40)).get_parameter("base.0.weight").shape[0] == 40
