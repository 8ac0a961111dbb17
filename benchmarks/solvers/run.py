"""Runs one form: the best known plans, where each method ends against them, then its times at each batch size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.solvers.measure import Floor, measure_floor, timed
from benchmarks.solvers.methods import STEPS, Method, best_step, closed_form, coupled_closed_form, methods
from benchmarks.solvers.nets import SAMPLES, Form
from benchmarks.solvers.rows import Plan, Row
from benchmarks.solvers.timing import time_group
from difftop_ros.errors import UserError
from difftop_ros.trajopt import Problem, Solution, SolverOptions, Status, solve
from difftop_ros.trajopt import solvers as table


@dataclass
class Quality:
    """How one method ended on the first samples: judged cost (n,) of its plans, statuses, gradients."""

    cost: Tensor
    statuses: str
    gradients: float
    notes: list[str]


def run_form(
    form: Form, plan: Plan, say: Callable[[str], None], show: Callable[[list[Row]], None]
) -> tuple[list[Row], Floor, float]:
    """All rows of one form, its floor, and the step size the paper's form was given."""
    form.to(plan.device)
    floor = measure_floor(form, plan.device)
    say(f"{form.name}: best known plans, {plan.starts} starts")
    best = _best(form, plan)
    problem, start = form.problem(slice(0, plan.samples))
    step = best_step(problem, start, 10 if plan.quick else 100)
    chosen = methods(plan.quick, step, plan.only, form.curvature)
    qualities: dict[Method, Quality | str] = {}
    for method in chosen:
        known = _alike(method) in qualities
        if (
            method.mode == "eager"
            and not known
            and not method.why_not(form, min(SAMPLES, max(plan.batches)), plan.device)
        ):
            say(f"{form.name}: cost gap of {method.label} {method.iterations}")
            quality = _coupled(form, method, plan) if method.role == "released" else _quality(form, method, plan)
            qualities[_alike(method)] = quality
            if isinstance(quality, Quality):
                n = len(quality.cost)
                best = torch.cat([torch.minimum(best[:n], quality.cost), best[n:]])
    rows = []
    for batch in plan.batches:
        group = time_group(form, batch, chosen, plan, floor, say)
        for row, method in zip(group, chosen, strict=True):
            if "left out" not in row.note:
                _enter(row, qualities.get(_alike(method)), best)
            if batch == 1 and row.role != "mppi":
                row.floor_ratio = row.gradient_ms / floor.ms
        show(group)
        rows += group
    return rows, floor, step


def _best(form: Form, plan: Plan) -> Tensor:
    """Costs (samples,) of the best ends of many starts. A few samples at a time: those that are done wait for few."""
    options = SolverOptions("qn", plan.best_iterations, starts=plan.starts, adjoint="none")
    parts = []
    for first in range(0, plan.samples, 8):
        problem, start = form.problem(slice(first, min(first + 8, plan.samples)))
        parts.append(judge(problem, solve(problem, start, options).actions))
    return torch.cat(parts)


def _alike(method: Method) -> Method:
    """The method whose forward result this one shares: adjoint and compilation change no plan beyond rounding."""
    return replace(method, label="", adjoint="none", mode="eager")


def judge(problem: Problem, actions: Tensor) -> Tensor:
    """The cost (n,) of plans, evaluated here and not as the solver reports it; a plan out of the box is an error."""
    if bool(((actions < problem.lower) | (actions > problem.upper)).any()):
        raise RuntimeError("a solver returned actions out of the box")
    with torch.no_grad():
        return problem.cost(actions)


def _quality(form: Form, method: Method, plan: Plan) -> Quality | str:
    """Solve the first samples, fewer of them where each costs much; or the sentence why it cannot.

    The paper's form ends where its closed form does (a test of the solvers), which can be run for all samples.
    """
    notes = []
    if method.role in ("paper", "tuned"):
        method, notes = closed_form(method), ["gap from the closed form"]
    options = method.options(deadline_ms=1e3 * plan.limit_s)
    try:
        count = plan.samples
        if table.SOLVER_TABLE[method.solver].stepper is None:  # a batch costs about as much as its samples one by one
            problem, start = form.problem(slice(0, 1))
            solve(problem, start, replace(options, iterations=1))  # imports and warm-up
            one = timed(lambda: solve(problem, start, options), plan.device)
            count = max(2, min(plan.samples, int(plan.limit_s / one)))
        problem, start = form.problem(slice(0, count))
        solution = solve(problem, start, method.options(deadline_ms=6e3 * plan.limit_s))
    except UserError as error:
        return str(error)
    notes += [f"gap of {count} samples"] if count < plan.samples else []
    if int(Status.DEADLINE) in solution.status.tolist():
        notes.append(f"gap after {int(solution.iterations.max())} of {method.iterations} iterations")
    gradients = solution.gradients.double().mean().item()
    return Quality(judge(problem, solution.actions), _statuses(solution), gradients, notes)


def _coupled(form: Form, method: Method, plan: Plan) -> Quality:
    """The released code couples the whole batch, so its gap is that of all samples at once, from the closed form."""
    problem, start = form.problem(slice(0, min(SAMPLES, max(plan.batches))))
    ends = {}
    for step in (method.settings.step, *STEPS):
        settings = replace(method.settings, step=step)
        actions = coupled_closed_form(problem, start, method.iterations, settings)
        ends[step] = judge(problem, actions)[: plan.samples]
    published = ends[method.settings.step]
    best = min(ends, key=lambda step: ends[step].mean().item())
    lower = (published.mean() - ends[best].mean()).item()
    notes = ["gap from the closed form"]
    if lower > 0:
        notes.append(f"lower by {lower:.1e} with its best step, {best:g}")
    return Quality(published, "", method.iterations + 1.0, notes)


def _statuses(solution: Solution) -> str:
    counts = Counter(solution.statuses())
    return ", ".join(f"{round(100 * n / len(solution.status))} % {s.name.lower()}" for s, n in sorted(counts.items()))


def _enter(row: Row, quality: Quality | str | None, best: Tensor) -> None:
    if not isinstance(quality, Quality):
        return
    row.cost, row.gradients, row.statuses = quality.cost.mean().item(), quality.gradients, quality.statuses
    row.gap = (quality.cost - best[: len(quality.cost)]).double().mean().item()
    for note in quality.notes:
        row.say(note)
