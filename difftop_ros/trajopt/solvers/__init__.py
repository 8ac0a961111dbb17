"""The solvers, one file each; `SOLVER_TABLE` says what each one is and what it needs of a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from difftop_ros.trajopt.options import SolverOptions
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution
from difftop_ros.trajopt.solvers.ilqr import IlqrSettings, solve_ilqr
from difftop_ros.trajopt.solvers.mppi import MppiSettings, solve_mppi
from difftop_ros.trajopt.solvers.newton import NewtonSettings, solve_newton
from difftop_ros.trajopt.solvers.polyak import POLYAK, PolyakSettings, solve_polyak
from difftop_ros.trajopt.solvers.qn import QN, QnSettings, solve_qn
from difftop_ros.trajopt.solvers.spg import SPG, SpgSettings, solve_spg
from difftop_ros.trajopt.solvers.theseus import TheseusSettings, solve_theseus
from difftop_ros.trajopt.stepping import Stepper


@dataclass(frozen=True)
class Solver:
    """`run(problem, initial (B, H, A), options)` -> Solution without graph; `settings` the class it takes as options'.

    stepper: the same as equal steps on fixed-shape tensors, which is what can be differentiated through (adjoints
    'unrolled' and 'truncated') and prepared (trajopt.prepare); None if it is not made that way.
    """

    run: Callable[[Problem, Tensor, SolverOptions], Solution]
    settings: type | None = None
    stepper: Stepper | None = None


SOLVER_TABLE: dict[str, Solver] = {
    "qn": Solver(solve_qn, QnSettings, QN),
    "spg": Solver(solve_spg, SpgSettings, SPG),
    "ilqr": Solver(solve_ilqr, IlqrSettings),
    "newton": Solver(solve_newton, NewtonSettings),
    "polyak": Solver(solve_polyak, PolyakSettings, POLYAK),
    "theseus": Solver(solve_theseus, TheseusSettings),
    "mppi": Solver(solve_mppi, MppiSettings),
}


def steppers() -> list[str]:
    """The solvers that have a stepper, by name."""
    return [name for name, solver in SOLVER_TABLE.items() if solver.stepper is not None]
