"""What holds for every solver on every form it takes; a solver registered in SOLVER_TABLE is tested here by itself.

Accuracy of one solver, and adjoints beyond the implicit one, are tested in that solver's or adjoint's own file.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest
import torch
from gpu import needs_gpu
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from difftop_ros.trajopt import (
    ActionChunk,
    LatentRollout,
    MppiSettings,
    PolyakSettings,
    Problem,
    Solution,
    SolverOptions,
    Status,
    TheseusSettings,
    Tracking,
    TrajoptError,
    solve,
)
from difftop_ros.trajopt.solvers import SOLVER_TABLE

A, Z = 2, 4
HORIZONS = (1, 3)
BATCHES = (1, 2, 7, 128)
DTYPES = (torch.float32, torch.float64)


class Nets(torch.nn.Module):
    """Small smooth networks by name, (B, inputs) -> (B, outputs)."""

    def __init__(self, dtype: torch.dtype, sizes: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        torch.manual_seed(3)
        for name, (inputs, outputs) in sizes.items():
            layers = torch.nn.Linear(inputs, 12), torch.nn.Tanh(), torch.nn.Linear(12, outputs)
            self.add_module(name, torch.nn.Sequential(*layers).to(dtype))

    def of(self, name: str, *parts: Tensor) -> Tensor:
        """The named network's output for the concatenated parts."""
        return self.get_submodule(name)(torch.cat([p.flatten(1) for p in parts], 1))


def rollout(horizon: int, dtype: torch.dtype) -> LatentRollout:
    nets = Nets(dtype, {"dynamics": (Z + A, Z), "reward": (Z + A, 1), "value": (Z, 1)})
    return LatentRollout(
        lambda z, a: z + 0.5 * nets.of("dynamics", z, a),
        lambda z, a: nets.of("reward", z, a).squeeze(1) - 0.1 * a.square().sum(1),
        lambda z: nets.of("value", z).squeeze(1),
        discount=0.95,
    )


def chunk(horizon: int, dtype: torch.dtype) -> ActionChunk:
    nets = Nets(dtype, {"cost": (horizon * A + Z, 1)})
    return ActionChunk(lambda a, z: 2 * nets.of("cost", a, z).squeeze(1) + 0.1 * a.square().sum((1, 2)))


def tracking(horizon: int, dtype: torch.dtype) -> Tracking:
    nets = Nets(dtype, {"reach": (horizon * A + Z, 5)})
    return Tracking(lambda a, z: torch.cat([nets.of("reach", a, z) - z[:, :1], 0.2 * a.flatten(1)], 1))


def function(horizon: int, dtype: torch.dtype) -> Callable[..., Tensor]:
    def wave(actions: Tensor, z: Tensor) -> Tensor:
        return (2 * actions + z[:, None, :A]).sin().sum((1, 2)) - (actions - 0.3).square().sum((1, 2))

    return wave


FORMS: dict[str, Callable[[int, torch.dtype], Callable[..., Tensor]]] = {
    "rollout": rollout,
    "chunk": chunk,
    "tracking": tracking,
    "function": function,
}
TAKES = {"ilqr": ("rollout",)}  # solvers that do not take every form
CASES = [(m, f) for m in SOLVER_TABLE for f in FORMS if f in TAKES.get(m, FORMS)]
CONVERGE = [m for m in ("qn", "spg", "newton") if m in SOLVER_TABLE]  # to the optimum of any convex quadratic

every_case = pytest.mark.parametrize(("method", "form"), CASES)
every_solver = pytest.mark.parametrize("method", SOLVER_TABLE)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def options(method: str, form: str = "rollout", **fields: object) -> SolverOptions:
    """Six iterations of a solver, with the settings that let it take the form; no adjoint unless asked for."""
    own: object = None
    if method == "theseus":
        pytest.importorskip("theseus", reason="theseus-ai is not installed in this environment (make setup)")
        own = TheseusSettings() if form == "tracking" else TheseusSettings(form="scalar", step=1e-4)
    if method == "polyak":
        own = PolyakSettings(step=1e-4)  # the paper's
    if method == "mppi":
        own = MppiSettings(samples=40, elites=8, priors=4)
    return SolverOptions(method=method, **{"iterations": 6, "adjoint": "none", "settings": own, **fields})


def problem(form: str, batch: int, horizon: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Problem, Tensor]:
    """A problem of a form in the box [-0.8, 0.8], and starts partly out of it."""
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(batch, Z, generator=generator, dtype=torch.float64).to(dtype)
    start = torch.randn(batch, horizon, A, generator=generator, dtype=torch.float64).to(dtype)
    bound = torch.full((horizon, A), 0.8, dtype=dtype)
    return Problem(FORMS[form](horizon, dtype), (z,), -bound, bound), start


def stage(reward: Callable[[Tensor, Tensor], Tensor], context: Tensor, bound: float = 1.0, horizon: int = 2) -> Problem:
    """A rollout, which every solver takes, that stays at its state and pays reward(state, action) at each step."""
    upper = torch.full((horizon, A), bound, dtype=context.dtype)
    return Problem(LatentRollout(lambda z, a: z, reward), (context,), -upper, upper)


def check(given: Problem, start: Tensor, got: Solution) -> None:
    """The invariants of every result."""
    batch = len(start)
    assert got.actions.shape == start.shape and got.actions.dtype == start.dtype
    for field in dataclasses.fields(Solution):
        if field.name != "actions":
            assert getattr(got, field.name).shape == (batch,), field.name
    assert all(isinstance(status, Status) and status.sentence.endswith(".") for status in got.statuses())
    actions = got.actions.detach()
    assert (actions >= given.lower).all() and (actions <= given.upper).all()
    finite = got.status != Status.NONFINITE
    assert (got.final_cost <= got.initial_cost)[finite].all()
    assert torch.isfinite(got.final_cost[finite]).all() and torch.isfinite(got.gradient_norm).all()
    assert ((got.active_fraction >= 0) & (got.active_fraction <= 1)).all()
    assert (got.iterations >= 0).all() and (got.gradients >= 1).all()
    value, gradient = given.value_and_gradient(actions)
    first, _ = given.value_and_gradient(given.clamp(start))
    slack = 1e-5 if start.dtype == torch.float32 else 1e-12
    scale = 1 + first[finite].abs()
    assert ((value - got.final_cost)[finite].abs() <= slack * scale).all(), "the cost is that of the actions"
    assert ((first - got.initial_cost)[finite].abs() <= slack * scale).all()
    norm = (actions - given.clamp(actions - gradient)).abs().flatten(1).amax(1)
    assert ((norm - got.gradient_norm)[finite].abs() <= 100 * slack * (1 + norm[finite])).all()


@every_dtype
@every_case
def test_every_batch_and_horizon(method: str, form: str, dtype: torch.dtype) -> None:
    for horizon in HORIZONS:
        for batch in BATCHES:
            given_problem, start = problem(form, batch, horizon, dtype)
            got = solve(given_problem, start, options(method, form))
            check(given_problem, start, got)
            if batch == BATCHES[-1]:
                assert (got.final_cost < got.initial_cost).float().mean() > 0.5, "it does something"


@every_dtype
@every_case
def test_the_proximal_term_counts(method: str, form: str, dtype: torch.dtype) -> None:
    given_problem, start = problem(form, 7, dtype=dtype)
    near = dataclasses.replace(given_problem, reference=given_problem.clamp(start), proximal=1e3)
    got = solve(near, start + 0.05, options(method, form, iterations=20))
    check(near, start + 0.05, got)
    assert (got.final_cost < got.initial_cost - 1).any()


@every_case
def test_zero_iterations_return_the_clamped_start(method: str, form: str) -> None:
    given_problem, start = problem(form, 5)
    got = solve(given_problem, start, options(method, form, iterations=0))
    assert torch.equal(got.actions, start.clamp(-0.8, 0.8))
    assert (got.iterations == 0).all() and torch.equal(got.initial_cost, got.final_cost)
    check(given_problem, start, got)


@every_case
def test_a_sample_alone_is_the_sample_in_a_batch(method: str, form: str) -> None:
    given_problem, start = problem(form, 7)
    together = solve(given_problem, start, options(method, form))
    for row in range(7):
        alone = solve(given_problem.select(torch.tensor([row])), start[row : row + 1], options(method, form))
        assert torch.allclose(alone.actions[0], together.actions[row], rtol=0, atol=1e-6)
        assert alone.status[0] == together.status[row]


@every_case
def test_the_same_solve_twice_is_bitwise_the_same(method: str, form: str) -> None:
    given_problem, start = problem(form, 7)
    one, two = (solve(given_problem, start, options(method, form)) for _ in range(2))
    for field in dataclasses.fields(Solution):
        assert torch.equal(getattr(one, field.name), getattr(two, field.name))


@every_case
def test_a_bad_context_spoils_its_own_sample_alone(method: str, form: str) -> None:
    given_problem, start = problem(form, 5)
    clean = given_problem.context[0]
    healthy = solve(given_problem, start, options(method, form))
    bad = clean.clone()
    bad[2, :2] = torch.nan
    bad.requires_grad_()
    poisoned = dataclasses.replace(given_problem, context=(bad,))
    got = solve(poisoned, start, options(method, form, adjoint="implicit"))
    assert got.statuses()[2] is Status.NONFINITE
    assert torch.equal(got.actions[2].detach(), start[2].clamp(-0.8, 0.8))
    others = torch.tensor([0, 1, 3, 4])
    for field in dataclasses.fields(Solution):
        assert torch.equal(getattr(got, field.name)[others].detach(), getattr(healthy, field.name)[others]), field.name
    got.actions.square().sum().backward()
    assert (bad.grad[2] == 0).all() and torch.isfinite(bad.grad).all() and (bad.grad[others] != 0).any()


@every_solver
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_cost_that_is_not_finite_keeps_its_start(method: str, value: float) -> None:
    poison = torch.tensor([[0.0], [value], [0.0]], dtype=torch.float64)
    start = torch.full((3, 2, A), 0.25, dtype=torch.float64)

    def reward(z: Tensor, a: Tensor) -> Tensor:
        return z[:, 0] - (a - 0.7).square().sum(1)

    got = solve(stage(reward, poison), start, options(method))
    healthy = solve(stage(reward, torch.zeros_like(poison)), start, options(method))
    assert got.statuses()[1] is Status.NONFINITE and torch.equal(got.actions[1], start[1])
    assert (got.gradient_norm[1] == 0) and int(got.iterations[1]) == 0
    for row in (0, 2):
        assert torch.equal(got.actions[row], healthy.actions[row])
        assert got.final_cost[row] < got.initial_cost[row]


@every_solver
def test_when_no_sample_is_finite_all_keep_their_starts(method: str) -> None:
    bad = torch.full((2, 1), torch.nan, dtype=torch.float64, requires_grad=True)
    start = torch.full((2, 2, A), 3.0, dtype=torch.float64)
    given_problem = stage(lambda z, a: z[:, 0] - a.square().sum(1), bad)
    got = solve(given_problem, start, options(method, adjoint="implicit"))
    assert got.statuses() == [Status.NONFINITE] * 2 and (got.actions == 1).all()


@every_solver
def test_a_gradient_that_is_not_finite_keeps_its_start(method: str) -> None:
    start = torch.zeros(2, 2, A, dtype=torch.float64)
    start[1] = 0.5
    root = stage(lambda z, a: -a.abs().sqrt().sum(1) + z[:, 0], torch.zeros(2, 1, dtype=torch.float64))
    got = solve(root, start, options(method))
    assert got.statuses()[0] is Status.NONFINITE and torch.equal(got.actions[0], start[0])
    check(root, start, got)


@every_solver
def test_steps_onto_costs_that_are_not_finite_are_rejected(method: str) -> None:
    """A logarithmic barrier: beyond sum(a) = 0.5 in the box there is only NaN, and the cost falls towards it."""
    start = torch.full((3, 2, A), -0.4, dtype=torch.float64)
    weight = torch.tensor([[0.1], [0.01], [1.0]], dtype=torch.float64)
    barrier = stage(lambda z, a: a.sum(1) + z[:, 0] * (0.5 - a.sum(1)).log(), weight)
    got = solve(barrier, start, options(method, iterations=20))
    check(barrier, start, got)
    assert torch.isfinite(got.actions).all() and (got.status != Status.NONFINITE).all()


@every_solver
def test_a_flat_cost_is_converged_at_once(method: str) -> None:
    flat = stage(lambda z, a: 0 * a.sum(1) + z[:, 0], torch.ones(3, 1, dtype=torch.float64))
    start = torch.full((3, 2, A), 0.25, dtype=torch.float64)
    got = solve(flat, start, options(method))
    assert torch.equal(got.actions, start) and got.statuses() == [Status.CONVERGED] * 3
    check(flat, start, got)


@every_dtype
@every_solver
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_huge_and_tiny_costs(method: str, scale: float, dtype: torch.dtype) -> None:
    goal = torch.tensor([[0.3, -0.6, 0.1], [0.9, 0.2, -0.4]], dtype=dtype)

    def reward(z: Tensor, a: Tensor) -> Tensor:
        return scale * ((3 * a + z[:, 2:]).cos().sum(1) - (a - z[:, :2]).square().sum(1))

    given_problem = stage(reward, goal)
    start = torch.full((2, 2, A), -0.3, dtype=dtype)
    got = solve(given_problem, start, options(method, tolerance=1e-6 * min(scale, 1.0), iterations=30))
    check(given_problem, start, got)
    assert torch.isfinite(got.actions).all()
    if method not in ("polyak", "theseus"):  # whose constant offset gives their steps a scale of their own
        assert (got.final_cost < got.initial_cost - 0.1 * scale).all()


@every_solver
@pytest.mark.parametrize("bound", [0.5, 0.0])
def test_a_saturated_sample_has_no_gradient(method: str, bound: float) -> None:
    goal = torch.tensor([[5.0, 5.0], [9.0, -9.0]], dtype=torch.float64, requires_grad=True)
    given_problem = stage(lambda z, a: -(a - z).square().sum(1), goal, bound)
    start = torch.full((2, 2, A), 0.0, dtype=torch.float64)
    start[:] = 4 * goal.detach()[:, None]  # beyond the corner that is the optimum
    got = solve(given_problem, start, options(method, adjoint="implicit"))
    assert torch.equal(got.actions.detach(), bound * goal.detach().sign()[:, None].expand(2, 2, A))
    assert (got.active_fraction == 1).all() and got.statuses() == [Status.CONVERGED] * 2
    got.actions.sum().backward()
    assert (goal.grad == 0).all()


@every_solver
def test_the_deadline_is_met_within_one_evaluation(method: str) -> None:
    """Each evaluation takes 5 ms, so that a budget counts evaluations; a busy machine can only make them fewer."""
    calls = 0

    def slow(z: Tensor, a: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        time.sleep(0.005)
        return -10 * (a[:, 1] - a[:, 0].square() - z[:, 0]).square() - (1 - a[:, 0]).square() + (9 * a).sin().sum(1)

    given_problem = stage(slow, torch.zeros(2, 1, dtype=torch.float64), bound=3.0, horizon=1)
    start = torch.full((2, 1, A), -1.2, dtype=torch.float64)

    def count(**fields: object) -> tuple[int, Solution]:
        nonlocal calls
        calls = 0
        return calls, solve(given_problem, start, options(method, tolerance=1e-13, **fields))

    count(iterations=0)
    least = calls
    count(iterations=1)
    one_iteration = calls - least
    _, got = count(iterations=1000, deadline_ms=1)
    assert calls <= least, "not even a second evaluation fits"
    assert got.statuses() == [Status.DEADLINE] * 2 and torch.equal(got.actions, start)
    for budget_ms in (30, 80):
        _, got = count(iterations=1000, deadline_ms=budget_ms)
        assert calls <= budget_ms / 5 + least + one_iteration
        check(given_problem, start, got)
        assert Status.DEADLINE in got.statuses() or (got.status == Status.CONVERGED).all()


BAD = [
    (lambda p, s, o: solve(p, s[:0], o), "none 0"),
    (lambda p, s, o: solve(p, s[:, :0], o), "none 0"),
    (lambda p, s, o: solve(p, s[0], o), r"expected \(batch, horizon, joints\)"),
    (lambda p, s, o: solve(p, s.float(), o), "convert one"),
    (lambda p, s, o: solve(p, s.half(), o), "float32 or float64"),
    (lambda p, s, o: solve(p, s.long(), o), "float32 or float64"),
    (lambda p, s, o: solve(p, s[:, :, :1], o), "does not broadcast"),
    (lambda p, s, o: solve(p, s[:2], o), "expected batch 2 first"),
    (lambda p, s, o: solve(dataclasses.replace(p, lower=p.upper + 1), s, o), "box is empty"),
    (lambda p, s, o: solve(dataclasses.replace(p, lower=p.lower * torch.nan), s, o), "bound is NaN"),
    (lambda p, s, o: solve(p, s, dataclasses.replace(o, settings=object())), "settings of method"),
]


@every_solver
def test_bad_input_is_one_clear_sentence(method: str) -> None:
    given_problem, start = problem("rollout", 4)
    for call, says in BAD:
        with pytest.raises(TrajoptError, match=says):
            call(given_problem, start, options(method))


@pytest.mark.parametrize(
    ("method", "form"), [(m, f) for m in SOLVER_TABLE for f in FORMS if f not in TAKES.get(m, FORMS)]
)
def test_a_form_that_a_solver_does_not_take_is_an_error(method: str, form: str) -> None:
    given_problem, start = problem(form, 2)
    with pytest.raises(TrajoptError, match=f"'{method}' needs"):
        solve(given_problem, start, options(method, form))


@needs_gpu
@every_dtype
@every_case
def test_a_cuda_device_gives_the_same(method: str, form: str, dtype: torch.dtype) -> None:
    given_problem, start = problem(form, 7, dtype=dtype)
    expected = solve(given_problem, start, options(method, form, iterations=3))
    with torch.device("cuda"):
        there, start_there = problem(form, 7, dtype=dtype)
    got = solve(there, start_there, options(method, form, iterations=3))
    check(there, start_there, got)
    assert got.actions.is_cuda
    assert torch.allclose(got.actions.cpu(), expected.actions, rtol=0, atol=1e-6 if dtype == torch.float64 else 1e-2)


def quadratic(actions: Tensor, q: Tensor, b: Tensor) -> Tensor:
    """Return b'a - a'Qa / 2 (B,) for Q (B, n, n) and b (B, n)."""
    a = actions.flatten(1)
    return (b * a).sum(1) - 0.5 * torch.einsum("bi,bij,bj->b", a, q, a)


@st.composite
def box_quadratic(draw: st.DrawFn) -> tuple[Problem, Tensor, float]:
    """A random convex quadratic of moderate condition in a box, some coordinates pinned, some free, from anywhere."""
    batch, horizon, joints = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    scale, n = 10.0 ** draw(st.integers(-2, 2)), horizon * joints
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = normal(batch, n, n)
    matrix = scale * (root @ root.transpose(1, 2) / n + 0.2 * torch.eye(n, dtype=torch.float64))
    lower = normal(batch, horizon, joints)
    upper = lower + normal(batch, horizon, joints).abs()
    kind = torch.randint(0, 5, lower.shape, generator=generator)
    upper = torch.where(kind == 0, lower, upper)  # pinned
    lower, upper = torch.where(kind == 1, -torch.inf, lower), torch.where(kind == 1, torch.inf, upper)
    pull = scale * draw(st.sampled_from([0.0, 1.0, 10.0])) * normal(batch, n)

    return Problem(quadratic, (matrix, pull), lower, upper), 3 * normal(batch, horizon, joints), scale


@pytest.mark.parametrize("method", CONVERGE)
@pytest.mark.parametrize("joints", [2, 3, 12])
def test_two_thousand_convex_quadratics_end_at_their_optimum(method: str, joints: int) -> None:
    """Many at once, since an active set that jams does so in a few of a thousand."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(2000, *shape, generator=generator, dtype=torch.float64)

    root = normal(joints, joints)
    matrix = root @ root.transpose(1, 2) / joints + 0.2 * torch.eye(joints, dtype=torch.float64)
    lower = normal(1, joints)
    given_problem = Problem(quadratic, (matrix, normal(joints)), lower, lower + normal(1, joints).abs())
    got = solve(given_problem, 3 * normal(1, joints), options(method, iterations=300, tolerance=1e-6))
    assert int((got.status != Status.CONVERGED).sum()) == 0
    assert 0 < got.active_fraction.mean() < 1


@pytest.mark.parametrize("method", CONVERGE)
@settings(deadline=None, max_examples=15, derandomize=True)
@given(case=box_quadratic())
def test_convex_quadratics_end_at_their_optimum(method: str, case: tuple[Problem, Tensor, float]) -> None:
    given_problem, start, scale = case
    got = solve(given_problem, start, options(method, iterations=400, tolerance=1e-7 * scale))
    check(given_problem, start, got)
    assert (got.gradient_norm <= 1e-6 * scale).all(), [status.name for status in got.statuses()]


@pytest.mark.parametrize("method", [m for m in SOLVER_TABLE if "function" in TAKES.get(m, FORMS)])
@settings(deadline=None, max_examples=15, derandomize=True)
@given(case=box_quadratic(), iterations=st.integers(0, 5))
def test_any_box_and_start_keeps_the_invariants(
    method: str, case: tuple[Problem, Tensor, float], iterations: int
) -> None:
    given_problem, start, _ = case
    check(given_problem, start, solve(given_problem, start, options(method, "function", iterations=iterations)))
