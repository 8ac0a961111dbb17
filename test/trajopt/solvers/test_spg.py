"""spg beyond what holds for every solver: it may go up on its way, but never returns what is worse than its best."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import Problem, SolverOptions, SpgSettings, Status, TrajoptError, solve
from difftop_ros.trajopt.solvers.spg import SPG


def banana(actions: Tensor) -> Tensor:
    """Rosenbrock's function in each pair of coordinates: a bent valley with its floor ending at (1, 1)."""
    x, y = actions[..., 0], actions[..., 1]
    return -(100 * (y - x.square()).square() + (1 - x).square()).sum(1)


def valley(batch: int) -> tuple[Problem, Tensor]:
    bound = torch.full((2, 2), 2.0, dtype=torch.float64)
    start = torch.empty(batch, 2, 2, dtype=torch.float64)
    return Problem(banana, (), -bound, bound), start.uniform_(-1.5, 1.5, generator=torch.Generator().manual_seed(1))


def test_it_goes_up_on_its_way_and_returns_the_best() -> None:
    problem, start = valley(16)
    options = SolverOptions(method="spg", iterations=60, adjoint="none")
    state = SPG.start(problem, start, options, False)
    seen = [state.value]
    for _ in range(60):
        state = SPG.step(problem, state, options, False)
        seen.append(state.value)
    costs = torch.stack(seen)
    assert (costs.diff(dim=0) > 0).any(), "the acceptance is meant to be non-monotone"
    solution = solve(problem, start, options)
    assert torch.equal(solution.final_cost, costs.amin(0))
    assert torch.allclose(problem.cost(solution.actions), solution.final_cost, atol=1e-12)


def test_a_memory_of_one_goes_down_only() -> None:
    problem, start = valley(16)
    options = SolverOptions(method="spg", adjoint="none", settings=SpgSettings(memory=1))
    state = SPG.start(problem, start, options, False)
    for _ in range(40):
        following = SPG.step(problem, state, options, False)
        assert (following.value <= state.value).all()
        state = following


def test_it_follows_the_bent_valley_to_its_end() -> None:
    problem, start = valley(8)
    solution = solve(problem, start, SolverOptions(method="spg", iterations=600, tolerance=1e-7, adjoint="none"))
    assert solution.statuses() == [Status.CONVERGED] * 8
    assert torch.allclose(solution.actions, torch.ones_like(start), atol=1e-5)


def test_settings_are_checked() -> None:
    with pytest.raises(TrajoptError, match="memory of SpgSettings is 0"):
        SpgSettings(memory=0)
    with pytest.raises(TrajoptError, match="step_cap of SpgSettings"):
        SpgSettings(step_cap=-1.0)
