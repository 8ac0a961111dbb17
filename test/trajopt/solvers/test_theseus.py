"""theseus-ai as engine: the published form against its closed form, residuals against least squares, its failures."""

import dataclasses
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from difftop_ros.trajopt import (
    ActionChunk,
    LatentRollout,
    PolyakSettings,
    Problem,
    SolverOptions,
    Status,
    TheseusSettings,
    Tracking,
    TrajoptError,
    solve,
)

pytest.importorskip("theseus", reason="theseus-ai is not installed in this environment (make setup)")

H, A, Z = 3, 2, 4
EXACT = {"iterations": 60, "tolerance": 1e-12}


def theseus(**fields: object) -> SolverOptions:
    """Options of method theseus; fields of TheseusSettings and of SolverOptions mixed."""
    own = {f.name for f in dataclasses.fields(TheseusSettings)}
    settings = TheseusSettings(**{k: v for k, v in fields.items() if k in own})
    return SolverOptions(method="theseus", settings=settings, **{k: v for k, v in fields.items() if k not in own})


def net(inputs: int, outputs: int, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(inputs, 24), torch.nn.Tanh(), torch.nn.Linear(24, outputs)).double()


def rollout(batch: int, bound: float) -> tuple[Problem, Tensor]:
    dynamics, reward, value = net(Z + A, Z, 1), net(Z + A, 1, 2), net(Z, 1, 3)
    form = LatentRollout(
        lambda z, a: z + dynamics(torch.cat([z, a], 1)),
        lambda z, a: reward(torch.cat([z, a], 1)).squeeze(1),
        lambda z: value(z).squeeze(1),
        discount=0.99,
    )
    return problem(form, batch, bound)


def chunk(batch: int, bound: float) -> tuple[Problem, Tensor]:
    cost = net(H * A + Z, 1, 4)
    return problem(ActionChunk(lambda a, f: cost(torch.cat([a.flatten(1), f], 1)).squeeze(1)), batch, bound)


def problem(form: Any, batch: int, bound: float) -> tuple[Problem, Tensor]:
    generator = torch.Generator().manual_seed(7)
    z = torch.randn(batch, Z, generator=generator, dtype=torch.float64)
    start = 0.3 * torch.randn(batch, H, A, generator=generator, dtype=torch.float64)
    upper = torch.full((H, A), bound, dtype=torch.float64)
    return Problem(form, (z,), -upper, upper), start


@pytest.mark.parametrize("proximal", [0.0, 0.5])
@pytest.mark.parametrize("bound", [float("inf"), 50.0, 0.35])
@pytest.mark.parametrize("make", [rollout, chunk])
def test_the_closed_form_is_what_theseus_does_on_the_published_scalar_residual(
    make: Any, bound: Any, proximal: float
) -> None:
    given, start = make(6, bound)
    given = dataclasses.replace(given, reference=0.5 * start, proximal=proximal)
    step = 1e-4  # the paper's
    engine = solve(given, start, theseus(form="scalar", step=step, iterations=20, tolerance=1e-12))
    closed = SolverOptions(method="polyak", iterations=20, tolerance=1e-12, settings=PolyakSettings(step=step))
    expected = solve(given, start, closed)
    assert torch.allclose(engine.actions, expected.actions, rtol=0, atol=1e-6)
    assert torch.allclose(engine.final_cost, expected.final_cost, rtol=0, atol=1e-6)
    assert (engine.final_cost < engine.initial_cost).all()
    assert torch.equal(engine.iterations, expected.iterations)
    assert bound < 1 or (engine.iterations == 20).all(), "in a wide box nothing ends early"


def test_coupled_is_one_rank_one_step_for_the_whole_batch() -> None:
    given, start = chunk(5, 50.0)
    value, gradient = given.value_and_gradient(start)
    shared = gradient / 5
    expected = start - 1e-2 * (1000 + value.mean()) * shared / (shared.square().sum() + 1e-3)
    got = solve(given, start, theseus(form="scalar", coupled=True, step=1e-2, iterations=1))
    kept = given.cost(expected) < value  # the best iterate of each sample is returned
    assert kept.any()
    assert torch.allclose(got.actions[kept], expected[kept], rtol=0, atol=1e-9)
    assert torch.equal(got.actions[~kept].detach(), start[~kept])


def linear(actions: Tensor, matrix: Tensor, target: Tensor) -> Tensor:
    return torch.einsum("brn,bn->br", matrix, actions.flatten(1)) - target


def least_squares(batch: int, bound: float) -> tuple[Problem, Tensor]:
    generator = torch.Generator().manual_seed(11)
    matrix = torch.randn(batch, 9, H * A, generator=generator, dtype=torch.float64)
    target = torch.randn(batch, 9, generator=generator, dtype=torch.float64)
    upper = torch.full((H, A), bound, dtype=torch.float64)
    given = Problem(Tracking(linear), (matrix, target), -upper, upper)
    return given, torch.zeros(batch, H, A, dtype=torch.float64)


@pytest.mark.parametrize("optimizer", ["lm", "gn"])
def test_linear_least_squares_is_that_of_lapack(optimizer: str) -> None:
    given, start = least_squares(7, float("inf"))
    matrix, target = given.context
    expected = torch.linalg.lstsq(matrix, target.unsqueeze(2)).solution.squeeze(2)
    got = solve(given, start, theseus(optimizer=optimizer, **EXACT))
    assert torch.allclose(got.actions.flatten(1), expected, rtol=0, atol=1e-8)
    assert (got.status != Status.NONFINITE).all() and (got.gradient_norm < 1e-8).all()


@pytest.mark.parametrize("optimizer", ["lm", "gn"])
def test_the_proximal_term_becomes_further_residuals(optimizer: str) -> None:
    given, start = least_squares(4, float("inf"))
    reference = torch.ones_like(start)
    given = dataclasses.replace(given, reference=reference[:1], proximal=0.7)
    matrix, target = given.context
    rows = torch.cat([matrix, 0.7**0.5 * torch.eye(H * A, dtype=torch.float64).expand(4, -1, -1)], 1)
    right = torch.cat([target, 0.7**0.5 * reference.flatten(1)], 1)
    expected = torch.linalg.lstsq(rows, right.unsqueeze(2)).solution.squeeze(2)
    got = solve(given, start, theseus(optimizer=optimizer, **EXACT))
    assert torch.allclose(got.actions.flatten(1), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("optimizer", ["lm", "gn"])
def test_bounded_least_squares_meets_the_first_order_conditions(optimizer: str) -> None:
    given, start = least_squares(7, 0.15)
    got = solve(given, start, theseus(optimizer=optimizer, **EXACT))
    value, gradient = given.value_and_gradient(got.actions)
    a = got.actions.detach()
    assert (a - (a - gradient).clamp(-0.15, 0.15)).abs().max() < 1e-8
    assert 0 < got.active_fraction.mean() < 1
    assert torch.allclose(value, got.final_cost)


LINKS = torch.tensor([1.0, 0.7], dtype=torch.float64)


def reach_error(angles: Tensor, target: Tensor) -> Tensor:
    """Where the hand of a two-link arm is, less where it should be; (B, 2), for angles (B, 1, 2)."""
    total = angles[:, 0].cumsum(1)
    return torch.stack([(LINKS * total.cos()).sum(1), (LINKS * total.sin()).sum(1)], 1) - target


@pytest.mark.parametrize("optimizer", ["lm", "gn"])
def test_inverse_kinematics_of_two_links(optimizer: str) -> None:
    true = torch.tensor([[0.3, 0.9], [-0.6, 1.2], [1.0, 0.4], [0.1, 2.0]], dtype=torch.float64)
    target = reach_error(true[:, None], torch.zeros(4, 2, dtype=torch.float64))
    bound = torch.full((1, 2), 3.0, dtype=torch.float64)
    start = torch.tensor([0.2, 0.8], dtype=torch.float64).expand(4, 1, 2)
    got = solve(Problem(Tracking(reach_error), (target,), -bound, bound), start, theseus(optimizer=optimizer, **EXACT))
    assert reach_error(got.actions.detach(), target).abs().max() < 1e-8
    assert torch.allclose(got.actions.detach()[:, 0], true, atol=1e-7)


def test_gradient_through_the_residual_form_is_that_of_least_squares() -> None:
    given, start = least_squares(3, float("inf"))
    matrix, target = given.context[0], given.context[1].clone().requires_grad_()
    got = solve(dataclasses.replace(given, context=(matrix, target)), start, theseus(**EXACT, dense_limit=64))
    got.actions.sum().backward()
    expected = torch.linalg.pinv(matrix).sum(1)
    assert torch.allclose(target.grad, expected, rtol=0, atol=1e-8)


def scaled_pull(actions: Tensor, scale: Tensor) -> Tensor:
    return -scale * (actions.flatten(1) - 0.5).square().sum(1)


def test_a_failed_factorisation_in_float32_stops_that_sample_with_a_status() -> None:
    scale = torch.tensor([1.0, 1e6, 2.0])
    bound = torch.full((H, A), 2.0)
    given = Problem(scaled_pull, (scale,), -bound, bound)
    # different entries, so that the rank-one matrix is none that happens to factor exactly
    start = torch.linspace(0.05, 0.33, H * A).view(1, H, A).repeat(3, 1, 1)
    gradient = given.value_and_gradient(start)[1].flatten(1)
    normal = gradient[:, :, None] * gradient[:, None] + 1e-3 * torch.eye(H * A)
    assert (torch.linalg.cholesky_ex(normal)[1] != 0).tolist() == [False, True, False], (
        "the test is meant to fail there"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = solve(given, start, theseus(form="scalar", step=1e-4, iterations=10, adjoint="none"))
    assert got.statuses() == [Status.MAX_ITERATIONS, Status.NO_DECREASE, Status.MAX_ITERATIONS]
    assert "precision" in got.statuses()[1].sentence
    assert torch.equal(got.actions[1], start[1]) and torch.isfinite(got.final_cost).all()
    assert (got.final_cost[[0, 2]] < got.initial_cost[[0, 2]]).all()
    alone = solve(given.select(torch.tensor([0])), start[:1], theseus(form="scalar", step=1e-4, iterations=10))
    assert torch.allclose(alone.actions[0], got.actions[0], rtol=0, atol=1e-6)


def test_gauss_newton_on_a_singular_system_stops_and_levenberg_marquardt_goes_on() -> None:
    bound = torch.full((H, A), 5.0, dtype=torch.float64)
    given = Problem(Tracking(lambda a: a.flatten(1).sum(1, keepdim=True) - 3), (), -bound, bound)
    start = torch.zeros(2, H, A, dtype=torch.float64)
    stuck = solve(given, start, theseus(optimizer="gn", adjoint="none"))
    assert stuck.statuses() == [Status.NO_DECREASE] * 2 and torch.equal(stuck.actions, start)
    assert solve(given, start, theseus(optimizer="lm", iterations=30)).final_cost.max() < 1e-12


def test_theseus_is_imported_on_use_and_missing_it_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    given, start = least_squares(2, 1.0)
    monkeypatch.setitem(sys.modules, "theseus", None)
    with pytest.raises(TrajoptError, match="make setup"):
        solve(given, start, theseus())


BAD = [
    (lambda: TheseusSettings(form="vector"), "expected one of"),
    (lambda: TheseusSettings(optimizer="dogleg"), "expected one of"),
    (lambda: TheseusSettings(damping=0), "above 0"),
    (lambda: TheseusSettings(step=0.0), "above 0"),
    (lambda: TheseusSettings(form="scalar", optimizer="gn"), "rank one"),
    (lambda: TheseusSettings(coupled=True), "form 'scalar'"),
    (lambda: solve(*chunk(2, 1.0), theseus()), "expected Tracking"),
    (lambda: _integers(), "torch.int64; expected torch.float64"),
    (lambda: _branching(), "vmap"),
]


def _integers() -> None:
    given, start = chunk(2, 1.0)
    more = (*given.context, torch.zeros(2, dtype=torch.long))
    form = ActionChunk(lambda a, z, kind: given.objective.cost(a, z))
    solve(dataclasses.replace(given, objective=form, context=more), start, theseus(form="scalar"))


def _branching() -> None:
    given, start = chunk(2, 1.0)
    form = ActionChunk(lambda a, z: given.objective.cost(a, z) * (2.0 if float(a.detach().sum()) > 0 else 1.0))
    solve(dataclasses.replace(given, objective=form), start, theseus(form="scalar"))


@pytest.mark.parametrize(("call", "says"), BAD, ids=[f"{i}-{b[1]}" for i, b in enumerate(BAD)])
def test_bad_input_is_one_clear_sentence(call: Any, says: str) -> None:
    with pytest.raises(TrajoptError, match=says):
        call()
