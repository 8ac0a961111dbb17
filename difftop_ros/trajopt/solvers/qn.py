"""Damped quasi-Newton with an active set, a batch at once: one value and gradient per iteration.

The loop's state and its step live here; the quadratic model is bfgs.py's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.options import SolverOptions, positive
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import (
    Ended,
    Solution,
    active,
    finish,
    finite_samples,
    largest,
    projected_gradient,
    rows,
)
from difftop_ros.trajopt.solvers.bfgs import (
    Base,
    Model,
    base_of,
    is_dense,
    known_model,
    learn_from,
    minimise_in_box,
    new_model,
)
from difftop_ros.trajopt.stepping import Stepper, evaluate, into_box

SUFFICIENT = 1e-4  # Armijo: the share of the predicted decrease a step must achieve
FIRST_STEP = 0.3  # root mean square length of the first trial step, in a box of half-width 1
SHRINK = 0.25  # step length after a rejected trial
SMALLEST = 1e-4  # below this step length no decrease is expected any more


@dataclass(frozen=True)
class QnSettings:
    """step_cap: the largest change of an action in one step, in the action's own unit.

    curvature: (H A, H A) symmetric and positive definite, what d2J/da2 is about: the quadratic model to start from, in
        place of a scaled identity. That of problems like these, `mean_curvature`, saves a learned chunk cost half of
        its iterations; where curvature differs much from problem to problem it does harm. None where it is not known.
    """

    step_cap: float = 0.8
    curvature: Tensor | None = field(default=None, compare=False)
    base: Base | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        positive(self, "step_cap")
        if self.curvature is None:
            return
        shape = tuple(self.curvature.shape)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise TrajoptError(f"curvature of QnSettings has shape {shape}; expected (n, n) for n = H A variables")
        base = base_of(self.curvature.detach())
        if base is None:
            raise TrajoptError(
                "curvature of QnSettings is not positive definite, or not finite; take mean_curvature, which lifts it"
            )
        object.__setattr__(self, "base", base)


class QnState(NamedTuple):
    """The accepted point with its cost and gradient; `length` of the next step; `norm` of the projected gradient.

    `scale`, `fresh` and `memory` are the Model's. Per sample (B,) but actions, gradient (B, H, A) and memory.
    """

    actions: Tensor
    value: Tensor
    gradient: Tensor
    norm: Tensor
    length: Tensor
    done: Tensor
    finite: Tensor
    iterations: Tensor
    initial_cost: Tensor
    scale: Tensor
    fresh: Tensor
    memory: Tensor


def start_qn(problem: Problem, initial: Tensor, options: SolverOptions, graph: bool = False) -> QnState:
    """The state at `initial` (B, H, A), clamped into the box. A sample that is not finite there is done at once."""
    actions = into_box(problem, initial)
    value, gradient = evaluate(problem, actions, actions, graph)
    finite = finite_samples(value, gradient)
    gradient = torch.where(rows(finite, gradient), gradient, 0.0)
    norm = largest(projected_gradient(problem, actions, gradient))
    n, base = actions[0].numel(), _settings(options).base
    if base is None:
        square = torch.linalg.vecdot(gradient.flatten(1), gradient.flatten(1))
        model = new_model(square.clamp_min(1e-24).sqrt() / (FIRST_STEP * n**0.5), n, options.iterations)
    else:
        known = base.matrix
        if len(known) != n or known.dtype != actions.dtype or known.device != actions.device:
            raise TrajoptError(
                f"curvature of QnSettings is {known.dtype} {tuple(known.shape)} on {known.device}; expected "
                f"{actions.dtype} ({n}, {n}) on {actions.device}, as the actions are"
            )
        model = known_model(base, len(actions), options.iterations)
    return QnState(
        actions=actions,
        value=value,
        gradient=gradient,
        norm=norm,
        length=torch.ones_like(value),
        done=~finite | (norm <= options.tolerance),
        finite=finite,
        iterations=torch.zeros_like(value, dtype=torch.long),
        initial_cost=value,
        scale=model.scale,
        fresh=model.fresh,
        memory=model.memory,
    )


def step_qn(problem: Problem, state: QnState, options: SolverOptions, graph: bool = False) -> QnState:
    """One trial step: taken if the cost falls enough, else shortened; the model learns from it either way."""
    settings = _settings(options)
    dense = settings.base is None and is_dense(state.actions[0].numel(), options.iterations)
    model = Model(state.scale, state.fresh, state.memory, settings.base)
    trial = _trial(problem, state, model, dense, settings)
    value, gradient = evaluate(problem, trial, state.actions, graph)
    good = finite_samples(value, gradient) & ~state.done
    gradient = torch.where(rows(good, gradient), gradient, state.gradient)
    norm = largest(projected_gradient(problem, trial, gradient))
    moved = (trial - state.actions).flatten(1)
    accept = good & _decreases(state, moved, value, norm)
    # a rejected trial still tells the curvature along its step, which is what the next one needs
    learn = good & (moved != 0).any(1)
    model = learn_from(model, moved, (gradient - state.gradient).flatten(1), learn, dense)
    length = torch.where(state.done, state.length, (SHRINK * state.length).masked_fill(accept, 1.0))
    norm = torch.where(accept, norm, state.norm)
    pick = rows(accept, trial)
    return state._replace(
        actions=torch.where(pick, trial, state.actions),
        value=torch.where(accept, value, state.value),
        gradient=torch.where(pick, gradient, state.gradient),
        norm=norm,
        length=length,
        done=state.done | (norm <= options.tolerance) | (length < SMALLEST),
        iterations=state.iterations + (~state.done).long(),
        scale=model.scale,
        fresh=model.fresh,
        memory=model.memory,
    )


def solution_qn(problem: Problem, state: QnState, options: SolverOptions, deadline: bool = False) -> Solution:
    """The state as a result."""
    stuck = state.length < SMALLEST
    iterations = state.iterations
    ended = Ended(state.finite, stuck, iterations, iterations + 1, state.initial_cost, deadline)
    return finish(problem, state.actions, state.value, state.gradient, ended, options)


QN = Stepper(start_qn, step_qn, solution_qn)


def solve_qn(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Minimise from `initial` (B, H, A). The cost never rises; a sample that starts non-finite stays where it is."""
    return QN.run(problem, initial, options)


def _settings(options: SolverOptions) -> QnSettings:
    return options.settings or QnSettings()


def _trial(problem: Problem, state: QnState, model: Model, dense: bool, settings: QnSettings) -> Tensor:
    """The model's minimum inside the box, no coordinate changed by more than the cap; shortened after rejections."""
    actions, gradient = state.actions, state.gradient
    free = (~active(problem, actions, gradient)).flatten(1).to(gradient.dtype)
    low, high = (problem.lower - actions).flatten(1), (problem.upper - actions).flatten(1)
    step = minimise_in_box(model, gradient.flatten(1), free, low, high, dense)
    cap = settings.step_cap / step.abs().amax(1).clamp_min(settings.step_cap)
    step = (state.length * cap)[:, None] * step
    trial = into_box(problem, actions + step.view_as(actions))
    # a + (bound - a) may miss the bound by a rounding, and would count as free
    trial = torch.where((step >= high).view_as(trial), problem.upper, trial)
    return torch.where((step <= low).view_as(trial), problem.lower, trial)


def _decreases(state: QnState, moved: Tensor, value: Tensor, norm: Tensor) -> Tensor:
    """Sufficient decrease; or, where the decrease drowns in rounding, an equal cost and a smaller gradient."""
    predicted = torch.linalg.vecdot(moved, state.gradient.flatten(1))
    armijo = (predicted < 0) & (value <= state.value + SUFFICIENT * predicted)
    rounding = 4 * torch.finfo(value.dtype).eps * state.value.abs()
    level = (predicted.abs() <= 100 * rounding) & (value <= state.value + rounding)
    return armijo | (level & (norm < state.norm))
