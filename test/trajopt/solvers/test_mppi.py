"""TD-MPC's planner: finds what gradients miss, never worse than its start, the same noise for every sample."""

import dataclasses

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import MppiSettings, Problem, SolverOptions, Status, TrajoptError, solve

H, A = 3, 2


def wells(actions: Tensor, goal: Tensor) -> Tensor:
    """A bowl about `goal` (B, H A) with ripples: many local optima."""
    a = actions.flatten(1)
    return -2 * (a - goal).square().sum(1) + (12 * (a - goal)).cos().sum(1)


def problem(batch: int, bound: float = 1.0) -> tuple[Problem, Tensor]:
    goal = 1.4 * torch.rand(batch, H * A, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.7
    upper = torch.full((H, A), bound, dtype=torch.float64)
    return Problem(wells, (goal,), -upper, upper), torch.zeros(batch, H, A, dtype=torch.float64)


def mppi(iterations: int = 6, seed: int = 0, **fields: object) -> SolverOptions:
    return SolverOptions(
        method="mppi", iterations=iterations, seed=seed, adjoint="none", settings=MppiSettings(**fields)
    )


def test_it_leaves_the_local_optimum_that_gradients_end_in() -> None:
    given, start = problem(16)
    gradient_based = solve(given, start, SolverOptions(iterations=100, adjoint="none"))
    sampled = solve(given, start, mppi(iterations=20))
    assert (gradient_based.statuses()) == [Status.CONVERGED] * 16
    assert (sampled.final_cost < gradient_based.final_cost - 0.5).float().mean() > 0.8
    assert (sampled.final_cost <= sampled.initial_cost).all() and sampled.actions.abs().max() <= 1


def test_more_samples_and_iterations_come_nearer() -> None:
    given, start = problem(16)
    few, more = solve(given, start, mppi(2, samples=32, elites=8)), solve(given, start, mppi(12))
    assert more.final_cost.mean() < few.final_cost.mean() - 1
    assert torch.allclose(given.cost(more.actions), more.final_cost)
    gradient = given.value_and_gradient(more.actions)[1]
    expected = (more.actions - (more.actions - gradient).clamp(-1, 1)).abs().flatten(1).amax(1)
    assert torch.allclose(more.gradient_norm, expected)


def test_the_seed_gives_the_noise_and_every_sample_has_the_same() -> None:
    given, start = problem(1)
    twice = dataclasses.replace(given, context=(given.context[0].repeat(3, 1),))
    one, again, other = (solve(twice, start.repeat(3, 1, 1), mppi(seed=s)) for s in (0, 0, 1))
    assert torch.equal(one.actions, again.actions) and not torch.equal(one.actions, other.actions)
    assert torch.equal(one.actions[0], one.actions[1]) and torch.equal(one.actions[0], one.actions[2])


def test_the_memory_bound_does_not_change_the_result() -> None:
    given, start = problem(7)
    whole, parts = solve(given, start, mppi()), solve(given, start, mppi(rows=1000))
    assert torch.allclose(whole.actions, parts.actions, rtol=0, atol=1e-9)


def test_a_start_at_the_optimum_is_kept_and_one_near_it_is_refined() -> None:
    given, _ = problem(4)
    best = given.context[0].view(4, H, A)
    kept = solve(given, best, mppi())
    assert torch.equal(kept.actions, best) and (kept.status == Status.CONVERGED).all()
    near = solve(given, best + 0.1, mppi(samples=64, elites=8))
    assert ((near.actions - best).abs() < 0.1).all(), "the candidates about the start lead to the optimum beside it"


def test_without_bounds_the_deviation_is_in_units_of_the_action() -> None:
    given, start = problem(4, float("inf"))
    got = solve(given, start, mppi(iterations=20))
    assert torch.isfinite(got.actions).all() and (got.final_cost < got.initial_cost).all()


def test_gradients_count_rollouts() -> None:
    given, start = problem(2)
    got = solve(given, start, mppi(iterations=3, samples=40, elites=10, priors=4))
    assert got.gradients.tolist() == [1 + 3 * (40 + 4 + 2) + 1] * 2, (
        "two gradients, and per iteration start and mean too"
    )


BAD = [
    ({"samples": 0}, "above 0"),
    ({"elites": 600}, "at most samples"),
    ({"momentum": 1.0}, "below 1"),
    ({"priors": -1}, "0 or more"),
    ({"temperature": 0}, "above 0"),
]


@pytest.mark.parametrize(("fields", "says"), BAD, ids=[b[1] for b in BAD])
def test_bad_settings_are_one_clear_sentence(fields: dict, says: str) -> None:
    with pytest.raises(TrajoptError, match=says):
        MppiSettings(**fields)
