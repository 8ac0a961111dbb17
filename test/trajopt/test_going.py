"""A batch made smaller as its samples end: fewer rows computed, the same bits, prepared or not.

The iterations themselves are tested in test_qn.py and test_every_solver.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import ActionChunk, Problem, Solution, SolverOptions, Status, prepare, solve
from difftop_ros.trajopt.solvers.polyak import PolyakSettings
from difftop_ros.trajopt.stepping import MULTIPLE, Going

H, A, F = 3, 4, 6
METHODS = {
    "qn": SolverOptions(iterations=12, adjoint="none"),
    "spg": SolverOptions("spg", iterations=20, adjoint="none"),
    "polyak": SolverOptions("polyak", iterations=20, adjoint="none", settings=PolyakSettings(1.0, 1e-3, 0.1)),
}


class Cost(torch.nn.Module):
    """A small learned cost that counts the rows it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(H * A + F, 32), torch.nn.Linear(32, 8)
        self.rows: list[int] = []

    def forward(self, actions: Tensor, features: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.rows.append(len(actions))
        hidden = torch.nn.functional.silu(self.first(torch.cat([actions.flatten(1), features], 1)))
        return self.second(hidden).square().sum(1) + 0.05 * actions.square().flatten(1).sum(1)


def half_solved(batch: int) -> tuple[Problem, Tensor, Cost]:
    """Problems of which every other one starts at its solution, and is soon done."""
    cost = Cost()
    bound = torch.ones(H, A)
    problem = Problem(ActionChunk(cost), (torch.randn(batch, F),), -bound, bound)
    start = torch.rand(batch, H, A) * 2 - 1
    start[::2] = solve(problem, start, SolverOptions(iterations=60, adjoint="none")).actions[::2]
    cost.rows.clear()
    return problem, start, cost


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch is made smaller from here on."""
    monkeypatch.setattr(Going, "sizes", staticmethod(lambda _batch: []))


def assert_same(got: Solution, expected: Solution) -> None:
    for name, tensor in vars(got).items():
        assert torch.equal(tensor, getattr(expected, name)), name


@pytest.mark.parametrize("method", METHODS)
def test_fewer_rows_and_the_same_bits(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, start, cost = half_solved(8 * MULTIPLE)
    got = solve(problem, start, METHODS[method])
    computed, sizes = sum(cost.rows), set(cost.rows)
    cost.rows.clear()
    whole(monkeypatch)
    expected = solve(problem, start, METHODS[method])
    assert set(cost.rows) == {8 * MULTIPLE}
    assert computed < 0.8 * sum(cost.rows)
    assert all(size % MULTIPLE == 0 for size in sizes)
    assert got.iterations.min() < got.iterations.max()
    assert_same(got, expected)


@pytest.mark.parametrize("method", METHODS)
def test_the_bits_do_not_depend_on_when_a_neighbour_ends(method: str) -> None:
    problem, start, _ = half_solved(4 * MULTIPLE)
    clean = solve(problem, start, METHODS[method])
    features = problem.context[0].clone()
    bad = torch.zeros(len(features), dtype=torch.bool)
    bad[1::2][: MULTIPLE + 3] = True
    features[bad] = torch.nan
    got = solve(replace(problem, context=(features,)), start, METHODS[method])
    assert all(got.statuses()[i] is Status.NONFINITE for i in bad.nonzero()[:, 0].tolist())
    for name, tensor in vars(got).items():
        assert torch.equal(tensor[~bad], getattr(clean, name)[~bad]), name


@pytest.mark.parametrize("batch", [1, MULTIPLE, 2 * MULTIPLE + 1])
def test_other_batches_stay_whole(batch: int) -> None:
    problem, start, cost = half_solved(batch)
    solve(problem, start, METHODS["qn"])
    assert set(cost.rows) == {batch}


def test_bounds_and_reference_of_each_sample_go_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, start, cost = half_solved(4 * MULTIPLE)
    upper = torch.rand(4 * MULTIPLE, H, A) + 0.01
    own = replace(problem, lower=-upper, upper=upper, reference=start.clone(), proximal=0.2)
    start = torch.where(torch.arange(len(start))[:, None, None] % 2 == 0, solve(own, start).actions.detach(), start)
    cost.rows.clear()
    got = solve(own, start, METHODS["qn"])
    assert min(cost.rows) < len(start)
    whole(monkeypatch)
    assert_same(got, solve(own, start, METHODS["qn"]))


def test_the_adjoint_is_that_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, start, cost = half_solved(4 * MULTIPLE)
    found = []
    for _ in range(2):
        cost.zero_grad()
        solve(problem, start, replace(METHODS["qn"], adjoint="implicit")).actions.square().sum().backward()
        found.append([parameter.grad.clone() for parameter in cost.parameters() if parameter.grad is not None])
        whole(monkeypatch)
    assert found[0] and all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("compile", marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_a_prepared_solve_does_it_too_and_compiles_nothing_in_a_call(backend: str) -> None:
    problem, start, _ = half_solved(4 * MULTIPLE)
    solver = prepare(problem, start, METHODS["qn"], backend)
    calls: list[int] = []
    step = solver._step_of_rest
    assert step is not None

    def counted(state: object, tensors: tuple[Tensor, ...]) -> object:
        calls.append(len(tensors[-1]))
        return step(state, tensors)

    solver._step_of_rest = counted
    with torch._dynamo.config.patch(error_on_recompile=True):
        for initial in (start, 0.5 * start, start.clamp(-0.1, 0.1)):
            got, plain = solver(problem.context, initial), solve(problem, initial, METHODS["qn"])
            if backend == "eager":
                assert_same(got, plain)
            assert torch.allclose(got.actions, plain.actions, atol=2e-3)
            assert torch.allclose(got.final_cost, plain.final_cost, atol=1e-5)
    assert calls and max(calls) < len(start)
