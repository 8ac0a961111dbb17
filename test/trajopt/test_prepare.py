"""Prepared solves: the same results as plain ones, live weights, deadlines, refusals in a sentence.

Compiling takes tens of seconds: one small net is compiled once, for all the tests of compiled code here.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator

import pytest
import torch
from gpu import needs_gpu
from torch import Tensor

from difftop_ros.trajopt import LatentRollout, PreparedSolver, Problem, SolverOptions, Status, TrajoptError, solve
from difftop_ros.trajopt import prepare as prepare_solver

BATCH, H, A, Z = 3, 2, 2, 4
OPTIONS = SolverOptions(iterations=8, tolerance=1e-6)
compiles = [pytest.mark.slow, pytest.mark.timeout(900)]


class Nets(torch.nn.Module):
    """A small latent world."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.dynamics, self.reward = torch.nn.Linear(Z + A, Z), torch.nn.Linear(Z, 1)
        self.to(device)

    def rollout(self) -> LatentRollout:
        return LatentRollout(
            lambda z, a: torch.tanh(self.dynamics(torch.cat([z, a], 1))),
            lambda z, a: self.reward(z).squeeze(1).sin() - 0.1 * a.square().sum(1),
            lambda z: 2 * self.reward(z).squeeze(1),
        )


def data(seed: int, device: str = "cpu") -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """A context, a start partly out of the box, a reference."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    return (normal(BATCH, Z),), normal(BATCH, H, A), 0.2 * normal(BATCH, H, A)


def world(device: str = "cpu") -> tuple[Problem, Tensor, Nets]:
    nets = Nets(device)
    context, initial, reference = data(0, device)
    bound = torch.full((H, A), 0.6, device=device)
    return Problem(nets.rollout(), context, -bound, bound, reference, 0.1), initial, nets


def same(prepared: PreparedSolver, problem: Problem, seed: int, device: str = "cpu", **given: Tensor) -> None:
    """The prepared solve of new data is the plain one to rounding, and not that of other data."""
    context, initial, reference = data(seed, device)
    warm = given.pop("warm_start", None)
    plain = solve(
        dataclasses.replace(problem, context=context, reference=reference, **given), initial, prepared.options, warm
    )
    got = prepared(context, initial, reference=reference, warm_start=warm, **given)
    assert torch.allclose(got.actions, plain.actions, atol=2e-3), (got.actions - plain.actions).abs().max()
    assert torch.allclose(got.final_cost, plain.final_cost, atol=1e-5)
    assert torch.allclose(got.initial_cost, plain.initial_cost, atol=1e-5)
    assert (got.final_cost <= got.initial_cost).all()
    assert (got.actions.abs() <= problem.upper).all()


@pytest.fixture(scope="module")
def compiled() -> Iterator[tuple[PreparedSolver, Problem, Nets]]:
    problem, initial, nets = world()
    yield prepare_solver(problem, initial, OPTIONS), problem, nets


@pytest.fixture(params=["eager", pytest.param("compile", marks=compiles)])
def prepared(request: pytest.FixtureRequest) -> tuple[PreparedSolver, Problem, Nets]:
    if request.param == "compile":
        return request.getfixturevalue("compiled")
    problem, initial, nets = world()
    return prepare_solver(problem, initial, OPTIONS, backend="eager"), problem, nets


def test_new_data_give_the_plain_result(prepared: tuple[PreparedSolver, Problem, Nets]) -> None:
    solver, problem, _ = prepared
    for seed in (1, 2, 3):
        same(solver, problem, seed)
    tight = torch.full((H, A), 0.2)
    same(solver, problem, 4, lower=-tight, upper=tight)
    same(solver, problem, 5, warm_start=data(6)[1].clamp(-0.5, 0.5))


def test_an_earlier_result_is_not_overwritten(prepared: tuple[PreparedSolver, Problem, Nets]) -> None:
    solver, _, _ = prepared
    context, initial, _ = data(1)
    first = solver(context, initial)
    kept = {name: tensor.clone() for name, tensor in vars(first).items()}
    solver(*data(2)[:2])
    for name, tensor in vars(first).items():
        assert torch.equal(tensor, kept[name]), name


def test_weights_are_read_live(prepared: tuple[PreparedSolver, Problem, Nets]) -> None:
    solver, problem, nets = prepared
    context, initial, _ = data(1)
    before = solver(context, initial).final_cost
    old = {name: tensor.clone() for name, tensor in nets.state_dict().items()}
    with torch.no_grad():
        for parameter in nets.parameters():
            parameter.mul_(1.5)
    try:
        assert not torch.allclose(solver(context, initial).final_cost, before, atol=1e-3)
        same(solver, problem, 1)
    finally:
        nets.load_state_dict(old)
    assert torch.equal(solver(context, initial).final_cost, before)


def test_what_the_objective_reads_may_change_between_calls(prepared: tuple[PreparedSolver, Problem, Nets]) -> None:
    solver, problem, nets = prepared
    dynamics, weight = nets.dynamics, nets.reward.weight
    same(solver, problem, 1)
    nets.dynamics = torch.nn.Linear(Z + A, Z, bias=False)  # one tensor less
    nets.reward.weight = torch.nn.Parameter(2 * weight.detach())
    try:
        same(solver, problem, 2)
        same(solver, problem, 3)
    finally:
        nets.dynamics, nets.reward.weight = dynamics, weight
    same(solver, problem, 4)


def test_the_implicit_adjoint_reaches_weights_and_context(prepared: tuple[PreparedSolver, Problem, Nets]) -> None:
    solver, problem, nets = prepared
    found = []
    for run in (solver, None):
        (z,), initial, reference = data(1)
        z.requires_grad_()
        nets.zero_grad()
        if run is None:
            moved = dataclasses.replace(problem, context=(z,), reference=reference)
            actions = solve(moved, initial, OPTIONS).actions
        else:
            actions = run((z,), initial, reference=reference).actions
        actions.square().sum().backward()
        found.append((z.grad, nets.dynamics.weight.grad.clone()))
    for got, expected in zip(*found):
        assert expected.abs().max() > 1e-3 and torch.allclose(got, expected, rtol=2e-2, atol=2e-3)
    with torch.no_grad():
        assert not solver((z,), initial).actions.requires_grad


def test_a_bad_sample_stays_where_it_is(prepared: tuple[PreparedSolver, Problem, Nets]) -> None:
    solver, problem, _ = prepared
    (z,), initial, _ = data(1)
    clean = solver((z,), initial)
    bad = z.clone()
    bad[1] = float("nan")
    got = solver((bad,), initial)
    assert got.statuses()[1] is Status.NONFINITE
    assert torch.equal(got.actions[1], problem.clamp(initial)[1])
    assert torch.equal(got.actions[[0, 2]], clean.actions[[0, 2]])


@pytest.mark.parametrize("backend", ["eager", pytest.param("compile", marks=compiles)])
def test_the_deadline_is_met_within_one_step(
    backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by 10 ms with every step of the prepared solve."""
    if backend == "compile":
        base = request.getfixturevalue("compiled")[0]
    else:
        problem, initial, _ = world()
        base = prepare_solver(problem, initial, OPTIONS, backend="eager")
    clock, calls = [0.0], []

    def ticking(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            clock[0] += 0.010
            calls.append(function)
            return function(*arguments)

        return call

    monkeypatch.setattr("difftop_ros.trajopt.solution.time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(base, "options", dataclasses.replace(OPTIONS, deadline_ms=35.0, tolerance=1e-12))
    monkeypatch.setattr(base, "_start", ticking(base._start))
    monkeypatch.setattr(base, "_step", ticking(base._step))
    solution = base(*data(1)[:2])
    assert len(calls) == 3 and (solution.gradients == 3).all()
    assert Status.DEADLINE in solution.statuses()
    calls.clear()
    assert (base(*data(1)[:2], deadline_ms=55.0).gradients == 5).all() and len(calls) == 5


@pytest.mark.parametrize("method", ["spg", "polyak"])
def test_other_solvers_and_several_starts(method: str) -> None:
    problem, initial, _ = world()
    options = dataclasses.replace(OPTIONS, method=method, starts=3)
    same(prepare_solver(problem, initial, options, backend="eager"), problem, 1)


def data_dependent(actions: Tensor, z: Tensor) -> Tensor:
    if float(actions.sum()) > 0:  # what no compiler can follow
        return -actions.square().sum((1, 2))
    return -(actions - 0.1).square().sum((1, 2))


def test_an_objective_that_does_not_compile_is_named_with_the_cause() -> None:
    problem, initial, _ = world()
    odd = dataclasses.replace(problem, objective=data_dependent)
    with pytest.raises(TrajoptError, match=r"does not compile .*use backend 'eager'") as raised:
        prepare_solver(odd, initial, OPTIONS)
    assert raised.value.__cause__ is not None
    assert torch.isfinite(prepare_solver(odd, initial, OPTIONS, backend="eager")(*data(1)[:2]).final_cost).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_problem_that_takes_no_step_compiles_the_step_all_the_same() -> None:
    """As costs do whose cloud is still empty when the node is configured."""
    bound = torch.ones(H, A)

    def problem(weight: float) -> Problem:
        return Problem(lambda a, w: -w * (a - 0.5).square().sum((1, 2)), (torch.full((1,), weight),), -bound, bound)

    start = torch.zeros(1, H, A)
    prepared = prepare_solver(problem(0.0), start, OPTIONS)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    found = prepared(problem(1.0).context, start)
    assert torch.allclose(found.actions, torch.full_like(start, 0.5), atol=1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


def test_what_cannot_be_prepared_says_so() -> None:
    problem, initial, _ = world()
    for options, backend, says in [
        (SolverOptions(method="newton"), "eager", r"'newton' cannot be prepared; expected one of \['qn', 'spg', 'po"),
        (SolverOptions(adjoint="unrolled"), "eager", "expected 'implicit' or 'none'"),
        (SolverOptions(), "jit", "backend is 'jit'; expected one of"),
        (SolverOptions(), "cuda_graph", "needs the problem on a CUDA device, it is on cpu"),
    ]:
        with pytest.raises(TrajoptError, match=says):
            prepare_solver(problem, initial, options, backend)
    with pytest.raises(TrajoptError, match="does not broadcast to"):
        prepare_solver(problem, initial[:2], OPTIONS, "eager")


def test_other_shapes_and_dtypes_than_prepared_are_refused() -> None:
    problem, initial, _ = world()
    solver = prepare_solver(problem, initial, OPTIONS, backend="eager")
    (z,), initial, reference = data(1)
    for call, says in [
        (lambda: solver((z,), initial[:2]), r"initial is torch.float32 \(2, 2, 2\) .* prepared for"),
        (lambda: solver((z[:2],), initial), r"context 0 is .* \(2, 4\) .* prepared for .* \(3, 4\)"),
        (lambda: solver((z.double(),), initial), "context 0 is torch.float64 .* prepared for torch.float32"),
        (lambda: solver((z, z), initial), "the context has 2 tensors; .* prepared for 1"),
        (lambda: solver((z,), initial, reference=reference[0]), r"reference is .* \(2, 2\)"),
        (lambda: solver((z,), initial, upper=problem.upper[None]), r"upper is .* \(1, 2, 2\)"),
        (lambda: solver((z,), initial, upper=problem.lower - 1), "the box is empty"),
        (lambda: solver((z,), initial, warm_start=initial[:, :1]), r"warm_start is .* \(3, 1, 2\)"),
        (lambda: solver(("z",), initial), "context 0 is a str"),
    ]:
        with pytest.raises(TrajoptError, match=says):
            call()
    free = dataclasses.replace(problem, reference=None, proximal=0.0)
    with pytest.raises(TrajoptError, match="prepared for a problem without one"):
        prepare_solver(free, initial, OPTIONS, backend="eager")((z,), initial, reference=reference)


@needs_gpu
@pytest.mark.parametrize("method", ["qn", "spg", "polyak"])
@pytest.mark.parametrize("backend", ["cuda_graph", pytest.param("compile+cuda_graph", marks=compiles)])
def test_captured_on_cuda_is_the_plain_result_without_a_wait(method: str, backend: str) -> None:
    problem, initial, nets = world("cuda")
    solver = prepare_solver(problem, initial, dataclasses.replace(OPTIONS, method=method, adjoint="none"), backend)
    for seed in (1, 2):
        same(solver, problem, seed, "cuda")
    with torch.no_grad():
        nets.dynamics.weight.mul_(1.5)
    same(solver, problem, 1, "cuda")
    context, initial, _ = data(1, "cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        solver(context, initial)
    finally:
        torch.cuda.set_sync_debug_mode("default")
