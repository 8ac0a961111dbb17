"""Newton with box-QP steps: the QP against enumeration, indefinite Hessians, Gauss-Newton, scales, bad costs."""

import itertools
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import NewtonSettings, Problem, SolverOptions, Status, Tracking, TrajoptError, solve
from difftop_ros.trajopt.boxqp import lift, solve_boxqp
from difftop_ros.trajopt.derivatives import hessian

NEWTON = SolverOptions(method="newton", iterations=40, tolerance=1e-10, adjoint="none")
EYE = torch.eye(4, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def enumerated(h: Tensor, g: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The minimiser of one convex box-QP, by trying every combination of free, low and high coordinates."""
    best, best_value = None, torch.inf
    for kinds in itertools.product("flh", repeat=len(g)):
        free = torch.tensor([k == "f" for k in kinds])
        x = torch.where(torch.tensor([k == "l" for k in kinds]), low, high)
        if free.any():
            right = -(g[free] + h[free][:, ~free] @ x[~free])
            x = x.clone()
            x[free] = torch.linalg.solve(h[free][:, free], right)
        value = float(0.5 * x @ h @ x + g @ x)
        if (x >= low).all() and (x <= high).all() and value < best_value:
            best, best_value = x, value
    assert best is not None
    return best


def test_box_qp_is_the_best_of_all_active_sets() -> None:
    root = normal(40, 4, 4)
    h = root @ root.transpose(1, 2) + 0.01 * EYE
    g, low = 2 * normal(40, 4, seed=1), -normal(40, 4, seed=2).abs()
    high = low + 0.8 * normal(40, 4, seed=3).abs()
    found = solve_boxqp(h, g, low, high)
    assert 0.1 < found.free.double().mean() < 0.9
    for row in range(40):
        assert torch.allclose(found.x[row], enumerated(h[row], g[row], low[row], high[row]), atol=1e-9)


def test_box_qp_of_a_sample_does_not_depend_on_the_others() -> None:
    root = normal(9, 4, 4)
    h, g = root @ root.transpose(1, 2) + 0.1 * EYE, normal(9, 4, seed=1)
    wide = torch.full((9, 4), 100.0, dtype=torch.float64)
    tight = wide.clone()
    tight[1::2] = 0.1
    easy, mixed = solve_boxqp(h, g, -wide, wide), solve_boxqp(h, g, -tight, tight)
    assert torch.equal(easy.x[::2], mixed.x[::2])


def test_lift_keeps_positive_matrices_and_mirrors_negative_curvature() -> None:
    root = normal(2, 4, 4)
    h = root @ root.transpose(1, 2) + EYE
    h[1] -= 4 * EYE
    lifted = lift(h, torch.full((2,), 0.5, dtype=torch.float64))
    assert torch.equal(lifted[0], h[0])
    values, vectors = torch.linalg.eigh(h[1])
    expected = vectors @ torch.diag(values.abs().clamp_min(0.5)) @ vectors.T
    assert torch.allclose(lifted[1], expected, atol=1e-12)


def rosenbrock(actions: Tensor) -> Tensor:
    x = actions.flatten(1)
    return -(100 * (x[:, 1:] - x[:, :-1].square()).square() + (1 - x[:, :-1]).square()).sum(1)


@pytest.mark.parametrize("batch", [1, 2, 7, 128])
def test_rosenbrock_in_a_box(batch: int) -> None:
    bound = torch.full((2, 2), 2.0, dtype=torch.float64)
    start = (1.2 * normal(batch, 2, 2)).clamp(-2, 2)
    solution = solve(Problem(rosenbrock, (), -bound, bound), start, NEWTON)
    assert set(solution.statuses()) == {Status.CONVERGED}
    assert (solution.final_cost <= solution.initial_cost).all()
    # the valley has a second, local minimum near (-.78, .61, .38, .15); every other start ends at ones
    assert ((solution.actions - 1).abs().amax((1, 2)) < 1e-7).double().mean() > 0.5


def saddle(actions: Tensor, b: Tensor) -> Tensor:
    """Convex in even coordinates, concave in odd ones, coupled: its minima lie on bounds, its Hessian is indefinite."""
    x = actions.flatten(1)
    sign = torch.tensor([1.0, -1.0], dtype=x.dtype).repeat(x.shape[1] // 2)
    return -(0.5 * sign * x.square()).sum(1) - 0.3 * (x[:, 1:] * x[:, :-1]).sum(1) - (b * x).sum(1)


def test_an_indefinite_hessian_ends_on_the_bounds_exactly() -> None:
    bound = torch.full((3, 2), 0.7, dtype=torch.float64)
    problem = Problem(saddle, (normal(9, 6),), -bound, bound)
    solution = solve(problem, torch.zeros(9, 3, 2, dtype=torch.float64), NEWTON)
    assert solution.gradient_norm.max() < 1e-12
    assert (solution.actions.flatten(1)[:, 1::2].abs() == 0.7).all()
    assert 0.5 <= solution.active_fraction.mean() < 1
    assert solution.iterations.max() <= 8


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scale_of_the_cost_does_not_matter(scale: float, dtype: torch.dtype) -> None:
    bound = torch.full((2, 2), 0.9, dtype=dtype)
    start = torch.full((3, 2, 2), -0.5, dtype=dtype)
    end = [
        solve(
            Problem(lambda a, s=s: s * rosenbrock(a), (), -bound, bound),
            start,
            SolverOptions(method="newton", iterations=30, tolerance=1e-7 * min(s, 1.0), adjoint="none"),
        ).actions
        for s in (scale, 1.0)
    ]
    assert torch.allclose(end[0], end[1], atol=1e-3 if dtype == torch.float32 else 1e-6)


def test_tracking_by_gauss_newton() -> None:
    matrix = normal(5, 8, 4)
    target = torch.einsum("brn,bn->br", matrix, 0.2 * normal(5, 4, seed=2)) + 0.05 * normal(5, 8, seed=1)

    def linear(actions: Tensor, m: Tensor, t: Tensor) -> Tensor:
        return torch.einsum("brn,bn->br", m, actions.flatten(1)) - t

    def bent(actions: Tensor, m: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(linear(actions, m, t)) + 0.2 * linear(actions, m, t)

    wide = torch.full((2, 2), 50.0, dtype=torch.float64)
    start = torch.zeros(5, 2, 2, dtype=torch.float64)
    options = SolverOptions(
        method="newton", iterations=60, tolerance=1e-9, adjoint="none", settings=NewtonSettings(gauss_newton=True)
    )
    solution = solve(Problem(Tracking(linear), (matrix, target), -wide, wide), start, options)
    expected = torch.linalg.lstsq(matrix, target[:, :, None]).solution.view(5, 2, 2)
    assert torch.allclose(solution.actions, expected, atol=1e-9)
    assert solution.iterations.max() == 1
    tight = Problem(Tracking(bent), (matrix, target), -0.2 * wide / 50, 0.2 * wide / 50, start, 0.3)
    bounded = solve(tight, start, options)
    assert bounded.gradient_norm.max() < 1e-8 and bounded.active_fraction.max() > 0


def test_the_hessian_is_that_of_differences_of_gradients() -> None:
    problem = Problem(rosenbrock, (), EYE[:2, :2] - 9, EYE[:2, :2] + 9, torch.ones(3, 2, 2).double(), 0.4)
    actions, eps = normal(3, 2, 2), 1e-6
    _, gradient, found = hessian(problem, actions)
    for column in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[column] = eps
        up = problem.value_and_gradient(actions + step.view(2, 2))[1]
        down = problem.value_and_gradient(actions - step.view(2, 2))[1]
        assert torch.allclose(found[:, column], ((up - down) / (2 * eps)).flatten(1), rtol=1e-5, atol=1e-4)
    assert torch.equal(gradient, problem.value_and_gradient(actions)[1])


class Stubborn(torch.autograd.Function):
    """A square that refuses to be batched by vmap, as operations outside torch do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        assert not torch._C._functorch.is_batchedtensor(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch._C._functorch.is_batchedtensor(grad):
            raise RuntimeError("no batching rule")
        return 2 * x * grad


def test_an_objective_that_vmap_cannot_batch_is_solved_all_the_same() -> None:
    bound = torch.full((2, 2), 3.0, dtype=torch.float64)
    problem = Problem(lambda a: -(Stubborn.apply(Stubborn.apply(a) - 2)).sum((1, 2)), (), -bound, bound)
    solution = solve(problem, torch.full((2, 2, 2), 0.5, dtype=torch.float64), NEWTON)
    assert torch.allclose(solution.actions.abs(), torch.full_like(solution.actions, 2**0.5), atol=1e-8)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_sample_keeps_its_start_and_its_neighbours_are_bitwise_as_without(value: float) -> None:
    def poisoned(actions: Tensor, b: Tensor, poison: Tensor) -> Tensor:
        return saddle(actions, b) + poison * actions.flatten(1).sum(1)

    bound = torch.full((3, 2), 0.7, dtype=torch.float64)
    start = torch.full((3, 3, 2), 0.25, dtype=torch.float64)
    b, poison = normal(3, 6), torch.zeros(3, dtype=torch.float64)
    clean = solve(Problem(poisoned, (b, poison), -bound, bound), start, NEWTON)
    poison = torch.tensor([0.0, value, 0.0], dtype=torch.float64)
    mixed = solve(Problem(poisoned, (b, poison), -bound, bound), start, NEWTON)
    assert mixed.statuses()[1] is Status.NONFINITE and torch.equal(mixed.actions[1], start[1])
    assert torch.equal(mixed.actions[::2], clean.actions[::2])


def test_an_infinite_second_derivative_falls_back_on_gradient_steps() -> None:
    def power(actions: Tensor) -> Tensor:  # |x|^1.5: the gradient is finite at 0, the curvature is not
        return -(actions.abs().pow(1.5) - 0.3 * actions).sum((1, 2)) - (actions[:, 0, 0] - 0.5).square()

    bound = torch.ones(1, 2, dtype=torch.float64)
    start = torch.zeros(2, 1, 2, dtype=torch.float64)
    start[1] = 0.4
    solution = solve(Problem(power, (), -bound, bound), start, NEWTON)
    assert (solution.final_cost < solution.initial_cost).all()
    assert set(solution.statuses()) <= {Status.CONVERGED, Status.NO_DECREASE}


def test_flat_linear_and_unbounded_costs_end_well() -> None:
    bound = torch.ones(2, 2, dtype=torch.float64)
    start = torch.full((2, 2, 2), 0.1, dtype=torch.float64)
    flat = solve(Problem(lambda a: 0 * a.sum((1, 2)), (), -bound, bound), start, NEWTON)
    assert set(flat.statuses()) == {Status.CONVERGED} and torch.equal(flat.actions, start)
    linear = solve(Problem(lambda a: a.sum((1, 2)), (), -bound, bound), start, NEWTON)
    assert (linear.actions == 1).all() and linear.iterations.max() == 1
    free = bound * torch.inf
    bowl = solve(Problem(lambda a: -(a - 3).square().sum((1, 2)), (), -free, free), start, NEWTON)
    assert torch.allclose(bowl.actions, torch.full_like(start, 3.0), atol=1e-12)


def test_zero_iterations_and_deadline() -> None:
    bound = torch.full((2, 2), 2.0, dtype=torch.float64)
    start = -torch.ones(1, 2, 2, dtype=torch.float64)
    none = solve(
        Problem(rosenbrock, (), -bound, bound), start, SolverOptions(method="newton", iterations=0, adjoint="none")
    )
    assert torch.equal(none.actions, start)

    def slow(actions: Tensor) -> Tensor:
        time.sleep(0.02)
        return rosenbrock(actions)

    options = SolverOptions(method="newton", iterations=50, tolerance=1e-14, deadline_ms=150, adjoint="none")
    late = solve(Problem(slow, (), -bound, bound), start, options)
    assert late.statuses() == [Status.DEADLINE]
    assert late.iterations.max() <= 3 and late.final_cost <= late.initial_cost


def test_unusable_settings_are_one_clear_sentence() -> None:
    bound = torch.ones(40, 20, dtype=torch.float64)
    start = torch.zeros(1, 40, 20, dtype=torch.float64)
    problem = Problem(lambda a: -a.square().sum((1, 2)), (), -bound, bound)
    with pytest.raises(TrajoptError, match=r"800 variables .* takes 512; use 'qn'"):
        solve(problem, start, NEWTON)
    options = SolverOptions(method="newton", settings=NewtonSettings(gauss_newton=True, max_variables=800))
    with pytest.raises(TrajoptError, match="needs an objective of the form Tracking, got function"):
        solve(problem, start, options)
    with pytest.raises(TrajoptError, match="trials of NewtonSettings is 1"):
        NewtonSettings(trials=1)
