"""Terms added to a policy's cost at run time: in commands, in joint order, with data that may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difftop_ros.costs import Smoothness
from difftop_ros.policies import Policy, PolicyError

Make = Callable[..., Policy]
Frames = Callable[..., dict[str, np.ndarray]]


class Towards:
    """The last step's commands should be at `place` [rad]."""

    def __init__(self, place: list[float], weight: float) -> None:
        self.place, self.weight = torch.tensor(place), weight

    @property
    def data(self) -> tuple[Tensor, ...]:
        return self.place, torch.tensor(self.weight)

    def __call__(self, commands: Tensor, place: Tensor, weight: Tensor) -> Tensor:
        assert place.shape == (len(commands), 2) and weight.shape == (len(commands),)
        return weight * (commands[:, -1] - place).square().sum(1)


@pytest.mark.parametrize(
    "config",
    [{}, {"latent_samples": 3}, {"action_frame": "absolute"}, {"dynamics": "latent"}],
    ids=["chunk", "latents", "absolute", "latent"],
)
def test_a_term_is_in_the_contracts_units(make_policy: Make, frames: Frames, config: dict[str, Any]) -> None:
    policy = make_policy(**config, iterations=12)
    obs = frames(policy, position=0.4)
    plain = policy.act(obs)
    origin = 0.0 if policy.config.action_frame == "absolute" else 0.4
    goal = np.array([origin + 0.2, origin - 0.1])  # within the reach of 0.33 around the origin
    pulled = policy.act(obs, terms=[Towards(goal.tolist(), 1e4)])
    assert np.abs(pulled.actions[-1] - goal).max() < 0.01 < np.abs(plain.actions[-1] - goal).max()
    weightless = policy.act(obs, terms=[Towards(goal.tolist(), 0.0)])
    assert np.allclose(weightless.actions, plain.actions, atol=1e-4)


def test_smoothness_makes_smoother(make_policy: Make, frames: Frames) -> None:
    policy = make_policy(iterations=20)
    term = Smoothness(policy.contract.rate_hz, weight=0.0)
    obs, rough = frames(policy), []
    for weight in (0.0, 1e-3, 1.0):
        term.weight = weight
        actions = policy.act(obs, terms=[term]).actions
        rough.append(float(np.square(np.diff(actions, 2, axis=0)).mean()))
    assert rough[0] > 1.2 * rough[1] > 1.2 * rough[2]


@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("compile", marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_a_prepared_policy_follows_the_terms_data(make_policy: Make, frames: Frames, backend: str) -> None:
    policy = make_policy(iterations=12)
    terms = [Smoothness(policy.contract.rate_hz, 1e-3), Towards([0.1, 0.1], 10.0)]
    obs, expected = frames(policy), []
    for weight in (0.0, 10.0, 1e3):
        terms[1].weight = weight
        expected.append(policy.act(obs, terms=terms).actions)
    policy.prepare(backend, terms)
    for weight, actions in zip((0.0, 10.0, 1e3), expected, strict=True):
        terms[1].weight = weight
        assert np.allclose(policy.act(obs, terms=terms).actions, actions, atol=2e-3)
    with pytest.raises(PolicyError, match="was prepared for 2 terms, and 0 or others are given"):
        policy.act(obs)
    policy.prepare("none")
    policy.act(obs)


def test_a_policy_without_an_optimiser_refuses_terms(make_policy: Make, frames: Frames) -> None:
    policy = make_policy(policy="bc")
    with pytest.raises(PolicyError, match="'bc' optimises nothing that terms could be added to"):
        policy.act(frames(policy), terms=[Smoothness(20.0)])
