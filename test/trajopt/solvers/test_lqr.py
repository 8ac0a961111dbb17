"""Linear-quadratic problems, whose answers are known: Riccati without bounds, the first-order conditions with them."""

import pytest
import torch
from gpu import needs_gpu
from torch import Tensor

from difftop_ros.trajopt import LatentRollout, Problem, SolverOptions, Status, solve

Z, A = 4, 2
METHODS = ["newton", "ilqr"]
EXACT = {"iterations": 60, "tolerance": 1e-11, "adjoint": "none"}


class Lqr:
    """Random stable dynamics x' = F x + G u and costs x'Qx/2 + u'Ru/2, x'Px/2 at the end."""

    def __init__(self, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        f = normal(Z, Z)
        self.f, self.g = 0.95 * f / torch.linalg.eigvals(f).abs().max(), normal(Z, A)
        q, r, p = normal(Z, Z), normal(A, A), normal(Z, Z)
        self.q, self.p = q @ q.T / Z, p @ p.T / Z
        self.r = r @ r.T / A + 0.1 * torch.eye(A, dtype=torch.float64)

    def problem(self, batch: int, horizon: int, radius: float, discount: float = 1.0) -> Problem:
        start = torch.randn(batch, Z, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        bound = torch.full((horizon, A), radius, dtype=torch.float64)
        form = LatentRollout(
            lambda z, a: z @ self.f.T + a @ self.g.T,
            lambda z, a: -half_square(z, self.q) - half_square(a, self.r),
            lambda z: -half_square(z, self.p),
            discount,
        )
        return Problem(form, (start,), -bound, bound)

    def riccati(self, horizon: int, discount: float = 1.0) -> list[Tensor]:
        """The gains K_t (A, Z) of u_t = -K_t x_t, from the recursion written out."""
        value, gains = self.p, []
        for _ in range(horizon):
            value = discount * value
            gain = torch.linalg.solve(self.r + self.g.T @ value @ self.g, self.g.T @ value @ self.f)
            value = self.q + self.f.T @ value @ (self.f - self.g @ gain)
            gains.append(gain)
        return gains[::-1]

    def follow(self, gains: list[Tensor], state: Tensor) -> Tensor:
        """The actions (B, H, A) of the gains from state (B, Z)."""
        actions = []
        for gain in gains:
            actions.append(-state @ gain.T)
            state = state @ self.f.T + actions[-1] @ self.g.T
        return torch.stack(actions, dim=1)


def half_square(x: Tensor, matrix: Tensor) -> Tensor:
    return 0.5 * torch.einsum("bi,ij,bj->b", x, matrix, x)


def zeros(problem: Problem) -> Tensor:
    return problem.lower.new_zeros(len(problem.context[0]), *problem.lower.shape[-2:])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("batch", "horizon"), [(1, 10), (2, 10), (7, 10), (128, 10), (3, 1)])
def test_lqr_is_riccati(method: str, batch: int, horizon: int) -> None:
    lqr = Lqr(seed=batch)
    problem = lqr.problem(batch, horizon, radius=1e3)
    solution = solve(problem, zeros(problem), SolverOptions(method=method, **EXACT))
    expected = lqr.follow(lqr.riccati(horizon), problem.context[0])
    assert (solution.actions - expected).abs().max() < 1e-10
    assert set(solution.statuses()) == {Status.CONVERGED}
    assert solution.iterations.max() == 1, "a quadratic without bounds takes one step"


@pytest.mark.parametrize("method", METHODS)
def test_discounted_lqr_is_the_discounted_riccati(method: str) -> None:
    lqr = Lqr(seed=3)
    problem = lqr.problem(4, 8, radius=1e3, discount=0.9)
    solution = solve(problem, zeros(problem), SolverOptions(method=method, **EXACT))
    assert (solution.actions - lqr.follow(lqr.riccati(8, 0.9), problem.context[0])).abs().max() < 1e-10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [0.3, 0.05])
def test_box_lqr_meets_the_first_order_conditions(method: str, seed: int, radius: float) -> None:
    problem = Lqr(seed).problem(7, 10, radius)
    start = radius * torch.rand(7, 10, A, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    solution = solve(problem, start, SolverOptions(method=method, **EXACT))
    a = solution.actions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(-problem.objective(a, *problem.context).sum(), a)
    residual = (a - (a - gradient).clamp(-radius, radius)).abs()
    assert residual.max() < 1e-8
    assert 0.02 < solution.active_fraction.mean() < 0.98
    assert (solution.final_cost <= solution.initial_cost).all()
    if method == "newton":
        assert solution.iterations.max() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_both_agree_on_box_lqr_with_proximal_term_and_uneven_bounds(method: str) -> None:
    problem = Lqr(5).problem(5, 6, 1.0)
    g = torch.Generator().manual_seed(1)
    reference = torch.randn(5, 6, A, generator=g, dtype=torch.float64)
    lower = -torch.rand(5, 6, A, generator=g, dtype=torch.float64)
    problem = Problem(problem.objective, problem.context, lower, lower + 0.4, reference, 2.5)
    solution = solve(problem, zeros(problem), SolverOptions(method=method, **EXACT))
    _, gradient = problem.value_and_gradient(solution.actions)
    assert (solution.actions - problem.clamp(solution.actions - gradient)).abs().max() < 1e-8
    other = solve(problem, reference, SolverOptions(method="qn", iterations=300, tolerance=1e-10, adjoint="none"))
    assert (solution.actions - other.actions).abs().max() < 1e-7


@pytest.mark.parametrize("method", METHODS)
def test_the_first_action_moves_with_the_state_by_the_riccati_gain(method: str) -> None:
    lqr = Lqr(seed=2)
    problem = lqr.problem(3, 10, radius=1e3)
    start = problem.context[0].clone().requires_grad_()
    problem = Problem(problem.objective, (start,), problem.lower, problem.upper)
    options = SolverOptions(method=method, iterations=10, tolerance=1e-11)
    gain = lqr.riccati(10)[0]
    for joint in range(A):
        solution = solve(problem, zeros(problem), options)
        (moved,) = torch.autograd.grad(solution.actions[:, 0, joint].sum(), start)
        assert (moved + gain[joint]).abs().max() < 1e-10


@needs_gpu
@pytest.mark.parametrize("method", METHODS)
def test_on_cuda_as_on_the_cpu(method: str) -> None:
    lqr = Lqr(seed=1)
    here = lqr.problem(7, 10, 0.3)
    solution = solve(here, zeros(here), SolverOptions(method=method, **EXACT))
    for name in ("f", "g", "q", "r", "p"):
        setattr(lqr, name, getattr(lqr, name).cuda())
    start = here.context[0].cuda().requires_grad_()
    there = Problem(here.objective, (start,), here.lower.cuda(), here.upper.cuda())
    options = SolverOptions(method=method, iterations=60, tolerance=1e-11)
    moved = solve(there, zeros(there), options)
    assert (moved.actions.detach().cpu() - solution.actions).abs().max() < 1e-9
    moved.actions.sum().backward()
    assert start.grad is not None and torch.isfinite(start.grad).all() and (start.grad != 0).any()
