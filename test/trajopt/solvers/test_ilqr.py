"""Box-constrained DDP on non-linear rollouts: optimality, second-order dynamics, per-step data, bad costs."""

import dataclasses
import itertools
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import IlqrSettings, LatentRollout, Problem, SolverOptions, Status, TrajoptError, solve

Z, A = 5, 2
FULL = IlqrSettings(second_order_dynamics=True)


def options(iterations: int = 80, tolerance: float = 1e-9, **more: Any) -> SolverOptions:
    return SolverOptions(method="ilqr", iterations=iterations, tolerance=tolerance, adjoint="none", **more)


class Nets(torch.nn.Module):
    """Smooth, non-linear, non-convex dynamics, reward and value."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.move, self.like, self.last = (self.mlp(i, o) for i, o in ((Z + A, Z), (Z + A, 1), (Z, 1)))
        self.to(dtype)

    @staticmethod
    def mlp(inputs: int, outputs: int) -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(inputs, 16),
            torch.nn.Tanh(),
            torch.nn.Linear(16, 16),
            torch.nn.ELU(),
            torch.nn.Linear(16, outputs),
        )

    def dynamics(self, z: Tensor, a: Tensor) -> Tensor:
        return z + self.move(torch.cat([z, a], 1))

    def reward(self, z: Tensor, a: Tensor) -> Tensor:
        return 4 * self.like(torch.cat([z, a], 1)).squeeze(1)

    def value(self, z: Tensor) -> Tensor:
        return 4 * self.last(z).squeeze(1)


def problem_of(
    batch: int, horizon: int = 6, dtype: torch.dtype = torch.float64, value: bool = True, radius: float = 0.8
) -> Problem:
    nets = Nets(dtype)
    start = torch.randn(batch, Z, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)
    bound = torch.full((horizon, A), radius, dtype=dtype)
    form = LatentRollout(nets.dynamics, nets.reward, nets.value if value else None, 0.95)
    return Problem(form, (start,), -bound, bound, torch.zeros(batch, horizon, A, dtype=dtype), 0.2)


def zeros(problem: Problem) -> Tensor:
    assert problem.reference is not None
    return torch.zeros_like(problem.reference)


@pytest.mark.parametrize("settings", [IlqrSettings(), FULL], ids=["gauss-newton", "full"])
@pytest.mark.parametrize("batch", [1, 2, 7, 128])
def test_it_ends_where_the_first_order_conditions_hold(batch: int, settings: IlqrSettings) -> None:
    problem = problem_of(batch)
    solution = solve(problem, zeros(problem), options(settings=settings, tolerance=1e-8))
    a = solution.actions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.cost(a).sum(), a)
    assert (a - (a - gradient).clamp(-0.8, 0.8)).abs().amax((1, 2)).median() < 1e-8
    assert (solution.gradient_norm < 1e-6).double().mean() > 0.9
    assert (solution.final_cost <= solution.initial_cost).all() and solution.actions.abs().max() <= 0.8
    assert torch.allclose(problem.cost(solution.actions), solution.final_cost)
    assert solution.active_fraction.max() > 0


def test_full_second_order_is_quadratic_at_the_end() -> None:
    problem = problem_of(7)
    near = solve(problem, zeros(problem), options(settings=FULL)).actions
    start = problem.clamp(near + 1e-3 * torch.randn(near.shape, generator=torch.Generator().manual_seed(1)))
    full = solve(problem, start, options(3, 1e-14, settings=FULL))
    plain = solve(problem, start, options(3, 1e-14))
    assert full.gradient_norm.median() < 1e-13
    assert plain.gradient_norm.median() > 1e-10
    assert solve(problem, start, options(8, 1e-14, settings=FULL)).gradient_norm.max() < 1e-13


def test_more_iterations_never_cost_more() -> None:
    problem = problem_of(32)
    costs = [solve(problem, zeros(problem), options(count)).final_cost for count in (0, 1, 3, 9)]
    for before, after in itertools.pairwise(costs):
        assert (after <= before).all()
    assert (costs[-1] < costs[0]).all()


@pytest.mark.parametrize(("horizon", "value"), [(1, True), (1, False), (4, False)])
def test_horizon_one_and_no_terminal_value(horizon: int, value: bool) -> None:
    problem = problem_of(3, horizon, value=value)
    solution = solve(problem, zeros(problem), options(settings=FULL))
    assert solution.gradient_norm.max() < 1e-8
    exact = solve(
        problem, solution.actions, SolverOptions(method="newton", iterations=20, tolerance=1e-10, adjoint="none")
    )
    assert torch.allclose(exact.actions, solution.actions, atol=1e-6)


def test_a_sample_alone_is_the_sample_in_a_batch() -> None:
    problem = problem_of(7)
    together = solve(problem, zeros(problem), options(6)).actions
    for row in range(7):
        alone = solve(problem.select(torch.tensor([row])), zeros(problem)[:1], options(6))
        assert torch.allclose(alone.actions[0], together[row], atol=1e-9)


def test_float32_comes_close_to_float64() -> None:
    double = problem_of(4)
    nets = Nets(torch.float64).to(torch.float32)
    form = LatentRollout(nets.dynamics, nets.reward, nets.value, 0.95)
    single = Problem(form, (double.context[0].float(),), double.lower.float(), double.upper.float(), None)
    single = dataclasses.replace(single, reference=zeros(double).float(), proximal=0.2)
    exact = solve(double, zeros(double), options(20))
    rough = solve(single, zeros(double).float(), options(20, 1e-5))
    assert rough.actions.dtype == torch.float32
    assert torch.allclose(rough.final_cost.double(), exact.final_cost, atol=1e-4)


def test_data_per_time_step_reach_their_step() -> None:
    def follow(z: Tensor, a: Tensor, gain: Tensor, wanted: Tensor) -> Tensor:
        return -(z + a - wanted).square().sum(1) - 0 * gain.sum(1)

    batch, horizon = 3, 4
    g = torch.Generator().manual_seed(0)
    wanted = torch.randn(batch, horizon + 1, 2, generator=g, dtype=torch.float64)
    gain = 1 + torch.rand(batch, 1, generator=g, dtype=torch.float64)
    form = LatentRollout(
        lambda z, a, gain, wanted: z + gain * a,
        follow,
        lambda z, gain, wanted: -(z - wanted).square().sum(1) * 1e-3,
        timed=(1,),
    )
    bound = torch.full((horizon, 2), 100.0, dtype=torch.float64)
    start = torch.randn(batch, 2, generator=g, dtype=torch.float64)
    problem = Problem(form, (start, gain, wanted), -bound, bound)
    first = torch.zeros(batch, horizon, 2, dtype=torch.float64)
    solution = solve(problem, first, options(5, 1e-11))
    assert set(solution.statuses()) == {Status.CONVERGED} and solution.iterations.max() == 1
    reference = solve(problem, first, SolverOptions(method="newton", iterations=3, tolerance=1e-11, adjoint="none"))
    assert torch.allclose(solution.actions, reference.actions, atol=1e-9)
    states = form.states(solution.actions, *problem.context)
    assert (states[:, 1] + solution.actions[:, 1] - wanted[:, 1]).abs().max() < 0.1
    assert (states[:, 1] + solution.actions[:, 1] - wanted[:, 2]).abs().max() > 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_sample_keeps_its_start_and_its_neighbours_are_bitwise_as_without(value: float) -> None:
    problem, nets = problem_of(3), Nets()
    form = LatentRollout(
        lambda z, a, poison: nets.dynamics(z, a), lambda z, a, poison: nets.reward(z, a) + poison * a.sum(1)
    )
    poison = torch.zeros(3, dtype=torch.float64)
    problem = dataclasses.replace(problem, objective=form, context=(*problem.context, poison))
    start = torch.full_like(zeros(problem), 0.25)
    clean = solve(problem, start, options(6))
    bad = torch.tensor([0.0, value, 0.0], dtype=torch.float64)
    mixed = solve(dataclasses.replace(problem, context=(problem.context[0], bad)), start, options(6))
    assert mixed.statuses()[1] is Status.NONFINITE and torch.equal(mixed.actions[1], start[1])
    assert torch.equal(mixed.actions[::2], clean.actions[::2])


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_the_scale_of_the_cost_does_not_matter(scale: float) -> None:
    problem = problem_of(3)
    form = problem.objective
    assert isinstance(form, LatentRollout) and form.value is not None
    reward, value = form.reward, form.value
    scaled = dataclasses.replace(form, reward=lambda z, a: scale * reward(z, a), value=lambda z: scale * value(z))
    large = dataclasses.replace(problem, objective=scaled, proximal=0.2 * scale)
    end = [solve(p, zeros(problem), options(4, 1e-30)).actions for p in (problem, large)]
    assert torch.allclose(end[0], end[1], atol=1e-6)


def test_exploding_dynamics_and_zero_gradients() -> None:
    bound = torch.ones(12, 1, dtype=torch.float64)
    start = torch.ones(2, 1, dtype=torch.float64)
    wild = LatentRollout(lambda z, a: 50 * z.square() + a, lambda z, a: -a.square().sum(1), lambda z: -z.sum(1))
    first = torch.zeros(2, 12, 1, dtype=torch.float64)
    solution = solve(Problem(wild, (0.02 * start,), -bound, bound), first, options(10))
    assert torch.isfinite(solution.final_cost).all() and (solution.final_cost <= solution.initial_cost).all()
    flat = LatentRollout(lambda z, a: z + a, lambda z, a: 0 * a.sum(1))
    still = solve(Problem(flat, (start,), -bound, bound), first, options(10))
    assert set(still.statuses()) == {Status.CONVERGED} and torch.equal(still.actions, first)


def test_deadline() -> None:
    problem = problem_of(1)
    form = problem.objective
    assert isinstance(form, LatentRollout)
    dynamics = form.dynamics

    def slow(z: Tensor, a: Tensor) -> Tensor:
        time.sleep(0.004)
        return dynamics(z, a)

    late = dataclasses.replace(problem, objective=dataclasses.replace(form, dynamics=slow))
    solution = solve(late, zeros(problem), options(200, 1e-30, deadline_ms=300))
    assert solution.statuses() == [Status.DEADLINE]
    assert solution.iterations.max() <= 5 and solution.final_cost <= solution.initial_cost


def test_only_rollouts_are_taken() -> None:
    bound = torch.ones(3, 2)
    problem = Problem(lambda a: -a.square().sum((1, 2)), (), -bound, bound)
    with pytest.raises(TrajoptError, match="LatentRollout, got function"):
        solve(problem, torch.zeros(1, 3, 2), options())
    with pytest.raises(TrajoptError, match="lengths of IlqrSettings is 0"):
        IlqrSettings(lengths=0)
    with pytest.raises(TrajoptError, match="trials of IlqrSettings is 1"):
        IlqrSettings(trials=1)
