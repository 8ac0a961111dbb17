"""Several starts, warm starts and their shift: never worse, deterministic, healthy among bad ones. For every solver."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import (
    LatentRollout,
    MppiSettings,
    Problem,
    SolverOptions,
    Status,
    TheseusSettings,
    TrajoptError,
    shift,
    solve,
)
from difftop_ros.trajopt.solvers import SOLVER_TABLE

H, A = 3, 2
SETTINGS = {"mppi": MppiSettings(samples=48, elites=8, priors=4), "theseus": TheseusSettings(form="scalar")}


def ripples(state: Tensor, action: Tensor) -> Tensor:
    """A bowl about the state with ripples: from zero, most gradients lead into a local optimum."""
    return -2 * (action - state).square().sum(1) + (9 * (action - state)).cos().sum(1)


def problem(batch: int, bound: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Problem, Tensor]:
    goal = 1.6 * torch.rand(batch, A, generator=torch.Generator().manual_seed(4), dtype=dtype) - 0.8
    upper = torch.full((H, A), bound, dtype=dtype)
    form = LatentRollout(lambda z, a: 0.9 * z, ripples)
    return Problem(form, (goal,), -upper, upper), torch.zeros(batch, H, A, dtype=dtype)


def options(method: str, starts: int = 1, **fields: object) -> SolverOptions:
    if method == "theseus":
        pytest.importorskip("theseus", reason="theseus-ai is not installed in this environment (make setup)")
    defaults = {"iterations": 15, "adjoint": "none", "settings": SETTINGS.get(method)}
    return SolverOptions(method=method, starts=starts, **{**defaults, **fields})


@pytest.mark.parametrize("method", SOLVER_TABLE)
def test_more_starts_are_never_worse_and_on_many_optima_better(method: str) -> None:
    given, start = problem(24)
    one, eight = solve(given, start, options(method)), solve(given, start, options(method, starts=8))
    assert (eight.final_cost <= one.final_cost + 1e-9).all()
    assert (eight.final_cost < one.final_cost - 0.1).any()
    assert torch.equal(eight.initial_cost, one.initial_cost)
    assert (eight.gradients > one.gradients).all() and eight.gradients.shape == (24,)
    assert torch.allclose(given.cost(eight.actions), eight.final_cost)
    again = solve(given, start, options(method, starts=8))
    assert torch.equal(again.actions, eight.actions)


@pytest.mark.parametrize("method", SOLVER_TABLE)
def test_a_sample_alone_has_the_same_starts(method: str) -> None:
    given, start = problem(5)
    together = solve(given, start, options(method, starts=4))
    for row in (0, 4):
        alone = solve(given.select(torch.tensor([row])), start[:1], options(method, starts=4))
        assert torch.allclose(alone.actions[0], together.actions[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", SOLVER_TABLE)
def test_a_warm_start_is_never_worse_than_its_own_start(method: str) -> None:
    given, start = problem(12)
    warm = 4 * torch.rand(12, H, A, generator=torch.Generator().manual_seed(8), dtype=torch.float64) - 2  # also outside
    warm[::2] = given.context[0][::2, None] + 0.1
    got = solve(given, start, options(method, iterations=4), warm_start=warm)
    cold, warm_cost = given.cost(start), given.cost(given.clamp(warm))
    assert (cold < warm_cost).any() and (warm_cost < cold).any(), "the test is meant to have both"
    assert torch.allclose(got.initial_cost, torch.minimum(cold, warm_cost))
    assert (got.final_cost <= got.initial_cost).all()


def test_shifted_plans_are_good_warm_starts() -> None:
    given, start = problem(12)
    plan = solve(given, start, options("qn", starts=8)).actions
    later = dataclasses.replace(given, context=(0.9 * given.context[0],))
    cold = solve(later, start, options("qn", iterations=3))
    warm = solve(later, start, options("qn", iterations=3), warm_start=shift(plan, 1))
    assert warm.final_cost.mean() < cold.final_cost.mean() - 0.5


def test_a_warm_start_that_is_not_finite_loses() -> None:
    given, start = problem(3)
    warm = start.clone()
    warm[1] = torch.nan
    got = solve(given, start, options("qn"), warm_start=warm)
    expected = solve(given, start, options("qn"))
    assert torch.equal(got.actions, expected.actions)
    # a return that leaves an action out does not notice that it is not a number
    blind = Problem(lambda a: -(a[:, :, 0] - 0.5).square().sum(1), (), given.lower, given.upper)
    warm = torch.full_like(start, 0.5)
    warm[:, :, 1] = torch.nan
    assert torch.isfinite(solve(blind, start, options("qn"), warm_start=warm).actions).all()


def hole(actions: Tensor, radius: Tensor) -> Tensor:
    """Not a number within `radius` (B,) of the origin, a bowl about 0.8 elsewhere."""
    a = actions.flatten(1)
    bowl = -(a - 0.8).square().sum(1)
    return torch.where(a.square().sum(1) < radius, torch.nan, bowl)


def test_healthy_starts_help_where_the_given_one_is_not_finite() -> None:
    bound = torch.ones(H, A, dtype=torch.float64)
    start = torch.zeros(3, H, A, dtype=torch.float64)
    radius = torch.tensor([0.01, -1.0, 1e9], dtype=torch.float64)
    got = solve(Problem(hole, (radius,), -bound, bound), start, options("qn", starts=6, iterations=30))
    assert got.statuses() == [Status.CONVERGED, Status.CONVERGED, Status.NONFINITE]
    assert torch.allclose(got.actions[:2], torch.full_like(got.actions[:2], 0.8), atol=1e-4)
    assert torch.equal(got.actions[2], start[2]), "where every start is bad, the given one is kept"


def cliff(actions: Tensor) -> Tensor:
    """Finite everywhere; its gradient is infinite in the plane where the first action is 0."""
    a = actions.flatten(1)
    return -a[:, 0].abs().sqrt() - a.square().sum(1)


def test_a_start_with_a_bad_gradient_gives_way_to_nothing_dearer() -> None:
    bound = torch.ones(H, A, dtype=torch.float64)
    start = torch.zeros(1, H, A, dtype=torch.float64)  # the global optimum, and no gradient there
    got = solve(Problem(cliff, (), -bound, bound), start, options("qn", starts=6, iterations=5))
    assert got.statuses() == [Status.NONFINITE] and torch.equal(got.actions, start)


def test_shift_drops_the_first_steps_and_repeats_the_last() -> None:
    plan = torch.arange(12.0).view(2, 3, 2)
    assert torch.equal(shift(plan, 0), plan)
    assert torch.equal(shift(plan, 1), torch.stack([plan[:, 1], plan[:, 2], plan[:, 2]], 1))
    assert torch.equal(shift(plan, 7), plan[:, 2:].expand(2, 3, 2))
    assert torch.equal(shift(plan[:, :1], 1), plan[:, :1])


def bowl(actions: Tensor) -> Tensor:
    return -actions.square().sum((1, 2))


BAD = [
    (lambda p, s: shift(s, -1), "0 or more"),
    (lambda p, s: shift(s[0], 1), r"expected \(batch, horizon, joints\)"),
    (
        lambda p, s: solve(dataclasses.replace(p, objective=bowl, context=()), s, warm_start=s[:1]),
        "as the start has it",
    ),
    (lambda p, s: solve(p, s, warm_start=s.float()), "convert one"),
    (lambda p, s: SolverOptions(starts=0), "1 or more"),
    (lambda p, s: SolverOptions(start_spread=0.0), "above 0"),
]


@pytest.mark.parametrize(("call", "says"), BAD, ids=[f"{i}-{b[1]}" for i, b in enumerate(BAD)])
def test_bad_input_is_one_clear_sentence(call: Any, says: str) -> None:
    with pytest.raises(TrajoptError, match=says):
        call(*problem(4))
