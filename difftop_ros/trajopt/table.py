"""What a solver is and which there are; each puts itself into SOLVER_TABLE in solvers/__init__.py, the only list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError

if TYPE_CHECKING:
    from difftop_ros.trajopt.options import SolverOptions
    from difftop_ros.trajopt.problem import Problem
    from difftop_ros.trajopt.solution import Solution
    from difftop_ros.trajopt.stepping import Stepper


@dataclass(frozen=True)
class Solver:
    """`run(problem, initial (B, H, A), options)` -> Solution without graph; `settings` the class it takes as options'.

    stepper: the same as equal steps on fixed-shape tensors, which is what can be differentiated through (adjoints
    'unrolled' and 'truncated') and prepared (trajopt.prepare); None if it is not made that way.
    form: the class of objective it takes with its default settings; None if a return with a gradient is enough.
    """

    run: Callable[[Problem, Tensor, SolverOptions], Solution]
    settings: type | None = None
    stepper: Stepper | None = None
    form: type | None = None


SOLVER_TABLE: dict[str, Solver] = {}


@cache
def offered() -> dict[str, Solver]:
    """The solvers by name, with those that other packages offer. Raises TrajoptError for an offer that is none."""
    table = dict(SOLVER_TABLE)
    for point in entry_points(group="difftop_ros.solvers"):
        solver = point.load()
        if not isinstance(solver, Solver):
            raise TrajoptError(f"entry point {point.name!r} of group {point.group!r} is {solver!r}; expected a Solver")
        table.setdefault(point.name, solver)
    return table


def find_solver(method: str | Solver) -> Solver:
    """The solver of SolverOptions.method. Raises TrajoptError naming those there are."""
    if isinstance(method, Solver):
        return method
    if method not in offered():
        raise TrajoptError(f"method is {method!r}; expected one of {list(offered())}, or a Solver")
    return offered()[method]


def steppers() -> list[str]:
    """The solvers that have a stepper, by name."""
    return [name for name, solver in SOLVER_TABLE.items() if solver.stepper is not None]
