"""What is measured: each method with its iterations, settings, adjoint, and why it is left out where it is.

Rows are driven by the solvers that are registered; nothing is timed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.solvers.nets import SAMPLES, Form
from difftop_ros.trajopt import (
    PolyakSettings,
    PreparedSolver,
    Problem,
    QnSettings,
    Solution,
    SolverOptions,
    prepare,
    solve,
)
from difftop_ros.trajopt import solvers as table

STEPS = (1e-6, 1e-5, 1e-4, 1e-3, 5e-3, 1e-2)  # step sizes among which the paper's form gets its best
PUBLISHED_STEP = 1e-4
MOST = 20  # iterations of qn
MOST_COUPLED = 16_000  # variables of one dense normal matrix (1 GB) above which the released code's form is not run


@dataclass(frozen=True)
class Method:
    """One row of the table per form and batch.

    label: shown; solver: its name in SOLVER_TABLE; mode: eager, compiled or graph; role: what the expectations look
    for ('paper': the paper's form per sample with its published step; 'tuned': with the step that suits the form best;
    'released': one residual for the whole batch, as published; 'mppi'). Several starts spread over the whole box.
    """

    label: str
    solver: str
    iterations: int
    mode: str = "eager"
    adjoint: str = "implicit"
    role: str = ""
    settings: Any = None
    kinds: tuple[str, ...] = ("rl", "il")
    starts: int = 1

    def options(self, adjoint: bool = False, deadline_ms: float | None = None) -> SolverOptions:
        """The solve's options; without `adjoint` plain numbers come back."""
        return SolverOptions(
            method=self.solver,
            iterations=self.iterations,
            adjoint=self.adjoint if adjoint else "none",
            deadline_ms=deadline_ms,
            settings=self.settings,
            starts=self.starts,
            start_spread=1.0,
            tolerance=1e-12 if self.solver == "theseus" else 1e-5,  # the published code runs all its iterations
        )

    def why_not(self, form: Form, batch: int, device: str) -> str:
        """Why this row is left out, or ''."""
        if self.solver not in table.SOLVER_TABLE:
            return f"the solver {self.solver!r} is not registered"
        if form.size.kind not in self.kinds:
            return "needs the rollout form"
        if self.mode == "graph" and device != "cuda":
            return "CUDA graphs need a GPU"
        if self.role == "released" and batch == 1:
            return "at batch 1 the same as theseus per sample"
        if self.role == "released" and batch * form.variables > MOST_COUPLED:
            size = (batch * form.variables) ** 2 * 4 / 1e9
            return f"one dense matrix of {batch * form.variables} variables is {size:.1f} GB, several are needed"
        return ""


def methods(
    quick: bool, step: float, only: tuple[str, ...] | None = None, curvature: Tensor | None = None
) -> list[Method]:
    """All rows; `step` is the step size of the paper's form that suits the form best."""
    paper_iterations = 10 if quick else 100
    counts = (5, 10) if quick else (5, 8, 10, 13, MOST)
    rows = [Method("qn", "qn", n) for n in counts]
    rows += [Method("qn", "qn", 10, adjoint="unrolled"), Method("qn", "qn", 10, adjoint="truncated")]
    rows.append(Method("qn, 8 starts", "qn", 10, starts=8))
    if not quick:
        rows[len(counts) : len(counts)] = [Method("qn, 2 starts", "qn", n, starts=2) for n in (10, MOST)]
        rows += [Method("qn compiled, 2 starts", "qn", n, mode="compiled", starts=2) for n in (10, MOST)]
        rows += [Method("qn compiled", "qn", n, mode="compiled") for n in counts]
        rows += [Method("qn graph", "qn", n, mode="graph") for n in counts]
    if curvature is not None:  # the mean over other problems of the form, reckoned once per net and not timed
        known, few = QnSettings(curvature=curvature), (3,) if quick else (2, 3, 4, 6)
        modes = ("eager",) if quick else ("eager", "compiled", "graph")
        labels = {"eager": "qn", "compiled": "qn compiled", "graph": "qn graph"}
        rows += [
            Method(f"{labels[mode]}, known curvature", "qn", n, mode, settings=known) for mode in modes for n in few
        ]
    rows += [Method("spg", "spg", n) for n in ((10,) if quick else (10, 20))]
    rows += [
        Method("newton", "newton", 2 if quick else 5),
        Method("ilqr", "ilqr", 2 if quick else 5, kinds=("rl",)),
        Method("polyak", "polyak", paper_iterations, settings=PolyakSettings(step=PUBLISHED_STEP)),
    ]
    if step != PUBLISHED_STEP:
        name = f"polyak, step {step:g}"
        rows.append(Method(name, "polyak", paper_iterations, settings=PolyakSettings(step=step)))
    rows += _optional(quick, step, paper_iterations)
    return [row for row in rows if only is None or row.solver in only]


def _optional(quick: bool, step: float, paper_iterations: int) -> list[Method]:
    """Rows of solvers whose settings exist only where the solver does."""
    rows = [Method("theseus", "theseus", paper_iterations), Method("mppi", "mppi", 6)]
    theseus = getattr(table.SOLVER_TABLE.get("theseus"), "settings", None)
    if theseus is not None:
        paper, tuned = (theseus(form="scalar", step=size) for size in (PUBLISHED_STEP, step))
        released = replace(paper, coupled=True)
        rows[:1] = [Method("theseus, paper's form", "theseus", paper_iterations, "eager", "truncated", "paper", paper)]
        if step != PUBLISHED_STEP:
            name = f"theseus, paper's form, step {step:g}"
            rows.insert(1, Method(name, "theseus", paper_iterations, "eager", "truncated", "tuned", tuned))
        name = "theseus, released code"
        rows.insert(-1, Method(name, "theseus", paper_iterations, "eager", "truncated", "released", released))
    mppi = getattr(table.SOLVER_TABLE.get("mppi"), "settings", None)
    if mppi is not None:
        samples = 64 if quick else 512
        settings = mppi(samples=samples, elites=samples // 8)
        rows[-1] = Method(f"mppi {samples}", "mppi", 6, adjoint="none", role="mppi", settings=settings)
    return rows


class Solvers:
    """Makes what solves problems of one form and batch; what was compiled or captured serves every iteration count."""

    def __init__(self, form: Form, batch: int) -> None:
        self.form, self.batch = form, batch
        self._prepared: dict[Method, PreparedSolver] = {}

    def __call__(self, method: Method, options: SolverOptions) -> Callable[[Problem, Tensor], Solution]:
        """(problem, start) -> Solution by this method: eager, compiled, or as captured CUDA graphs."""
        if method.role in ("paper", "tuned") and options.adjoint == "truncated":
            return _published_backward(options)
        if method.mode == "eager":
            return lambda problem, start: solve(problem, start, options)
        problem, start = self.form.problem(torch.arange(self.batch) % SAMPLES)
        backend = "cuda_graph" if method.mode == "graph" else "compile+cuda_graph" if start.is_cuda else "compile"
        # prepared for the most, called for fewer; where the iterations' memory is rows of the model, for just as many
        key = replace(method, iterations=MOST) if method.settings is None else method
        if key not in self._prepared:
            self._prepared[key] = prepare(problem, start, key.options(adjoint=True), backend)
        prepared = self._prepared[key]

        def run(problem: Problem, start: Tensor) -> Solution:
            prepared.options = options
            return prepared(problem.context, start, problem.reference)

        return run


def _published_backward(options: SolverOptions) -> Callable[[Problem, Tensor], Solution]:
    """The paper's truncated backward: theseus without a graph but for the last iterations, which are differentiated.

    Those run in closed form (the same steps, tested elsewhere), which is cheaper than theseus's own: to its favour.
    """
    before = replace(options, iterations=options.iterations - options.truncate, adjoint="none")
    last = SolverOptions("polyak", options.truncate, adjoint="unrolled", settings=_closed_settings(options.settings))
    return lambda problem, start: solve(problem, solve(problem, start, before).actions, last)


def _closed_settings(scalar: Any) -> PolyakSettings:
    return PolyakSettings(step=scalar.share, damping=scalar.damping, offset=scalar.offset)


def closed_form(method: Method) -> Method:
    """The paper's form (theseus, one residual per sample) as `polyak`, which makes the same steps."""
    return replace(method, solver="polyak", settings=_closed_settings(method.settings))


def best_step(problem: Problem, start: Tensor, iterations: int) -> float:
    """The step size of STEPS with which the paper's form, in closed form, ends at the least mean cost."""
    ends = {}
    for step in STEPS:
        options = SolverOptions("polyak", iterations, adjoint="none", settings=PolyakSettings(step=step))
        ends[step] = solve(problem, start, options).final_cost.mean().item()
    return min(ends, key=lambda step: ends[step])


def coupled_closed_form(problem: Problem, start: Tensor, iterations: int, settings: Any) -> Tensor:
    """Where the released code's form ends, without its Cholesky: actions (B, H, A).

    One residual r = offset + mean(J) for the batch, so g_b = (dJ_b/da_b) / B and every sample is moved by
    -step r g_b / (sum of all ||g||^2 + damping). Each sample's best iterate is kept, as in the solver.
    """
    actions = problem.clamp(start)
    best, least = actions, torch.full_like(start[:, 0, 0], torch.inf)
    for index in range(iterations + 1):
        value, gradient = problem.value_and_gradient(actions)
        better = value < least
        least = torch.where(better, value, least)
        best = torch.where(better[:, None, None], actions, best)
        if index < iterations:
            mean = gradient / len(actions)
            weight = settings.share * (settings.offset + value.mean()) / (mean.square().sum() + settings.damping)
            actions = problem.clamp(actions - weight * mean)
    return best
