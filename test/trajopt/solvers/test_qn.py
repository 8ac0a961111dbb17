"""qn beyond what holds for every solver: its model, its speed of convergence, its deadline, and that it never waits."""

from __future__ import annotations

import dataclasses
import types

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import (
    Problem,
    QnSettings,
    SolverOptions,
    Status,
    TrajoptError,
    mean_curvature,
    prepare,
    solve,
)
from difftop_ros.trajopt.solvers import SOLVER_TABLE, bfgs, steppers


def box_quadratic(n: int, batch: int, condition: float, half_width: float) -> tuple[Problem, Tensor]:
    """-G = 1/2 a'Qa - b'a with eigenvalues spread over `condition`, and a start at the middle of the box."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    turned = torch.linalg.qr(normal(n, n))[0]
    values = 0.1 * torch.logspace(0, float(torch.tensor(condition).log10()), n, dtype=torch.float64)
    matrix = turned @ torch.diag(values) @ turned.transpose(1, 2)
    bound = torch.full((n, 1), half_width, dtype=torch.float64)
    pull = normal(n) * values.mean().sqrt()
    return Problem(quadratic, (matrix, pull), -bound, bound), torch.zeros(batch, n, 1, dtype=torch.float64)


def quadratic(actions: Tensor, matrix: Tensor, pull: Tensor) -> Tensor:
    a = actions.flatten(1)
    return (pull * a).sum(1) - 0.5 * torch.einsum("bi,bij,bj->b", a, matrix, a)


def plain(**fields: object) -> SolverOptions:
    return SolverOptions(**{"adjoint": "none", **fields})


@pytest.mark.parametrize(("n", "condition"), [(30, 100.0), (112, 1000.0)])
def test_few_iterations_come_close_to_the_optimum_with_bounds_active(n: int, condition: float) -> None:
    """The version before this one, without self-scaling, left 1e-4 and 7e-3 of the way (n = 30, 112)."""
    problem, start = box_quadratic(n, 48, condition, 0.4)
    best = solve(problem, start, plain(iterations=300, tolerance=1e-9))
    assert set(best.statuses()) == {Status.CONVERGED} and best.active_fraction.mean() > 0.5
    few = solve(problem, start, plain(iterations=8))
    left = (few.final_cost - best.final_cost).mean() / (few.initial_cost - best.final_cost).mean()
    assert left < {30: 4e-5, 112: 5e-3}[n]


def test_terms_and_matrix_are_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, start = box_quadratic(40, 8, 100.0, 0.4)
    matrix = solve(problem, start, plain(iterations=12, tolerance=1e-12)).actions
    monkeypatch.setattr(bfgs, "DENSE", 0)
    assert not bfgs.is_dense(40, 12)
    terms = solve(problem, start, plain(iterations=12, tolerance=1e-12)).actions
    assert torch.allclose(matrix, terms, atol=1e-9) and not torch.equal(matrix, start)


@pytest.mark.parametrize("dense", [True, False], ids=["matrix", "terms"])
def test_the_model_meets_the_secant_condition_and_stays_positive(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfgs, "DENSE", 64 if dense else 0)
    generator = torch.Generator().manual_seed(1)
    updates, n = 4, 12
    model = bfgs.new_model(torch.full((3,), 5.0, dtype=torch.float64), n, updates)
    learn = torch.tensor([True, True, False])
    bent = torch.diag_embed(torch.linspace(0.5, 8, n, dtype=torch.float64)).expand(3, n, n)
    for index in range(updates):
        step = torch.randn(3, n, generator=generator, dtype=torch.float64)
        change = torch.einsum("bij,bj->bi", bent, step)
        change[1] = -change[1] if index == 2 else change[1]  # negative curvature once
        model = bfgs.learn_from(model, step, change, learn, dense)
    image = bfgs.product(model, step, dense)
    assert torch.allclose(image[0], change[0], atol=1e-10)
    assert torch.allclose(image[2], 5 * step[2], atol=1e-12), "what is not to be learnt changes nothing"
    for unit in torch.eye(n, dtype=torch.float64):
        assert ((unit * bfgs.product(model, unit.expand(3, n), dense)).sum(1) > 0).all()


def test_the_step_cap_holds() -> None:
    problem, start = box_quadratic(6, 4, 10.0, 5.0)
    solution = solve(problem, start, plain(iterations=1, settings=QnSettings(step_cap=0.01)))
    assert solution.actions.abs().max() <= 0.01 + 1e-12
    with pytest.raises(TrajoptError, match="step_cap of QnSettings"):
        QnSettings(step_cap=0.0)


class Clock:
    """A clock that only the objective moves: 10 ms per evaluation."""

    def __init__(self) -> None:
        self.now, self.evaluations = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def objective(self, actions: Tensor) -> Tensor:
        self.now, self.evaluations = self.now + 0.010, self.evaluations + 1
        weights = torch.arange(1.0, 7.0).view(3, 2)
        return -(weights * (actions - 0.3).square()).sum((1, 2)) - (3 * actions).sin().sum((1, 2))


@pytest.mark.parametrize(("deadline_ms", "evaluations"), [(1.0, 1), (25.0, 2), (45.0, 4)])
@pytest.mark.parametrize("method", steppers())
def test_the_deadline_is_met_within_one_evaluation(
    method: str, deadline_ms: float, evaluations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("difftop_ros.trajopt.solution.time", types.SimpleNamespace(perf_counter=clock.perf_counter))
    bound = torch.ones(3, 2)
    problem = Problem(clock.objective, (), -bound, bound)
    options = plain(method=method, iterations=50, tolerance=1e-12, deadline_ms=deadline_ms)
    solution = solve(problem, torch.zeros(2, 3, 2), options)
    assert solution.statuses() == [Status.DEADLINE] * 2
    assert clock.evaluations == evaluations
    assert (solution.gradients == evaluations).all()


@pytest.mark.parametrize("terms", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("method", steppers())
def test_start_and_step_never_wait_for_the_device(method: str, terms: bool) -> None:
    """On the meta device there are no numbers: any bool(), item() or shape that depends on one raises."""
    horizon = 40 if terms else 5
    net = torch.nn.Sequential(torch.nn.Linear(6 * horizon + 3, 8), torch.nn.ELU(), torch.nn.Linear(8, 1)).to("meta")
    bound = torch.ones(horizon, 6, device="meta")
    actions, z = torch.zeros(2, horizon, 6, device="meta"), torch.zeros(2, 3, device="meta")

    def gain(a: Tensor, z: Tensor) -> Tensor:
        return net(torch.cat([a.flatten(1), z], 1)).squeeze(1)

    problem = Problem(gain, (z,), -bound, bound, actions, 0.1)
    options = plain(method=method)
    assert bfgs.is_dense(actions[0].numel(), options.iterations) is not terms
    stepper = SOLVER_TABLE[method].stepper
    assert stepper is not None
    state = stepper.start(problem, actions, options, False)
    following = stepper.step(problem, state, options, False)
    for name, before, after in zip(state._fields, state, following):
        assert (before.shape, before.dtype) == (after.shape, after.dtype), f"{name} has no fixed shape"
    assert stepper.solution(problem, following, options, False).status.shape == (2,)
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(following.done.all())


@pytest.mark.parametrize("method", steppers())
def test_a_step_changes_no_sample_that_is_done(method: str) -> None:
    problem, start = box_quadratic(6, 3, 10.0, 0.4)
    stepper = SOLVER_TABLE[method].stepper
    assert stepper is not None
    options = plain(method=method)
    state = stepper.start(problem, start, options, False)
    state = state._replace(done=torch.tensor([True, False, True]))
    following = stepper.step(problem, state, options, False)
    for name in ("actions", "value", "gradient", "iterations"):
        before, after = getattr(state, name), getattr(following, name)
        assert torch.equal(before[[0, 2]], after[[0, 2]]) and not torch.equal(before[1], after[1]), name


def nearly_alike(batch: int, half_width: float) -> tuple[Problem, Tensor, Tensor]:
    """Quadratics of 20 variables whose matrices differ by a tenth, with their mean."""
    problem, start = box_quadratic(20, batch, 30.0, half_width)
    matrix, pull = problem.context
    root = torch.linalg.cholesky(matrix[0])
    other = torch.randn(batch, 20, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 20**0.5
    own = root @ (torch.eye(20, dtype=torch.float64) + 0.05 * (other + other.transpose(1, 2))) @ root.T
    return dataclasses.replace(problem, context=(own, pull)), start, own.mean(0)


@pytest.mark.parametrize("half_width", [0.4, 50.0], ids=["bounds", "inside"])
def test_known_curvature_saves_iterations(half_width: float) -> None:
    problem, start, mean = nearly_alike(16, half_width)
    assert torch.allclose(mean_curvature(problem, start, 1e-3), mean, atol=1e-9)
    best = solve(problem, start, plain(method="newton", iterations=100, tolerance=1e-9))
    assert set(best.statuses()) == {Status.CONVERGED}

    def left(**settings: object) -> float:
        found = solve(problem, start, plain(iterations=5, settings=QnSettings(step_cap=100.0, **settings)))
        assert (found.final_cost <= found.initial_cost).all()
        return float((found.final_cost - best.final_cost).mean() / (found.initial_cost - best.final_cost).mean())

    assert left(curvature=mean) < 0.05 * left()


@pytest.mark.parametrize("size", [0.1, 1e3], ids=["too small", "far too large"])
def test_a_wrong_curvature_is_unlearnt(size: float) -> None:
    problem, start, mean = nearly_alike(16, 0.4)
    best = solve(problem, start, plain(iterations=500, tolerance=1e-10))
    wrong = QnSettings(curvature=size * mean.flip(0, 1))
    found = solve(problem, start, plain(iterations=100, tolerance=1e-6, settings=wrong))
    assert (found.final_cost <= found.initial_cost).all()
    assert (found.final_cost - best.final_cost).max() < 1e-6


def test_with_known_curvature_a_sample_alone_is_as_in_the_batch_and_compiled_as_eager() -> None:
    problem, start, mean = nearly_alike(8, 0.4)
    options = plain(iterations=4, settings=QnSettings(curvature=mean))
    together = solve(problem, start, options).actions
    alone = solve(problem.select(torch.tensor([3])), start[3:4], options).actions
    assert torch.allclose(alone[0], together[3], atol=1e-9)
    compiled = prepare(problem, start, options, "compile")(problem.context, start).actions
    assert torch.allclose(compiled, together, atol=1e-9)


@pytest.mark.parametrize(
    ("curvature", "said"),
    [
        (torch.eye(3, dtype=torch.float64), r"\(3, 3\) on cpu; expected torch.float64 \(20, 20\)"),
        (torch.eye(20), r"torch.float32 \(20, 20\) on cpu; expected torch.float64"),
        (torch.ones(20, 3), r"shape \(20, 3\); expected \(n, n\)"),
        (-torch.eye(20), "not positive definite, or not finite; take mean_curvature"),
        (torch.nan * torch.eye(20), "not positive definite, or not finite; take mean_curvature"),
    ],
)
def test_a_curvature_that_does_not_fit_is_one_sentence(curvature: Tensor, said: str) -> None:
    problem, start, _ = nearly_alike(2, 0.4)
    with pytest.raises(TrajoptError, match=said):
        solve(problem, start, plain(settings=QnSettings(curvature=curvature)))


def test_mean_curvature_leaves_out_what_is_not_finite_and_lifts_what_is_not_convex() -> None:
    matrix = torch.diag_embed(torch.tensor([[2.0, -3.0], [4.0, -1.0], [torch.nan, 1.0]], dtype=torch.float64))
    bound = torch.ones(2, 1, dtype=torch.float64)
    zeros = torch.zeros(3, 2, 1, dtype=torch.float64)
    found = mean_curvature(Problem(quadratic, (matrix, zeros[..., 0]), -bound, bound), zeros, 0.1)
    assert torch.allclose(found, torch.diag(torch.tensor([3.0, 2.0], dtype=torch.float64)))
    none = mean_curvature(Problem(quadratic, (matrix[2:], zeros[2:, :, 0]), -bound, bound), zeros[2:], 0.1)
    assert torch.allclose(none, 0.1 * torch.eye(2, dtype=torch.float64))
