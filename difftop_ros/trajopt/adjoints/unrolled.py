"""The unrolled and the truncated adjoint: differentiate through the solver's iterations, all of them or the last ones.

Both are the exact derivative of what the iterations computed, of which the truncated one takes the state before its
iterations as given (as the published code does with 5). Memory and time of the backward pass grow with the iterations;
away from convergence the gradient is that of a finite number of steps and not of the optimum.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from difftop_ros.trajopt.adjoints.once import Once
from difftop_ros.trajopt.options import SolverOptions
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, Stopwatch, rows
from difftop_ros.trajopt.stepping import Stepper, iterate


def solve_unrolled(stepper: Stepper, problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Solve from `initial` (B, H, A) with actions whose graph goes through the iterations.

    A sample that is not finite at its start gets zero gradient: another sample's problem is solved in its place and the
    result thrown away, so it cannot spread, and the others see a batch of the same size as without it.
    """
    plain = stepper.start(problem.detached(), initial.detach(), options, False)
    good = plain.finite
    if not bool(good.any()):
        return stepper.run(problem.detached(), initial, options)
    if bool(good.all()):
        return _detached(_solve(stepper, problem, initial, options))
    own = torch.arange(len(good), device=good.device)
    stand_in = torch.where(good, own, good.to(torch.uint8).argmax())
    solution = _detached(_solve(stepper, problem.select(stand_in), initial[stand_in], options))
    bad = stepper.solution(problem.detached(), plain, options, False)
    merged = {name: torch.where(rows(good, found), found, getattr(bad, name)) for name, found in vars(solution).items()}
    return Solution(**merged)


def _detached(solution: Solution) -> Solution:
    """Only the actions keep their graph, behind the node that explains a second backward pass."""
    plain = {name: tensor.detach() for name, tensor in vars(solution).items()}
    actions = Once.apply(solution.actions) if solution.actions.requires_grad else solution.actions
    return Solution(**{**plain, "actions": actions})


def _solve(stepper: Stepper, problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    watch = Stopwatch(options, initial.device)
    if options.adjoint == "unrolled":
        state, deadline = iterate(
            lambda: stepper.start(problem, initial, options, True),
            lambda state: stepper.step(problem, state, options, True),
            options,
            watch,
        )
        return stepper.solution(problem, state, options, deadline)
    frozen = problem.detached()
    before: deque[Any] = deque(maxlen=options.truncate)
    anchor: Any = None  # per sample the state so many of its own iterations before its last

    def step(state: Any) -> Any:
        nonlocal anchor
        before.append(state)
        anchor = before[0] if anchor is None else _pick(~state.done, before[0], anchor)
        return stepper.step(frozen, state, options, False)

    final, deadline = iterate(lambda: stepper.start(frozen, initial, options, False), step, options, watch)
    state = _resume(stepper, problem, final if anchor is None else anchor, options)
    for _ in range(len(before)):
        state = stepper.step(problem, state, options, True)
    ended = stepper.solution(frozen, final, options, deadline)
    return replace(ended, actions=stepper.solution(problem, state, options, deadline).actions)


def _resume(stepper: Stepper, problem: Problem, anchor: Any, options: SolverOptions) -> Any:
    """The state `anchor` with its cost and gradient on the graph; where it is the very start, all of that state."""
    fresh = stepper.start(problem, anchor.actions, options, True)
    state = _pick(anchor.iterations == 0, fresh, anchor)
    return state._replace(actions=anchor.actions, value=fresh.value, gradient=fresh.gradient)


def _pick(mask: Tensor, first: Any, second: Any) -> Any:
    """The state of `first` in the samples where `mask` (B,), else that of `second`."""
    return type(first)(*(torch.where(rows(mask, one), one, two) for one, two in zip(first, second)))
