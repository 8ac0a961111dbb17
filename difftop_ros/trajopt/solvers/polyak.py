"""The published solver's Levenberg-Marquardt step in closed form, per sample.

DiffTOP (arXiv 2402.05421) minimises the single residual r = offset - G with LM; its normal matrix has rank one, so the
step is exactly -step * r * (-dG/da) / (||dG/da||^2 + damping): a Polyak step with a constant offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from difftop_ros.trajopt.options import SolverOptions, positive
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, finite_samples, largest, projected_gradient, rows
from difftop_ros.trajopt.stepping import Stepper, evaluate, into_box, is_better_end, solution_of_best


@dataclass(frozen=True)
class PolyakSettings:
    """The paper's step size, Levenberg-Marquardt damping and constant."""

    step: float = 1e-2
    damping: float = 1e-3
    offset: float = 1000.0

    def __post_init__(self) -> None:
        positive(self, "step", "damping")


class PolyakState(NamedTuple):
    """The current point and the best one so far: actions and gradients (B, H, A), the rest (B,)."""

    actions: Tensor
    value: Tensor
    gradient: Tensor
    best_actions: Tensor
    best_value: Tensor
    best_gradient: Tensor
    done: Tensor
    finite: Tensor
    iterations: Tensor
    initial_cost: Tensor


def start_polyak(problem: Problem, initial: Tensor, options: SolverOptions, graph: bool = False) -> PolyakState:
    """The state at `initial` (B, H, A), clamped into the box."""
    actions = into_box(problem, initial)
    value, gradient = evaluate(problem, actions, actions, graph)
    finite = finite_samples(value, gradient)
    gradient = torch.where(rows(finite, gradient), gradient, 0.0)
    done = ~finite | (largest(projected_gradient(problem, actions, gradient)) <= options.tolerance)
    iterations = torch.zeros_like(value, dtype=torch.long)
    return PolyakState(actions, value, gradient, actions, value, gradient, done, finite, iterations, value)


def step_polyak(problem: Problem, state: PolyakState, options: SolverOptions, graph: bool = False) -> PolyakState:
    """The paper's step, projected on the box, whether or not the cost falls; the best point is kept beside it."""
    settings = options.settings or PolyakSettings()
    flat = state.gradient.flatten(1)
    weight = settings.step * (settings.offset + state.value) / (torch.linalg.vecdot(flat, flat) + settings.damping)
    weight = torch.where(state.done, 0.0, weight)
    trial = into_box(problem, state.actions - rows(weight, state.gradient) * state.gradient)
    value, gradient = evaluate(problem, trial, state.actions, graph)
    good = finite_samples(value, gradient) & ~state.done
    pick = rows(good, trial)
    actions = torch.where(pick, trial, state.actions)
    gradient = torch.where(pick, gradient, state.gradient)
    value = torch.where(good, value, state.value)
    converged = largest(projected_gradient(problem, actions, gradient)) <= options.tolerance
    better = good & is_better_end(value, converged, state.best_value, state.initial_cost)
    pick = rows(better, trial)
    # a non-finite trial would only be tried again: the point has not moved and the step has no length to shorten
    done = state.done | ~good | converged
    return PolyakState(
        actions=actions,
        value=value,
        gradient=gradient,
        best_actions=torch.where(pick, trial, state.best_actions),
        best_value=torch.where(better, value, state.best_value),
        best_gradient=torch.where(pick, gradient, state.best_gradient),
        done=done,
        finite=state.finite,
        iterations=state.iterations + (~state.done).long(),
        initial_cost=state.initial_cost,
    )


POLYAK = Stepper(start_polyak, step_polyak, solution_of_best)


def solve_polyak(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Iterate the paper's step from `initial` (B, H, A), projected on the box; return each sample's best iterate."""
    return POLYAK.run(problem, initial, options)
