"""Solves on the device, plain and made ready, with and without a term that was never trained, beside the CPU's."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.solvers.measure import timed
from benchmarks.solvers.nets import Form, load_forms
from difftop_ros.trajopt import Problem, Solution, SolverOptions, solve
from difftop_ros.trajopt import prepare as prepare_solver

NETS = Path("runs/solvers")
OPTIONS = SolverOptions(iterations=10, tolerance=1e-9, adjoint="none")
WORST_GAP = 1e-2  # of a cost on the device against the CPU's, as a share of what the solve gains
REPEATS = 30


def calm(actions: Tensor, weights: Tensor) -> Tensor:
    """A term: changes from step to step, weighted per sample; (B, H, A), (B,) -> (B,)."""
    return weights * actions.diff(dim=1).square().sum((1, 2))


def table(device: str, quick: bool) -> str:
    """Markdown. Raises SystemExit where the device's costs are not the CPU's."""
    lines = [
        "| form | added term | batch | how | ms p50 | ms worst | gradients | worst cost gap to CPU |",
        "|---" * 8 + "|",
    ]
    ways = ["eager"] if device == "cpu" else ["eager", "cuda_graph", "compile+cuda_graph"]
    for form in load_forms(NETS, ("rl-h5-a6", "il-16x7"), quick):
        for batch in (1, 8) if quick else (1, 4096):
            for added in (False, True):
                problem, start = _problem(form.to("cpu"), batch, added)
                expected = solve(problem, start, OPTIONS)
                there, begin = _problem(form.to(device), batch, added)
                for way in ways:
                    run = _runner(there, begin, way)
                    ms, found = _time(run, device, 3 if quick else REPEATS)
                    gap = _gap(found, expected)
                    if gap > WORST_GAP:
                        raise SystemExit(
                            f"{form.name}, batch {batch}, {way}: costs on {device} are worse than the CPU's by "
                            f"{gap:.3g} of what the solve gains; at most {WORST_GAP} was expected"
                        )
                    lines.append(
                        f"| {form.name} | {'smoothness' if added else '–'} | {batch} | {way} | "
                        f"{statistics.median(ms):.2f} | {max(ms):.2f} | {int(found.gradients.max())} | {gap:.1e} |"
                    )
    return "\n".join(lines)


def _problem(form: Form, batch: int, added: bool) -> tuple[Problem, Tensor]:
    rows = torch.arange(batch) % len(form.context)
    problem, start = form.problem(rows.to(form.context.device))
    if added:
        problem = problem.adding(calm, torch.full((batch,), 0.1, device=start.device))
    return problem, start


def _runner(problem: Problem, start: Tensor, way: str) -> Callable[[], Solution]:
    if way == "eager":
        return lambda: solve(problem, start, OPTIONS)
    ready = prepare_solver(problem, start, OPTIONS, way)
    return lambda: ready(problem.context, start)


def _time(run: Callable[[], Solution], device: str, repeats: int) -> tuple[list[float], Solution]:
    """Milliseconds of each run after three to warm up, and what the last one found."""
    found = [run() for _ in range(3)]
    return [1e3 * timed(lambda: found.append(run()), device) for _ in range(repeats)], found[-1]


def _gap(found: Solution, expected: Solution) -> float:
    """How much higher the mean cost is than the CPU's, as a share of what the CPU's solve gained."""
    gained = (expected.initial_cost - expected.final_cost).mean().clamp(min=1e-6)
    return float((found.final_cost.cpu() - expected.final_cost).mean().clamp(min=0) / gained)
