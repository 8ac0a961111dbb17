"""Spectral projected gradient: Barzilai-Borwein step lengths, accepted against the worst of the last few costs.

After Birgin, Martinez and Raydan, "Nonmonotone spectral projected gradient methods on convex sets", SIAM J. Optim. 10
(2000), one value and gradient per iteration. Cheap steps without a model of the curvature; `qn` needs fewer of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.options import SolverOptions, positive
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, finite_samples, largest, projected_gradient, rows
from difftop_ros.trajopt.stepping import Stepper, evaluate, into_box, is_better_end, solution_of_best

SUFFICIENT = 1e-4  # Armijo: the share of the predicted decrease a step must achieve
FIRST_STEP = 0.3  # root mean square length of the first trial step, in a box of half-width 1
SMALLEST = 1e-7  # below this share of the full step no decrease is expected any more
LONGER = 4.0  # growth of the spectral length where the curvature along the step is not positive


@dataclass(frozen=True)
class SpgSettings:
    """step_cap: the largest change of an action in one step, in the action's own unit.

    memory: a step is taken if it is better than the worst of so many last costs; 1 makes every step go down.
    """

    step_cap: float = 0.8
    memory: int = 5

    def __post_init__(self) -> None:
        positive(self, "step_cap")
        if self.memory < 1:
            raise TrajoptError(f"memory of SpgSettings is {self.memory}; expected 1 or more")


class SpgState(NamedTuple):
    """The current point and the best so far; `spectral` the Barzilai-Borwein length of the gradient, `share` of that

    step to try next, `recent` (B, memory) the last accepted costs. Actions and gradients (B, H, A), the rest (B,).
    """

    actions: Tensor
    value: Tensor
    gradient: Tensor
    best_actions: Tensor
    best_value: Tensor
    best_gradient: Tensor
    spectral: Tensor
    share: Tensor
    recent: Tensor
    done: Tensor
    finite: Tensor
    iterations: Tensor
    initial_cost: Tensor


def start_spg(problem: Problem, initial: Tensor, options: SolverOptions, graph: bool = False) -> SpgState:
    """The state at `initial` (B, H, A), clamped into the box. A sample that is not finite there is done at once."""
    settings = options.settings or SpgSettings()
    actions = into_box(problem, initial)
    value, gradient = evaluate(problem, actions, actions, graph)
    finite = finite_samples(value, gradient)
    gradient = torch.where(rows(finite, gradient), gradient, 0.0)
    flat = gradient.flatten(1)
    size = torch.linalg.vecdot(flat, flat).clamp_min(1e-24).sqrt()
    return SpgState(
        actions=actions,
        value=value,
        gradient=gradient,
        best_actions=actions,
        best_value=value,
        best_gradient=gradient,
        spectral=FIRST_STEP * flat.shape[1] ** 0.5 / size,
        share=torch.ones_like(value),
        recent=value.detach()[:, None].expand(-1, settings.memory).clone(),
        done=~finite | (largest(projected_gradient(problem, actions, gradient)) <= options.tolerance),
        finite=finite,
        iterations=torch.zeros_like(value, dtype=torch.long),
        initial_cost=value,
    )


def step_spg(problem: Problem, state: SpgState, options: SolverOptions, graph: bool = False) -> SpgState:
    """One trial step along the projected gradient: taken, or a shorter share of it tried in the next iteration."""
    settings = options.settings or SpgSettings()
    end = into_box(problem, state.actions - rows(state.spectral, state.gradient) * state.gradient)
    whole = end - state.actions
    cap = settings.step_cap / whole.abs().flatten(1).amax(1).clamp_min(settings.step_cap)
    direction = rows(cap, whole) * whole
    slope = torch.linalg.vecdot(direction.flatten(1), state.gradient.flatten(1))
    trial = into_box(problem, state.actions + rows(state.share, direction) * direction)
    # a + (bound - a) may miss the bound by a rounding, and would count as free
    trial = torch.where(rows(cap * state.share >= 1, trial), end, trial)
    value, gradient = evaluate(problem, trial, state.actions, graph)
    good = finite_samples(value, gradient) & ~state.done
    worst = state.recent.amax(1)
    accept = good & (slope < 0) & (value <= worst + SUFFICIENT * state.share * slope)
    pick = rows(accept, trial)
    gradient = torch.where(pick, gradient, state.gradient)
    actions, value = torch.where(pick, trial, state.actions), torch.where(accept, value, state.value)
    converged = largest(projected_gradient(problem, actions, gradient)) <= options.tolerance
    better = accept & is_better_end(value, converged, state.best_value, state.initial_cost)
    pick = rows(better, trial)
    shorter = torch.where(state.done, state.share, 0.3 * state.share)
    share = torch.where(accept, 1.0, shorter)
    latest = torch.cat([state.recent[:, 1:], value.detach()[:, None]], dim=1)
    return SpgState(
        actions=actions,
        value=value,
        gradient=gradient,
        best_actions=torch.where(pick, trial, state.best_actions),
        best_value=torch.where(better, value, state.best_value),
        best_gradient=torch.where(pick, gradient, state.best_gradient),
        spectral=_spectral(state, actions, gradient, accept),
        share=share,
        recent=torch.where(accept[:, None], latest, state.recent),
        done=state.done | converged | (share < SMALLEST),
        finite=state.finite,
        iterations=state.iterations + (~state.done).long(),
        initial_cost=state.initial_cost,
    )


SPG = Stepper(start_spg, step_spg, solution_of_best)


def solve_spg(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Minimise from `initial` (B, H, A); the best point seen is returned, which never costs more than the start."""
    return SPG.run(problem, initial, options)


def _spectral(state: SpgState, actions: Tensor, gradient: Tensor, accept: Tensor) -> Tensor:
    """The next length, (B,): s's / s'y and s'y / y'y by turns, longer where the curvature s'y is not positive."""
    moved, change = (actions - state.actions).flatten(1), (gradient - state.gradient).flatten(1)
    square = torch.linalg.vecdot(moved, moved)
    curvature = torch.linalg.vecdot(moved, change)
    bent = torch.linalg.vecdot(change, change)
    convex = accept & (curvature > 1e-12 * square) & (bent > 0)
    long_step = square / torch.where(convex, curvature, 1.0)
    short_step = curvature / torch.where(convex, bent, 1.0)
    spectral = torch.where(state.iterations % 2 == 0, short_step, long_step)
    return torch.where(convex, spectral, torch.where(accept, LONGER * state.spectral, state.spectral))
