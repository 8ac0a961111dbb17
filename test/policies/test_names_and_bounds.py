"""Whatever an observation is called, its policy works; and what the networks ask for beyond the bounds is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from difftop_ros.contract import ContractError, parse_contract
from difftop_ros.policies import Policy, load_policy

AWKWARD = ["values", "training", "forward", "x-1", "mean_a"]


def renamed(text: str, joints: str, cloud: str) -> str:
    return text.replace("  joints: {kind", f"  {joints}: {{kind").replace("  cloud: {kind", f"  {cloud}: {{kind")


@pytest.mark.parametrize("name", AWKWARD)
def test_an_observation_may_be_called_as_a_method_of_the_networks(
    name: str, arm: Any, make_policy: Callable[..., Policy], frames: Callable[..., Any], tmp_path: Path
) -> None:
    policy = make_policy(renamed(arm.text, name, f"{name}_"))
    obs = frames(policy, position=0.1)
    plan = policy.act(obs).actions
    usual = make_policy()
    as_usual = {"joints": obs[name], "cloud": obs[f"{name}_"]}
    np.testing.assert_array_equal(plan, usual.act(as_usual).actions, "a name changes nothing")
    policy.save(tmp_path / "model")
    np.testing.assert_array_equal(load_policy(tmp_path / "model").act(obs).actions, plan)
    assert policy.net.train().eval() is policy.net


def test_every_name_of_a_module_can_be_an_observation(arm: Any, make_policy: Callable[..., Policy]) -> None:
    for name in dir(nn.ModuleDict()):
        if name[0] == "_":
            continue
        weights = make_policy(renamed(arm.text, name, "cloud")).net.state_dict()
        assert any(key.startswith((f"encoder.encoders.{name}.", f"encoder.encoders.{name}:.")) for key in weights)


def test_the_name_of_the_commands_is_refused(arm: Any) -> None:
    with pytest.raises(ContractError, match="called 'action', as datasets call the commands; give it another name"):
        parse_contract(renamed(arm.text, "action", "cloud"))


@pytest.mark.parametrize("policy", ["bc", "difftop"])
def test_what_is_asked_beyond_the_bounds_is_told(
    policy: str, make_policy: Callable[..., Policy], frames: Callable[..., Any]
) -> None:
    made = make_policy(policy=policy, reach=0.1)
    obs = frames(made, position=0.0)
    assert made.act(obs).outside == 0.0
    with torch.no_grad():
        made.net.base[-1].bias.fill_(2.0**40)  # as one flipped bit of an exponent does
    result = made.act(obs)
    assert result.outside > 1e9
    low, high = (np.asarray(bound) for bound in made.contract.command.bounds())
    assert ((result.actions >= low) & (result.actions <= high)).all()
