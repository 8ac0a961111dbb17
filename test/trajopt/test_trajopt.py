"""The default solve: optimality, implicit gradients against finite differences, bad options.

What holds for every solver alike is tested in test_every_solver.py.
"""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import PolyakSettings, Problem, SolverOptions, Status, TrajoptError, solve

H, A, N = 3, 2, 6
EXACT = SolverOptions(iterations=400, tolerance=1e-11, dense_limit=64)


def quadratic(batch: int, seed: int = 0, radius: float = 1.0) -> tuple[Problem, Tensor, Tensor]:
    """-G = 1/2 a'Qa - b'a with random positive Q (B, n, n) and b (B, n)."""
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(batch, N, N, generator=g, dtype=torch.float64)
    q = root @ root.transpose(1, 2) / N + 0.3 * torch.eye(N, dtype=torch.float64)
    b = torch.randn(batch, N, generator=g, dtype=torch.float64)
    bound = torch.full((H, A), radius, dtype=torch.float64)
    return Problem(quadratic_return, (q, b), -bound, bound), q, b


def quadratic_return(actions: Tensor, q: Tensor, b: Tensor) -> Tensor:
    a = actions.flatten(1)
    return (b * a).sum(1) - 0.5 * torch.einsum("bi,bij,bj->b", a, q, a)


class Net(torch.nn.Module):
    """A smooth non-convex return of actions given a context."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(N + 4, 24),
            torch.nn.Tanh(),
            torch.nn.Linear(24, 24),
            torch.nn.Tanh(),
            torch.nn.Linear(24, 1),
        ).to(dtype)

    def forward(self, actions: Tensor, z: Tensor) -> Tensor:
        return 3 * self.layers(torch.cat([actions.flatten(1), z], 1)).squeeze(1)


def net_problem(batch: int, dtype: torch.dtype = torch.float64, radius: float = 0.7) -> tuple[Problem, Net, Tensor]:
    net = Net(dtype)
    z = torch.randn(batch, 4, generator=torch.Generator().manual_seed(5), dtype=dtype)
    bound = torch.full((H, A), radius, dtype=dtype)
    zero = torch.zeros(batch, H, A, dtype=dtype)
    return Problem(net, (z,), -bound, bound, reference=zero, proximal=0.6), net, z


def zeros(problem: Problem) -> Tensor:
    return torch.zeros(problem.context[0].shape[0], H, A, dtype=problem.lower.dtype)


def test_unbounded_quadratic_is_solved_exactly() -> None:
    problem, q, b = quadratic(5, radius=50.0)
    solution = solve(problem, zeros(problem), EXACT)
    expected = torch.linalg.solve(q, b)
    assert torch.allclose(solution.actions.flatten(1), expected, atol=1e-9)
    assert solution.statuses() == [Status.CONVERGED] * 5


@pytest.mark.parametrize("batch", [1, 2, 7, 128])
def test_box_quadratic_meets_the_first_order_conditions(batch: int) -> None:
    problem, q, b = quadratic(batch, radius=0.4)
    solution = solve(problem, zeros(problem), EXACT)
    a = solution.actions.flatten(1)
    gradient = torch.einsum("bij,bj->bi", q, a) - b
    violation = (a - (a - gradient).clamp(-0.4, 0.4)).abs().max()
    assert violation < 1e-9
    assert 0 < solution.active_fraction.mean() < 1


def test_more_iterations_never_cost_more() -> None:
    problem, _, _ = net_problem(32)
    few = solve(problem, zeros(problem), SolverOptions(iterations=3))
    many = solve(problem, zeros(problem), SolverOptions(iterations=12))
    assert (many.final_cost <= few.final_cost).all()


@pytest.mark.parametrize("dense_limit", [64, 1], ids=["dense", "cg"])
def test_implicit_gradient_is_that_of_finite_differences(dense_limit: int) -> None:
    problem, net, z = net_problem(4, radius=0.25)
    options = dataclasses.replace(EXACT, dense_limit=dense_limit, cg_iterations=24)
    weights = torch.randn(4, H, A, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def loss(context: Tensor) -> Tensor:
        moved = dataclasses.replace(problem, context=(context,))
        return (weights * solve(moved, zeros(problem), options).actions).sum()

    z.requires_grad_()
    solved = solve(dataclasses.replace(problem, context=(z,)), zeros(problem), options)
    assert solved.active_fraction.max() > 0, "the test is meant to have bounds active"
    loss(z).backward()
    parameter = net.layers[0].weight
    eps = 1e-5
    for tensor, gradient, index in [
        (z, z.grad, (1, 2)),
        (z, z.grad, (3, 0)),
        (parameter, parameter.grad, (2, 1)),
        (parameter, parameter.grad, (7, 8)),
    ]:
        with torch.no_grad():
            tensor[index] += eps
            up = loss(z)
            tensor[index] -= 2 * eps
            down = loss(z)
            tensor[index] += eps
        assert gradient[index] == pytest.approx(float(up - down) / (2 * eps), rel=1e-4, abs=1e-7)


def test_the_scale_of_the_cost_does_not_matter() -> None:
    for scale in (1e-6, 1.0, 1e6):
        problem, q, b = quadratic(3, radius=50.0)
        scaled = dataclasses.replace(problem, context=(q * scale, b * scale))
        solution = solve(scaled, zeros(problem), dataclasses.replace(EXACT, tolerance=1e-9 * scale))
        assert torch.allclose(solution.actions.flatten(1), torch.linalg.solve(q, b), atol=1e-6)


def test_polyak_is_the_rank_one_levenberg_marquardt_step() -> None:
    problem, _, _ = quadratic(2, radius=50.0)
    options = SolverOptions(method="polyak", iterations=1, settings=PolyakSettings(1e-2, 1e-3, 10.0))
    start = torch.full((2, H, A), 0.3, dtype=torch.float64)
    value, gradient = problem.value_and_gradient(start)
    jacobian = gradient.flatten(1)
    normal = torch.einsum("bi,bj->bij", jacobian, jacobian) + 1e-3 * torch.eye(N, dtype=torch.float64)
    step = -torch.linalg.solve(normal, jacobian * (10.0 + value)[:, None])
    expected = start.flatten(1) + 1e-2 * step
    solution = solve(problem, start, options)
    best = torch.where((problem.cost(expected.view_as(start)) < value)[:, None], expected, start.flatten(1))
    assert torch.allclose(solution.actions.detach().flatten(1), best, atol=1e-9)


BAD = [
    (lambda p, s: solve(dataclasses.replace(p, objective=lambda a, q, b: a.sum()), s), "one return per sample"),
    (lambda p, s: SolverOptions(method="lm"), "expected one of"),
    (lambda p, s: SolverOptions(iterations=-1), "0 or more"),
    (lambda p, s: SolverOptions(deadline_ms=0), "above 0"),
    (lambda p, s: dataclasses.replace(p, proximal=1.0), "no reference"),
]


@pytest.mark.parametrize(("call", "says"), BAD, ids=[b[1] for b in BAD])
def test_bad_input_is_one_clear_sentence(call: Any, says: str) -> None:
    problem, _, _ = quadratic(4)
    with pytest.raises(TrajoptError, match=says):
        call(problem, zeros(problem))
