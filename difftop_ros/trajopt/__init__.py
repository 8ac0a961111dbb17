"""Differentiable trajectory optimisation on torch alone: problems, solvers, adjoints. No ROS, no networks here."""

from difftop_ros.trajopt.derivatives import mean_curvature
from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.multistart import shift
from difftop_ros.trajopt.objectives import ActionChunk, LatentRollout, Tracking
from difftop_ros.trajopt.options import SolverOptions, Status
from difftop_ros.trajopt.prepare import PreparedSolver, prepare
from difftop_ros.trajopt.problem import Problem, Term
from difftop_ros.trajopt.solution import Solution
from difftop_ros.trajopt.solve import solve
from difftop_ros.trajopt.solvers import Solver
from difftop_ros.trajopt.solvers.ilqr import IlqrSettings
from difftop_ros.trajopt.solvers.mppi import MppiSettings
from difftop_ros.trajopt.solvers.newton import NewtonSettings
from difftop_ros.trajopt.solvers.polyak import PolyakSettings
from difftop_ros.trajopt.solvers.qn import QnSettings
from difftop_ros.trajopt.solvers.spg import SpgSettings
from difftop_ros.trajopt.solvers.theseus import TheseusSettings

__all__ = [
    "ActionChunk",
    "IlqrSettings",
    "LatentRollout",
    "MppiSettings",
    "NewtonSettings",
    "PolyakSettings",
    "PreparedSolver",
    "Problem",
    "QnSettings",
    "Solution",
    "Solver",
    "SolverOptions",
    "SpgSettings",
    "Status",
    "Term",
    "TheseusSettings",
    "Tracking",
    "TrajoptError",
    "mean_curvature",
    "prepare",
    "shift",
    "solve",
]
