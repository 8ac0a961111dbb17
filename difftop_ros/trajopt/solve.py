"""The one entry: check, choose the start, solve by the chosen method, attach the adjoint."""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from torch import Tensor

from difftop_ros.trajopt.adjoints import attach_implicit, solve_unrolled
from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.multistart import better_start, solve_from_several
from difftop_ros.trajopt.options import SolverOptions
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution
from difftop_ros.trajopt.solvers import Solver, find_solver, steppers


def solve(
    problem: Problem, initial: Tensor, options: SolverOptions | None = None, warm_start: Tensor | None = None
) -> Solution:
    """Solve a batch of independent problems from `initial` (B, H, A), clamped into the box first.

    `warm_start` (B, H, A), usually the previous plan shifted in time, is taken instead wherever it costs less. Under
    torch.no_grad, or with adjoint 'none', the actions carry no graph. Raises TrajoptError on unusable input.
    """
    options = options or SolverOptions()
    solver = solver_of(options)
    problem.check(initial)
    frozen = problem.detached()
    start = initial.detach()
    if warm_start is not None:
        problem.check(warm_start)
        start = better_start(frozen, start, warm_start.detach())
    if options.adjoint in ("unrolled", "truncated") and solver.stepper is not None and torch.is_grad_enabled():
        return solve_from_several(partial(solve_unrolled, solver.stepper), problem, start, options)
    solution = solve_from_several(solver.run, frozen, start, options)
    if options.adjoint == "none" or not torch.is_grad_enabled():
        return solution
    return dataclasses.replace(solution, actions=attach_implicit(problem, solution, options))


def solver_of(options: SolverOptions) -> Solver:
    """The solver that the options name; TrajoptError if their settings are another's or their adjoint not possible."""
    solver = find_solver(options.method)
    if options.settings is not None and (solver.settings is None or not isinstance(options.settings, solver.settings)):
        expected = "None" if solver.settings is None else solver.settings.__name__
        raise TrajoptError(
            f"settings of method {options.method!r} are {type(options.settings).__name__}; expected {expected}"
        )
    if options.adjoint in ("unrolled", "truncated") and solver.stepper is None:
        raise TrajoptError(
            f"adjoint {options.adjoint!r} goes through the iterations, which those of {options.method!r} do not allow; "
            f"expected a method of {steppers()}, or adjoint 'implicit'"
        )
    return solver
