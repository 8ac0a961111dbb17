"""What a solve is asked to do, and what it says about its end. No algorithm lives here."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.table import Solver, find_solver

ADJOINTS = ("implicit", "unrolled", "truncated", "none")


class Status(enum.IntEnum):
    """Why a sample's solve ended; `sentence` says what it means and what to try."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    NO_DECREASE = 2
    DEADLINE = 3
    NONFINITE = 4

    @property
    def sentence(self) -> str:
        """One sentence for a user."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "The projected gradient is below the tolerance.",
    Status.MAX_ITERATIONS: "The iteration limit was reached while the cost still fell; the plan is usable, and more "
    "iterations or a warm start would lower its cost.",
    Status.NO_DECREASE: "No step lowers the cost any more although the gradient is not small; the cost has a kink or "
    "the precision is exhausted: use a smooth activation, a larger proximal weight or float64.",
    Status.DEADLINE: "The time budget ran out; the plan is the best found so far: raise the deadline or use fewer "
    "points, a smaller horizon or a faster device.",
    Status.NONFINITE: "The cost or its gradient is not finite at the starting point, so the sample was left there and "
    "gets no gradient; look for NaN in the observation or diverged weights.",
}


@dataclass(frozen=True)
class SolverOptions:
    """How to solve, and how to differentiate. `tolerance` bounds the projected gradient's largest entry.

    method: a name in solvers.SOLVER_TABLE, or a Solver. `qn`, the default, suits any smooth return.
    iterations, deadline_ms: budgets; the first one spent ends the solve. The deadline [ms of wall time] is met within
        one gradient evaluation.
    starts: starts per problem; the best end is returned. Start 0 is the given one, the others are it plus normal noise
        of `start_spread` half-widths of the box (the same noise for every sample, from `seed`).
    adjoint: 'implicit' makes the returned actions differentiable through the optimality condition, 'unrolled' through
        all iterations, 'truncated' through the last `truncate` of them; 'none' returns plain numbers.
    dense_limit: up to this many variables the implicit adjoint factors the Hessian, above it `cg_iterations`
        conjugate-gradient steps run.
    curvature_floor: smallest Hessian eigenvalue the adjoint trusts; below it, its absolute value is taken, at least
        the floor.
    settings: what one solver alone needs, e.g. PolyakSettings(step=...); None for its defaults.
    """

    method: str | Solver = "qn"
    iterations: int = 10
    tolerance: float = 1e-5
    deadline_ms: float | None = None
    starts: int = 1
    start_spread: float = 0.5
    seed: int = 0
    adjoint: str = "implicit"
    truncate: int = 5
    dense_limit: int = 32
    cg_iterations: int = 8
    curvature_floor: float = 1e-3
    settings: Any = None

    def __post_init__(self) -> None:
        find_solver(self.method)
        if self.adjoint not in ADJOINTS:
            raise TrajoptError(f"adjoint is {self.adjoint!r}; expected one of {list(ADJOINTS)}")
        at_least = {"iterations": 0, "starts": 1, "truncate": 1, "dense_limit": 0, "cg_iterations": 1}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise TrajoptError(f"{name} is {getattr(self, name)}; expected {least} or more")
        for name in ("tolerance", "curvature_floor", "start_spread"):
            if not getattr(self, name) > 0:
                raise TrajoptError(f"{name} is {getattr(self, name)}; expected a number above 0")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise TrajoptError(f"deadline_ms is {self.deadline_ms}; expected a number above 0, or None for no deadline")


def positive(settings: object, *names: str) -> None:
    """Raise TrajoptError unless the named fields of a solver's settings are above 0."""
    for name in names:
        if not getattr(settings, name) > 0:
            raise TrajoptError(
                f"{name} of {type(settings).__name__} is {getattr(settings, name)}; expected a number above 0"
            )
