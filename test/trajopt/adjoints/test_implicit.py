"""The implicit adjoint against finite differences of solves in float64, with bounds active; and its edges."""

import dataclasses
import weakref

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import ActionChunk, LatentRollout, Problem, SolverOptions, Status, solve

H, A, Z, F = 4, 2, 5, 6
OPTIONS = SolverOptions(method="newton", iterations=60, tolerance=1e-12, cg_iterations=40)
ADJOINTS = {"dense": OPTIONS, "cg": dataclasses.replace(OPTIONS, dense_limit=0)}


def mlp(inputs: int, outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 16),
        torch.nn.Tanh(),
        torch.nn.Linear(16, 16),
        torch.nn.Tanh(),
        torch.nn.Linear(16, outputs),
    ).double()


class Case:
    """A form over small networks, its parameters, and everything else the solution depends on, as leaves with grad."""

    def __init__(self, form: str, batch: int) -> None:
        torch.manual_seed(11)
        self.nets = torch.nn.ModuleDict(
            {"move": mlp(Z + A, Z), "like": mlp(Z + A, 1), "last": mlp(Z, 1)}
            if form == "rollout"
            else {"cost": mlp(H * A + F + 3, 1)}
        )
        nets = self.nets
        self.objective = (
            LatentRollout(
                lambda z, a: z + nets["move"](torch.cat([z, a], 1)),
                lambda z, a: 6 * nets["like"](torch.cat([z, a], 1)).squeeze(1),
                lambda z: 6 * nets["last"](z).squeeze(1),
                0.95,
            )
            if form == "rollout"
            else ActionChunk(lambda a, x, c: 9 * nets["cost"](torch.cat([a.flatten(1), x, c], 1)).squeeze(1))
        )
        g = torch.Generator().manual_seed(5)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        sizes = [Z] if form == "rollout" else [F, 3]
        self.context = [normal(batch, n).requires_grad_() for n in sizes]
        self.reference = (0.2 * normal(batch, H, A)).requires_grad_()
        self.lower = (-0.25 - 0.1 * normal(batch, H, A).abs()).requires_grad_()
        self.upper = (0.25 + 0.1 * normal(batch, H, A).abs()).requires_grad_()
        self.weights = normal(batch, H, A)

    def problem(self, bounds: bool = True) -> Problem:
        lower, upper = (self.lower, self.upper) if bounds else (self.lower.detach(), self.upper.detach())
        return Problem(self.objective, tuple(self.context), lower, upper, self.reference, 0.9)

    def loss(self, options: SolverOptions, bounds: bool = True) -> Tensor:
        solution = solve(self.problem(bounds), torch.zeros_like(self.reference), options)
        assert set(solution.statuses()) == {Status.CONVERGED}
        assert 0.1 < solution.active_fraction.mean() < 0.9, "the test is meant to have bounds active, and free actions"
        return (self.weights * solution.actions).sum() + (solution.actions.square() * self.weights).sum()

    def gradients(self, tensors: list[Tensor], options: SolverOptions, bounds: bool = True) -> list[Tensor]:
        found = torch.autograd.grad(self.loss(options, bounds), tensors, allow_unused=True, materialize_grads=True)
        return list(found)


def differences(case: Case, tensor: Tensor, indices: list[int], eps: float = 1e-5) -> Tensor:
    """d(loss)/d(entries of tensor) by central differences of solves."""
    found = []
    with torch.no_grad():
        flat = tensor.view(-1)
        for index in indices:
            kept = float(flat[index])
            losses = []
            for moved in (kept + eps, kept - eps):
                flat[index] = moved
                losses.append(float(case.loss(OPTIONS)))
            flat[index] = kept
            found.append((losses[0] - losses[1]) / (2 * eps))
    return torch.tensor(found, dtype=torch.float64)


def spread(tensor: Tensor, count: int) -> list[int]:
    return torch.linspace(0, tensor.numel() - 1, min(count, tensor.numel())).long().tolist()


@pytest.mark.parametrize("form", ["rollout", "chunk"])
def test_gradient_is_that_of_finite_differences(form: str) -> None:
    case = Case(form, batch=3)
    named = {name: p for name, p in case.nets.named_parameters() if name.endswith(("0.weight", "2.bias"))}
    named |= {f"context {i}": c for i, c in enumerate(case.context)}
    named |= {"reference": case.reference, "lower": case.lower, "upper": case.upper}
    both = [case.gradients(list(named.values()), options) for options in ADJOINTS.values()]
    for (name, tensor), *gradients in zip(named.items(), *both):
        indices = spread(tensor, 16 if name in ("lower", "upper") else 8)
        expected = differences(case, tensor, indices)
        assert expected.norm() > 1e-3, name
        for adjoint, gradient in zip(ADJOINTS, gradients):
            error = (gradient.reshape(-1)[indices] - expected).norm() / expected.norm()
            assert error < 1e-4, (name, adjoint, float(error))


@pytest.mark.parametrize("form", ["rollout", "chunk"])
def test_dense_is_conjugate_gradients(form: str) -> None:
    case = Case(form, batch=5)
    tensors = [*case.nets.parameters(), *case.context, case.reference, case.lower, case.upper]
    dense, cg = (case.gradients(tensors, ADJOINTS[name]) for name in ("dense", "cg"))
    for one, other in zip(dense, cg):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_a_samples_gradient_does_not_depend_on_the_batch(batch: int, adjoint: str) -> None:
    case = Case("rollout", batch=7)
    whole = case.gradients([case.context[0], case.reference, case.lower], ADJOINTS[adjoint])
    few = Case("rollout", batch=7)
    for name in ("reference", "lower", "upper", "weights"):
        setattr(few, name, getattr(case, name)[:batch].detach().requires_grad_())
    few.context = [case.context[0][:batch].detach().requires_grad_()]
    part = few.gradients([few.context[0], few.reference, few.lower], ADJOINTS[adjoint])
    for one, other in zip(whole, part):
        assert torch.allclose(one[:batch], other, rtol=1e-7, atol=1e-10)


def test_fixed_bounds_give_the_same_gradient_elsewhere() -> None:
    case = Case("chunk", batch=3)
    tensors = [*case.nets.parameters(), *case.context, case.reference]
    for one, other in zip(case.gradients(tensors, OPTIONS), case.gradients(tensors, OPTIONS, bounds=False)):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-13)


def pulled(actions: Tensor, pull: Tensor) -> Tensor:
    return (pull[:, None, None] * actions).sum((1, 2)) - actions.square().sum((1, 2))


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_full_saturation_has_no_gradient_but_that_of_its_bounds(adjoint: str) -> None:
    pull = torch.tensor([100.0, -100.0], dtype=torch.float64, requires_grad=True)
    bound = torch.full((H, A), 0.1, dtype=torch.float64, requires_grad=True)
    start = torch.zeros(2, H, A, dtype=torch.float64)
    solution = solve(Problem(pulled, (pull,), -bound.detach(), bound.detach()), start, ADJOINTS[adjoint])
    assert (solution.active_fraction == 1).all()
    (gradient,) = torch.autograd.grad(solution.actions.sum(), pull)
    assert (gradient == 0).all()
    moving = solve(Problem(pulled, (pull,), -bound.detach(), bound), start, ADJOINTS[adjoint])
    by_pull, by_bound = torch.autograd.grad(moving.actions.sum(), [pull, bound])
    assert (by_pull == 0).all()
    assert (by_bound == 1).all(), "sample 0 lies on the upper bound and moves with it, sample 1 on the lower one"


def test_a_coordinate_whose_bounds_meet_moves_with_them_alone() -> None:
    pull = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    fixed = torch.zeros(H, A, dtype=torch.float64, requires_grad=True)
    solution = solve(Problem(pulled, (pull,), fixed, fixed.detach()), torch.zeros(1, H, A).double(), OPTIONS)
    by_pull, by_bound = torch.autograd.grad(solution.actions.sum(), [pull, fixed])
    assert float(by_pull) == 0 and (by_bound == 1).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_a_bad_sample_has_zero_gradient_and_its_neighbours_are_bitwise_as_without(value: float, adjoint: str) -> None:
    def poisoned(actions: Tensor, x: Tensor, poison: Tensor) -> Tensor:
        bent = torch.einsum("bha,ba->b", actions.square(), 1 + x.square()) + 0.3 * actions[:, 1:].mul(
            actions[:, :-1]
        ).sum((1, 2))
        return (actions * x[:, None]).sum((1, 2)) - bent + poison * actions.sum((1, 2))

    def gradient(poison: Tensor) -> tuple[Tensor, Tensor, list[Status]]:
        x = torch.randn(3, A, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
        bound = torch.full((H, A), 0.3, dtype=torch.float64)
        start = torch.full((3, H, A), 0.2, dtype=torch.float64)
        solution = solve(Problem(poisoned, (x, poison), -bound, bound), start, ADJOINTS[adjoint])
        solution.actions.square().sum().backward()
        assert x.grad is not None
        return solution.actions.detach(), x.grad, solution.statuses()

    clean, clean_gradient, _ = gradient(torch.zeros(3, dtype=torch.float64))
    mixed, mixed_gradient, statuses = gradient(torch.tensor([0.0, value, 0.0], dtype=torch.float64))
    assert statuses[1] is Status.NONFINITE and (mixed[1] == 0.2).all()
    assert (mixed_gradient[1] == 0).all() and (clean_gradient != 0).all()
    assert torch.equal(mixed_gradient[::2], clean_gradient[::2]) and torch.equal(mixed[::2], clean[::2])


def test_small_and_negative_curvature_is_lifted() -> None:
    def bowl(actions: Tensor, b: Tensor) -> Tensor:
        curvature = torch.tensor([2.0, 1e-6, -3.0], dtype=torch.float64)
        return -(0.5 * curvature * actions[:, 0].square() - b * actions[:, 0]).sum(1)

    bound = torch.ones(1, 3, dtype=torch.float64)
    for limit in (32, 0):
        b = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        options = SolverOptions(iterations=0, curvature_floor=0.5, dense_limit=limit)
        for joint, expected in ((0, 1 / 2), (1, 1 / 0.5), (2, 1 / 3)):
            solution = solve(Problem(bowl, (b,), -bound, bound), torch.zeros(1, 1, 3, dtype=torch.float64), options)
            (gradient,) = torch.autograd.grad(solution.actions[0, 0, joint], b)
            assert float(gradient[0, joint]) == pytest.approx(expected, rel=1e-12), (limit, joint)
            assert gradient.count_nonzero() == 1


def test_a_hessian_that_is_not_finite_gives_no_gradient_to_its_sample_alone() -> None:
    def power(actions: Tensor, b: Tensor) -> Tensor:  # the curvature of |x|^1.5 is infinite at 0
        return (b[:, :, None] * actions).sum((1, 2)) - actions.abs().pow(1.5).sum((1, 2))

    bound = torch.ones(1, 2, dtype=torch.float64)
    start = torch.tensor([[[0.0, 0.0]], [[0.5, 0.5]]], dtype=torch.float64)
    for limit in (32, 0):
        b = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
        solution = solve(Problem(power, (b,), -bound, bound), start, SolverOptions(iterations=0, dense_limit=limit))
        (gradient,) = torch.autograd.grad(solution.actions.sum(), b)
        assert float(gradient[0]) == 0
        assert float(gradient[1]) == pytest.approx(2 / (0.75 * 0.5**-0.5), rel=1e-9)


class Kept:
    """A tensor saved for a backward pass; counted for as long as autograd holds it."""

    alive: "weakref.WeakSet[Kept]" = weakref.WeakSet()

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        Kept.alive.add(self)


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_backward_frees_what_it_kept(adjoint: str) -> None:
    case = Case("rollout", batch=2)
    start = solve(
        case.problem(), torch.zeros_like(case.reference), dataclasses.replace(OPTIONS, adjoint="none")
    ).actions
    Kept.alive.clear()
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        solution = solve(case.problem(), start, dataclasses.replace(ADJOINTS[adjoint], method="qn", iterations=0))
    assert len(Kept.alive) > 20
    solution.actions.sum().backward()
    assert len(Kept.alive) == 0
    assert case.context[0].grad is not None and (case.context[0].grad != 0).any()


def test_a_constant_problem_has_a_constant_solution() -> None:
    target = torch.full((2, H, A), 0.3, dtype=torch.float64)
    bound = torch.ones(H, A, dtype=torch.float64)
    initial = torch.zeros_like(target)

    def solved(*context: torch.Tensor) -> torch.Tensor:
        return solve(Problem(lambda a, c: -(a - c).square().sum((1, 2)), context, -bound, bound), initial).actions

    assert not solved(target).requires_grad
    assert solved(target.clone().requires_grad_()).requires_grad
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    hidden = Problem(lambda a: -(a - weight * target).square().sum((1, 2)), (), -bound, bound)
    assert solve(hidden, initial).actions.requires_grad, "a parameter inside the objective"


def test_no_graph_under_no_grad_or_without_an_adjoint() -> None:
    case = Case("chunk", batch=2)
    start = torch.zeros_like(case.reference)
    with torch.no_grad():
        assert not solve(case.problem(), start, OPTIONS).actions.requires_grad
    assert not solve(case.problem(), start, dataclasses.replace(OPTIONS, adjoint="none")).actions.requires_grad
