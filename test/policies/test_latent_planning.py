"""Policies that learn by trying, under a contract and without one: plans, folders, the same interface as the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.policies import Policy, PolicyConfig, PolicyError, load_policy, make_acting_net, make_net
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.latent_planning.net import LatentPlanningNet, position_steps
from difftop_ros.policies.latent_planning.options import LatentPlanningConfig, PriorOptions, TdmpcOptions
from difftop_ros.policies.normalisation import ObservationNormaliser
from difftop_ros.trajopt import shift

SIZES = {"latent_size": 16, "model_width": 32, "features": 32, "point_widths": (8, 16), "keypoints": 4, "horizon": 4}
SEARCH = {"mppi_samples": 32, "mppi_elites": 8, "mppi_iterations": 2}


def config(policy: str = "difftop_rl", **options: Any) -> LatentPlanningConfig:
    return LatentPlanningConfig(policy=policy, **{**SIZES, **(SEARCH if policy == "tdmpc" else {}), **options})


def varied(module: torch.nn.Module, seed: int) -> None:
    """Weights that make plans which differ: heads are born near zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def agent(seed: int = 0, **options: Any) -> LatentAgent:
    torch.manual_seed(seed)
    spec = {"state": ("vector", (3,))}
    found = LatentAgent(spec, 2, config(**options), ObservationNormaliser(spec))
    varied(found.model, seed)
    return found


def states(of: LatentAgent, count: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return of.encode({"state": torch.randn(count, 1, 3, generator=generator)}).detach()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{}, {"bins": 21}, {"simplex": 0}, {"caution": 0.5, "values": 3}], ids=str)
def test_a_plan_is_worth_no_less_than_the_prior_s_under_the_model(seed: int, options: dict[str, Any]) -> None:
    found = agent(seed, **options)
    state = states(found)
    with torch.no_grad():
        plan, proposal = found.plan(state), found.propose(state)
        problem = found.problem(state, proposal)
        worth = [problem.objective(actions, state) for actions in (plan.actions, proposal)]
        assert (worth[0] >= worth[1] - 1e-5).all() and (worth[0] > worth[1] + 1e-4).any()
        warm = shift(plan.actions, 1)
        again = found.plan(state, warm)
        cheaper = torch.minimum(problem.cost(warm), problem.cost(proposal))
        assert (again.final_cost <= cheaper + 1e-5).all(), "both starts are tried and the cheaper is kept"
    assert plan.actions.abs().max() <= 1


def test_plans_by_sampling_and_the_prior_alone_act_on_the_same_weights() -> None:
    found = agent()
    state = states(found)
    with torch.no_grad():
        torch.testing.assert_close(found.acting_by(PriorOptions()).plan(state).actions, found.propose(state))
        sampled = found.acting_by(TdmpcOptions(**SEARCH))
        cost = sampled.problem(state, found.propose(state)).cost
        assert (cost(sampled.plan(state).actions) <= cost(found.propose(state)) + 1e-5).all()
    assert found.own.name == "difftop_rl", "the agent itself is left as it was"


def test_an_uncertain_end_is_worth_less_with_caution() -> None:
    found = agent(values=4)
    state = states(found)
    with torch.no_grad():
        spread = found.model.values(state, found.model.prior(state)).std(0, correction=0)
        less = found.model.final(state) - found.model.final(state, 2.0)
    torch.testing.assert_close(less, 2 * spread, atol=2e-3, rtol=1e-3)


def test_a_target_in_bins_is_read_back_and_its_cross_entropy_is_least_there() -> None:
    numbers = agent(bins=101).model.numbers
    for target in (-300.0, -0.7, 0.0, 0.04, 5.0, 1234.0):
        outputs = torch.zeros(101, requires_grad=True)
        optimiser = torch.optim.Adam([outputs], 0.3)
        for _ in range(300):
            optimiser.zero_grad()
            numbers.error(outputs, torch.tensor(target)).backward()
            optimiser.step()
        assert abs(float(numbers.read(outputs.detach())) - target) <= 0.02 * (1 + abs(target))


@pytest.fixture
def contract(arm: Any) -> Contract:
    return parse_contract(arm.text, "test")


@pytest.mark.parametrize("policy", ["difftop_rl", "tdmpc", "prior"])
def test_a_folder_gives_the_same_plans(contract: Contract, policy: str, frames: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = make_acting_net(contract, config(policy))
    varied(net, 1)
    first = Policy(net, contract, torch.device("cpu"))
    again = load_policy(first.save(tmp_path / "model"))
    assert again.config == first.config
    seen = frames(first)
    plan, other = first.act(seen), again.act(seen)
    np.testing.assert_array_equal(plan.actions, other.actions)
    low, high = map(np.asarray, contract.command.bounds())
    assert plan.actions.shape == (4, 2) and (plan.actions >= low).all() and (plan.actions <= high).all()
    assert plan.status in ("CONVERGED", "MAX_ITERATIONS")
    assert "agent" in again.card()


def test_positions_are_offsets_that_the_joints_can_keep(contract: Contract, frames: Any) -> None:
    net = LatentPlanningNet(contract, config())
    varied(net, 2)
    policy = Policy(net, contract, torch.device("cpu"))
    seen = frames(policy, position=0.1)
    plan = policy.act(seen).actions
    moves = np.diff(np.vstack([np.full(2, 0.1), plan]), axis=0)
    assert (np.abs(moves) <= np.asarray(position_steps(contract)) + 1e-6).all()
    steps = torch.rand(3, 4, 2) * 2 - 1
    torch.testing.assert_close(net.to_steps(net.to_scaled(steps)), steps)
    warm = policy.act(seen, warm_start=plan)
    assert warm.final_cost <= policy.act(seen).initial_cost + 1e-5
    prior = policy.act(seen, iterations=0)
    assert prior.iterations == 0 and not np.allclose(prior.actions, plan)


class Near:
    """Commands near to a place are cheap."""

    def __init__(self, place: float) -> None:
        self.data = (torch.tensor(place),)

    def __call__(self, actions: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        return 100 * (actions - place[:, None, None]).square().mean((1, 2))


def test_costs_at_run_time_move_the_plan(contract: Contract, frames: Any) -> None:
    net = LatentPlanningNet(contract, config(plan_iterations=20))
    varied(net, 3)
    policy = Policy(net, contract, torch.device("cpu"))
    seen = frames(policy, position=0.0)
    ends = [policy.act(seen, terms=[Near(place)]).actions[-1] for place in (-0.5, 0.5)]
    assert (ends[0] < -0.01).all() and (ends[1] > 0.01).all(), "in contract units, whatever the agent's steps are"
    prior = Policy(LatentPlanningNet(contract, config("prior")), contract, torch.device("cpu"))
    with pytest.raises(PolicyError, match="'prior' optimises nothing"):
        prior.act(seen, terms=[Near(0.0)])


def test_what_learns_by_trying_is_not_trained_by_imitation_and_the_other_way_round(contract: Contract) -> None:
    with pytest.raises(PolicyError, match="policy 'difftop_rl' learns by trying"):
        make_net(contract, config())
    with pytest.raises(PolicyError, match="policy is 'difftop_rl'; expected one of"):
        PolicyConfig(policy="difftop_rl")
    with pytest.raises(PolicyError, match=r"policy is 'bc'; expected one of \['difftop_rl', 'tdmpc', 'prior'\]"):
        LatentPlanningConfig(policy="bc")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"latent_size": 20}, "divisor of latent_size"),
        ({"bins": 1}, "expected 0 or at least 3"),
        ({"obs_steps": 2}, "sees one frame"),
        ({"policy": "tdmpc", "mppi_elites": 999}, "at most the 32 mppi_samples"),
        ({"mppi_samples": 10}, r"has no settings \['mppi_samples'\], which belong to \['tdmpc'\]"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        config(**options)
