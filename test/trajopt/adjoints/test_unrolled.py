"""The adjoints unrolled and truncated: against the implicit one, finite differences, each other; bad samples; reuse."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import (
    LatentRollout,
    PolyakSettings,
    Problem,
    Solution,
    SolverOptions,
    Status,
    TrajoptError,
    solve,
)
from difftop_ros.trajopt.solvers import SOLVER_TABLE, steppers

BATCH, H, A, Z = 4, 3, 2, 4
CLOSE = SolverOptions(iterations=150, tolerance=1e-10)


class Nets(torch.nn.Module):
    """A small latent world, float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)

        def mlp(outputs: int, inputs: int) -> torch.nn.Module:
            return torch.nn.Sequential(
                torch.nn.Linear(inputs, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs)
            ).double()

        self.dynamics, self.reward, self.value = mlp(Z, Z + A), mlp(1, Z + A), mlp(1, Z)

    def rollout(self) -> LatentRollout:
        return LatentRollout(
            lambda z, a: z + 0.5 * self.dynamics(torch.cat([z, a], 1)),
            lambda z, a: 2 * self.reward(torch.cat([z, a], 1)).squeeze(1),
            lambda z: 2 * self.value(z).squeeze(1),
            0.95,
        )


def case(half_width: float = 0.3) -> tuple[Problem, Nets, Tensor]:
    nets = Nets()
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(BATCH, Z, generator=generator, dtype=torch.float64)
    reference = 0.2 * torch.randn(BATCH, H, A, generator=generator, dtype=torch.float64)
    bound = torch.full((H, A), half_width, dtype=torch.float64)
    problem = Problem(nets.rollout(), (z.requires_grad_(),), -bound, bound, reference.requires_grad_(), 0.8)
    return problem, nets, torch.randn(BATCH, H, A, generator=generator, dtype=torch.float64)


def gradients(options: SolverOptions, half_width: float = 0.3) -> tuple[Solution, dict[str, Tensor]]:
    """The solution, and the gradients of a random weighting of its actions to all that they depend on."""
    problem, nets, weights = case(half_width)
    solution = solve(problem, torch.zeros_like(weights), options)
    (weights * solution.actions).sum().backward()
    found = {name: parameter.grad for name, parameter in nets.named_parameters()}
    return solution, {**found, "state": problem.context[0].grad, "reference": problem.reference.grad}


def apart(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest entry of its tensor."""
    return max(
        float((one[k] - two[k]).abs().max() / one[k].abs().max()) for k in one if one[k] is not None and one[k].any()
    )


@pytest.mark.parametrize("adjoint", ["unrolled", "truncated"])
@pytest.mark.parametrize("method", ["qn", "spg"])
def test_at_convergence_it_is_the_implicit_gradient(method: str, adjoint: str) -> None:
    implicit, expected = gradients(dataclasses.replace(CLOSE, method=method))
    assert implicit.statuses() == [Status.CONVERGED] * BATCH
    assert 0 < implicit.active_fraction.mean() < 1, "the test is meant to have bounds active"
    assert expected["state"].any() and expected["reference"].any() and expected["dynamics.0.weight"].any()
    solution, got = gradients(dataclasses.replace(CLOSE, method=method, adjoint=adjoint, truncate=6))
    assert torch.equal(solution.actions, implicit.actions)
    assert apart(expected, got) < {"unrolled": 1e-5, "truncated": 1e-3}[adjoint]


@pytest.mark.parametrize("method", steppers())
def test_truncated_behind_the_start_is_unrolled(method: str) -> None:
    options = SolverOptions(method=method, iterations=6, tolerance=1e-4, adjoint="unrolled")
    solution, expected = gradients(options)
    again, got = gradients(dataclasses.replace(options, adjoint="truncated", truncate=6))
    assert torch.equal(solution.actions, again.actions) and torch.equal(solution.status, again.status)
    assert apart(expected, got) < 1e-12
    _, fewer = gradients(dataclasses.replace(options, adjoint="truncated", truncate=1))
    assert apart(expected, fewer) > 1e-6, "one iteration is not all of them"


@pytest.mark.parametrize(("iterations", "starts"), [(1, 1), (3, 1), (3, 4)])
@pytest.mark.parametrize("method", steppers())
def test_it_is_the_derivative_of_what_was_computed(method: str, iterations: int, starts: int) -> None:
    """Far from convergence too: central differences of the few iterations themselves, several starts included."""
    own = PolyakSettings(step=1e-4) if method == "polyak" else None
    options = SolverOptions(
        method=method, iterations=iterations, starts=starts, adjoint="unrolled", tolerance=1e-12, settings=own
    )
    _, got = gradients(options, half_width=0.6)
    problem, nets, weights = case(0.6)

    def loss() -> float:
        with torch.no_grad():
            return float((weights * solve(problem, torch.zeros_like(weights), options).actions).sum())

    eps, checked = 1e-6, 0.0
    for name, tensor, index in [
        ("state", problem.context[0], (1, 2)),
        ("state", problem.context[0], (3, 0)),
        ("reference", problem.reference, (2, 1, 0)),
        ("reward.0.weight", nets.reward[0].weight, (3, 1)),
    ]:
        with torch.no_grad():
            tensor[index] += eps
            up = loss()
            tensor[index] -= 2 * eps
            down = loss()
            tensor[index] += eps
        assert float(got[name][index]) == pytest.approx((up - down) / (2 * eps), rel=1e-5, abs=1e-8), name
        checked += abs(float(got[name][index]))
    assert checked > 1e-4


def poisoned(actions: Tensor, b: Tensor, poison: Tensor) -> Tensor:
    a = actions.flatten(1)
    return (b * a).sum(1) - a.square().sum(1) - 0.1 * a.pow(4).sum(1) + poison * a.sum(1)


@pytest.mark.parametrize("adjoint", ["implicit", "unrolled", "truncated"])
@pytest.mark.parametrize("method", steppers())
def test_a_bad_sample_has_zero_gradient_and_changes_no_other(method: str, adjoint: str) -> None:
    options = SolverOptions(method=method, iterations=4, adjoint=adjoint)
    bound = torch.ones(H, A, dtype=torch.float64)
    start = torch.full((3, H, A), 0.25, dtype=torch.float64)
    found = []
    for bad in (0.0, float("nan"), float("inf")):
        b = torch.randn(3, H * A, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
        poison = torch.tensor([0.0, bad, 0.0], dtype=torch.float64)
        solution = solve(Problem(poisoned, (b, poison), -bound, bound), start, options)
        solution.actions.sum().backward()
        found.append((solution, b.grad))
    clean, clean_gradient = found[0]
    for solution, gradient in found[1:]:
        assert solution.statuses()[1] is Status.NONFINITE and torch.equal(solution.actions[1], start[1])
        assert (gradient[1] == 0).all() and (gradient[[0, 2]] != 0).any()
        assert torch.equal(gradient[[0, 2]], clean_gradient[[0, 2]])
        assert torch.equal(solution.actions[[0, 2]], clean.actions[[0, 2]])
    nothing = torch.full((3,), float("nan"), dtype=torch.float64)
    assert set(solve(Problem(poisoned, (b, nothing), -bound, bound), start, options).statuses()) == {Status.NONFINITE}


def test_a_rejected_trial_that_is_not_finite_does_not_reach_the_parameters() -> None:
    """log(1 - a) is NaN beyond 1, where the first steps of both samples lead; the weight's gradient stays finite."""
    weight = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    trials = []

    def gain(actions: Tensor) -> Tensor:
        trials.append(actions.detach())
        return (weight * actions + 0.3 * torch.log(0.5 - actions)).sum((1, 2))

    bound = torch.ones(1, 2, dtype=torch.float64)
    start = torch.tensor([[[0.4, 0.4]], [[-0.9, 0.3]]], dtype=torch.float64)
    for method in ("qn", "spg"):
        for adjoint in ("unrolled", "truncated"):
            weight.grad = None
            options = SolverOptions(method=method, iterations=12, adjoint=adjoint)
            solution = solve(Problem(gain, (), -bound, bound), start, options)
            assert any((a > 0.5).any() for a in trials), "the test is meant to leave the logarithm's domain"
            solution.actions.sum().backward()
            assert torch.isfinite(weight.grad) and weight.grad != 0


@pytest.mark.parametrize("adjoint", ["implicit", "unrolled", "truncated"])
def test_a_second_backward_says_what_to_do(adjoint: str) -> None:
    options = SolverOptions(iterations=4, adjoint=adjoint)
    problem, _, weights = case()
    actions = solve(problem, torch.zeros_like(weights), options).actions
    actions.sum().backward(retain_graph=True)
    first = problem.context[0].grad.clone()
    actions.sum().backward()
    assert torch.allclose(problem.context[0].grad, 2 * first, rtol=1e-12, atol=1e-14)
    with pytest.raises(TrajoptError, match="solve again, or pass retain_graph=True"):
        actions.sum().backward()


@pytest.mark.parametrize("adjoint", ["unrolled", "truncated"])
def test_only_the_actions_carry_a_graph_and_only_if_wanted(adjoint: str) -> None:
    options = SolverOptions(iterations=2, adjoint=adjoint)
    problem, _, weights = case()
    solution = solve(problem, torch.zeros_like(weights), options)
    assert [name for name, tensor in vars(solution).items() if tensor.requires_grad] == ["actions"]
    with torch.no_grad():
        assert not solve(problem, torch.zeros_like(weights), options).actions.requires_grad
    bare = Problem(lambda a: -(a - 0.1).square().sum((1, 2)), (), problem.lower, problem.upper)
    assert torch.allclose(solve(bare, weights, options).actions, torch.full_like(weights, 0.1), atol=1e-3)


@pytest.mark.parametrize("method", [m for m in SOLVER_TABLE if m not in steppers()])
def test_solvers_that_cannot_be_unrolled_name_those_that_can(method: str) -> None:
    problem, _, weights = case()
    for adjoint in ("unrolled", "truncated"):
        with pytest.raises(TrajoptError, match=r"expected a method of \['qn', 'spg', 'polyak'\]"):
            solve(problem, torch.zeros_like(weights), SolverOptions(method=method, adjoint=adjoint))
