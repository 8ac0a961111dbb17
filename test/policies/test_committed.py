"""A plan that goes on with another: what is settled stays, whoever solves, and the rest is still the policy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from difftop_ros.policies import Policy
from difftop_ros.policies.difftop import continuing
from difftop_ros.trajopt import ActionChunk, Problem, SolverOptions, solve
from difftop_ros.trajopt.solvers import SOLVER_TABLE

Make = Callable[..., Policy]
Frames = Callable[..., dict[str, np.ndarray]]
CASES: dict[str, dict[str, Any]] = {
    "chunk": {}, "latents": {"latent_samples": 3}, "absolute": {"action_frame": "absolute"},
    "latent": {"dynamics": "latent"}, "ilqr": {"dynamics": "latent", "solver": "ilqr"},
}  # fmt: skip


def in_force(policy: Policy, origin: float = 0.4) -> np.ndarray:
    """A plan (H, A) that the policy would not make."""
    steps = np.linspace(0, 1, policy.horizon)[:, None]
    return origin + 0.2 * np.sin(3 * steps + np.arange(2))


@pytest.mark.parametrize("prepared", [False, True], ids=["", "prepared"])
@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_settled_steps_are_left_as_they_are(make_policy: Make, frames: Frames, config: Any, prepared: bool) -> None:
    policy = make_policy(**config, iterations=12)
    if prepared and policy.config.own.solver == "qn":
        policy.prepare("eager")
    obs = frames(policy, position=0.0 if config.get("action_frame") == "absolute" else 0.4)
    plan = in_force(policy, 0.0 if config.get("action_frame") == "absolute" else 0.4)
    free = policy.act(obs, warm_start=plan).actions
    for committed in range(1, policy.horizon):
        found = policy.act(obs, warm_start=plan, committed=committed)
        np.testing.assert_array_equal(found.actions[:committed], plan[:committed])
        assert np.isfinite(found.actions).all() and found.status != "NONFINITE"
        assert np.abs(found.actions[committed:] - plan[committed:]).max() > 1e-3, "the rest is for the policy to choose"
    np.testing.assert_array_equal(policy.act(obs, warm_start=plan, committed=0).actions, free)
    np.testing.assert_array_equal(policy.act(obs, committed=3).actions, policy.act(obs).actions)


def test_what_is_settled_may_lie_where_the_policy_never_plans(make_policy: Make, frames: Frames) -> None:
    policy = make_policy()
    plan = in_force(policy, 1.5)  # reach is 0.3 about 0.4
    found = policy.act(frames(policy, position=0.4), warm_start=plan, committed=2)
    np.testing.assert_array_equal(found.actions[:2], plan[:2])
    assert np.abs(found.actions[2:] - 0.4).max() <= 0.34


def test_a_policy_that_optimises_nothing_passes_it_over(make_policy: Make, frames: Frames) -> None:
    policy = make_policy(policy="bc")
    obs = frames(policy)
    found = policy.act(obs, warm_start=in_force(policy), committed=3).actions
    np.testing.assert_array_equal(found, policy.act(obs).actions)


@pytest.mark.parametrize("method", [name for name, solver in SOLVER_TABLE.items() if solver.form is None])
def test_every_solver_leaves_settled_steps_and_lowers_the_cost_of_the_rest(method: str) -> None:
    torch.manual_seed(0)
    goal = torch.randn(3, 6, 2, dtype=torch.float64).clamp(-0.9, 0.9)
    coupled = ActionChunk(lambda a, g: (a - g).square().sum((1, 2)) + a.diff(dim=1).square().sum((1, 2)))
    low, high = -torch.ones_like(goal), torch.ones_like(goal)
    base = torch.zeros_like(goal)
    problem = Problem(coupled, (goal,), low, high, reference=base, proximal=0.1)
    plan = torch.rand_like(goal) - 0.5
    settled = continuing(problem, plan, 2)
    found = solve(settled, base, SolverOptions(method=method, iterations=30, adjoint="none"), plan)
    assert torch.equal(found.actions[:, :2], plan[:, :2])
    assert (settled.cost(found.actions) <= settled.cost(settled.clamp(base)) + 1e-9).all()
    assert (found.actions[:, 2:] - plan[:, 2:]).abs().max() > 0.05
