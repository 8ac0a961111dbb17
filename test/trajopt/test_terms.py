"""Terms added to a problem: every solver that takes them, their gradients, their data under a prepared solve."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gpu import needs_gpu
from torch import Tensor

from difftop_ros.trajopt import (
    IlqrSettings,
    LatentRollout,
    MppiSettings,
    NewtonSettings,
    PolyakSettings,
    Problem,
    Solver,
    SolverOptions,
    TheseusSettings,
    Tracking,
    TrajoptError,
    prepare,
    solve,
)
from difftop_ros.trajopt.solvers import SOLVER_TABLE

B, H, A = 3, 4, 2
SETTINGS = {
    "mppi": MppiSettings(samples=60, elites=8, priors=4),
    "polyak": PolyakSettings(step=1.0, offset=0.1),
    "theseus": TheseusSettings(form="scalar", step=1.0, offset=0.1),
}


def pull(actions: Tensor, goal: Tensor) -> Tensor:
    """-1/2 of the squared distance, with a wave on it."""
    return -0.5 * (actions - goal).square().sum((1, 2)) + 0.1 * actions.sin().sum((1, 2))


def stiff(actions: Tensor, weight: Tensor) -> Tensor:
    """A step should be like the one before."""
    return weight * actions.diff(dim=1).square().sum((1, 2))


def near(actions: Tensor, place: Tensor, weight: Tensor) -> Tensor:
    """The last step should be at a place."""
    return weight * (actions[:, -1] - place).square().sum(1)


def plain(dtype: torch.dtype = torch.float64) -> tuple[Problem, Tensor]:
    generator = torch.Generator().manual_seed(0)
    goal = torch.randn(B, H, A, generator=generator, dtype=torch.float64).to(dtype)
    bound = torch.full((H, A), 1.2, dtype=dtype)
    return Problem(pull, (goal,), -bound, bound), torch.zeros(B, H, A, dtype=dtype)


def with_terms(weight: float | Tensor = 2.0, dtype: torch.dtype = torch.float64) -> tuple[Problem, Tensor]:
    problem, start = plain(dtype)
    weights = torch.as_tensor(weight, dtype=dtype).expand(B)
    place = torch.full((B, A), 0.5, dtype=dtype)
    return problem.adding(stiff, weights).adding(near, place, weights), start


def test_the_cost_is_the_sum_and_rows_stay_together() -> None:
    bare, _ = plain()
    problem, _ = with_terms(torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).clone())
    actions = torch.randn(B, H, A, dtype=torch.float64)
    weights = problem.context[1]
    expected = bare.cost(actions) + stiff(actions, weights) + near(actions, problem.context[2], weights)
    assert torch.allclose(problem.cost(actions), expected)
    rows = torch.tensor([2, 0])
    assert torch.equal(problem.select(rows).cost(actions[rows]), problem.cost(actions)[rows])
    twice = problem.repeat(B, 2).cost(actions.repeat_interleave(2, 0))
    assert torch.equal(twice, problem.cost(actions).repeat_interleave(2))
    assert len(problem.own_context) == 1


@pytest.mark.parametrize("method", [name for name in SOLVER_TABLE if name != "ilqr"])
def test_every_solver_that_takes_a_function_takes_terms(method: str) -> None:
    if method == "theseus":
        pytest.importorskip("theseus", reason="theseus-ai is not installed in this environment (make setup)")
    problem, start = with_terms()
    options = SolverOptions(method, iterations=60, tolerance=1e-8, adjoint="none", settings=SETTINGS.get(method))
    got = solve(problem, start, options)
    best = solve(problem, start, SolverOptions("newton", iterations=60, tolerance=1e-10, adjoint="none"))
    bare = solve(plain()[0], start, options)
    slack = 0.05 if method in ("mppi", "theseus", "polyak") else 1e-6
    assert (got.final_cost <= best.final_cost + slack).all()
    assert (problem.cost(bare.actions) > got.final_cost + 2 * slack).all(), "without the terms another plan is best"


def test_several_starts_and_a_warm_start_see_the_terms() -> None:
    problem, start = with_terms()
    best = solve(problem, start, SolverOptions(iterations=60, adjoint="none"))
    several = solve(problem, start, SolverOptions(iterations=60, starts=3, adjoint="none"))
    assert (several.final_cost <= best.final_cost + 1e-9).all()
    warm = solve(problem, start, SolverOptions(iterations=0, adjoint="none"), warm_start=best.actions)
    assert torch.allclose(warm.final_cost, best.final_cost)


@pytest.mark.parametrize("dense", [64, 0], ids=["dense", "cg"])
def test_implicit_gradients_are_those_of_finite_differences(dense: int) -> None:
    weight = torch.tensor([0.7, 1.3, 2.1], dtype=torch.float64, requires_grad=True)
    options = SolverOptions("newton", iterations=60, tolerance=1e-12, dense_limit=dense, cg_iterations=40)
    direction = torch.randn(B, H, A, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss(weights: Tensor) -> Tensor:
        problem, start = with_terms(weights)
        return (direction * solve(problem, start, options).actions).sum()

    (gradient,) = torch.autograd.grad(loss(weight), weight)
    step = 1e-5
    for row in range(B):
        change = torch.zeros(B, dtype=torch.float64)
        change[row] = step
        with torch.no_grad():
            slope = (loss(weight + change) - loss(weight - change)) / (2 * step)
        assert gradient[row] == pytest.approx(float(slope), rel=1e-5, abs=1e-8)
    assert (gradient != 0).all()


def test_unrolled_gradients_come_near_the_implicit_ones() -> None:
    found = []
    for adjoint in ("implicit", "unrolled"):
        weight = torch.tensor([0.7, 1.3, 2.1], dtype=torch.float64, requires_grad=True)
        problem, start = with_terms(weight)
        solution = solve(problem, start, SolverOptions(iterations=80, tolerance=1e-11, adjoint=adjoint, dense_limit=64))
        found.append(torch.autograd.grad(solution.actions[:, -1].sum(), weight)[0])
    assert torch.allclose(*found, rtol=1e-3)


@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("compile", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_a_prepared_solve_follows_weights_that_change(backend: str) -> None:
    options = SolverOptions(iterations=20, tolerance=1e-6, adjoint="none")
    problem, start = with_terms(2.0, torch.float32)
    prepared = prepare(problem, start, options, backend)
    for weight in (2.0, 0.0, 7.0):
        changed, _ = with_terms(weight, torch.float32)
        got, expected = prepared(changed.context, start), solve(changed, start, options)
        assert torch.allclose(got.actions, expected.actions, atol=1e-3)
        assert torch.allclose(got.final_cost, expected.final_cost, rtol=1e-4)


@needs_gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["cuda_graph", "compile+cuda_graph"])
def test_a_captured_solve_follows_weights_that_change(backend: str) -> None:
    options = SolverOptions(iterations=20, tolerance=1e-6, adjoint="none")

    def there(weight: float) -> tuple[Problem, Tensor]:
        problem, start = with_terms(weight, torch.float32)
        context = tuple(tensor.cuda() for tensor in problem.context)
        moved = Problem(pull, context, problem.lower.cuda(), problem.upper.cuda(), terms=problem.terms)
        return moved, start.cuda()

    prepared = prepare(*there(2.0), options, backend)
    for weight in (2.0, 0.0, 7.0):
        problem, start = there(weight)
        assert torch.allclose(
            prepared(problem.context, start).actions, solve(problem, start, options).actions, atol=1e-3
        )


def latent() -> Problem:
    bound = torch.ones(H, A, dtype=torch.float64)
    form = LatentRollout(lambda z, a: z + a, lambda z, a: -z.square().sum(1))
    return Problem(form, (torch.ones(B, A, dtype=torch.float64),), -bound, bound)


def tracked() -> Problem:
    bound = torch.ones(H, A, dtype=torch.float64)
    return Problem(Tracking(lambda a: a.flatten(1) - 0.3), (), -bound, bound)


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (latent, SolverOptions("ilqr", settings=IlqrSettings()), "'ilqr' sees the objective alone"),
        (tracked, SolverOptions("newton", settings=NewtonSettings(gauss_newton=True)), "gauss_newton sees the object"),
        (tracked, SolverOptions("theseus", settings=TheseusSettings()), "form 'residuals' of method 'theseus' sees"),
    ],
    ids=["ilqr", "gauss_newton", "theseus"],
)
def test_solvers_that_look_into_the_objective_refuse_terms(
    make: Callable[[], Problem], options: SolverOptions, says: str
) -> None:
    if options.method == "theseus":
        pytest.importorskip("theseus", reason="theseus-ai is not installed in this environment (make setup)")
    problem = make().adding(stiff, torch.ones(B, dtype=torch.float64))
    with pytest.raises(TrajoptError, match=says):
        solve(problem, torch.zeros(B, H, A, dtype=torch.float64), options)


def test_terms_that_do_not_fit_are_refused() -> None:
    problem, start = with_terms()
    with pytest.raises(TrajoptError, match="the terms ask for 3 tensors but the context has 1"):
        Problem(pull, problem.context[:1], problem.lower, problem.upper, terms=problem.terms)
    with pytest.raises(TrajoptError, match=r"a term returned shape \(\); expected \(3,\)"):
        solve(plain()[0].adding(lambda actions: actions.sum()), start)
    with pytest.raises(TrajoptError, match=r"method is 'lm'; expected one of \['qn'"):
        SolverOptions("lm")


def test_a_solver_may_be_an_object() -> None:
    problem, start = with_terms()
    own = Solver(SOLVER_TABLE["qn"].run)
    got = solve(problem, start, SolverOptions(own, iterations=5))
    assert torch.equal(got.actions, solve(problem, start, SolverOptions("qn", iterations=5)).actions)
