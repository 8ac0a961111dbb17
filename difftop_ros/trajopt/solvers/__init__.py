"""The solvers, one file each; `SOLVER_TABLE` says what each one is and what it needs of a problem.

It is the only list of them. A solver from elsewhere is a `Solver` given as SolverOptions.method, or one that a package
offers under a name as an entry point of the group 'difftop_ros.solvers' (examples/my_solver.py).
"""

from __future__ import annotations

from difftop_ros.trajopt.objectives import LatentRollout, Tracking
from difftop_ros.trajopt.solvers.ilqr import IlqrSettings, solve_ilqr
from difftop_ros.trajopt.solvers.mppi import MppiSettings, solve_mppi
from difftop_ros.trajopt.solvers.newton import NewtonSettings, solve_newton
from difftop_ros.trajopt.solvers.polyak import POLYAK, PolyakSettings, solve_polyak
from difftop_ros.trajopt.solvers.qn import QN, QnSettings, solve_qn
from difftop_ros.trajopt.solvers.spg import SPG, SpgSettings, solve_spg
from difftop_ros.trajopt.solvers.theseus import TheseusSettings, solve_theseus
from difftop_ros.trajopt.table import SOLVER_TABLE, Solver, find_solver, offered, steppers

__all__ = ["SOLVER_TABLE", "Solver", "find_solver", "offered", "steppers"]

SOLVER_TABLE |= {
    "qn": Solver(solve_qn, QnSettings, QN),
    "spg": Solver(solve_spg, SpgSettings, SPG),
    "ilqr": Solver(solve_ilqr, IlqrSettings, form=LatentRollout),
    "newton": Solver(solve_newton, NewtonSettings),
    "polyak": Solver(solve_polyak, PolyakSettings, POLYAK),
    "theseus": Solver(solve_theseus, TheseusSettings, form=Tracking),
    "mppi": Solver(solve_mppi, MppiSettings),
}
