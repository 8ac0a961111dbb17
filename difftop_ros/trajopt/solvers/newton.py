"""Newton's method: exact Hessian, box-QP steps, several dampings at once. For small or quadratic problems.

A box-LQR ends in one or two iterations. The Hessian of n = H A variables costs n products, so larger ones are for `qn`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from difftop_ros.trajopt.boxqp import convexified, solve_boxqp
from difftop_ros.trajopt.derivatives import hessian, jacobian
from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.objectives import Tracking
from difftop_ros.trajopt.options import SolverOptions, positive
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, active, largest, rows
from difftop_ros.trajopt.solvers.second_order import Proposal, cheapest, descend

FLOOR = {torch.float64: 1e-9, torch.float32: 1e-6}  # smallest eigenvalue kept, the largest entry of Hessian being 1
SPREAD = 10.0  # ratio of neighbouring dampings
LEAST = 1e-6  # smallest damping


@dataclass(frozen=True)
class NewtonSettings:
    """damping: Levenberg-Marquardt damping of the first iteration, relative to the largest entry of the Hessian.

    trials: dampings tried at once: none, d, 10 d, ...; the trial of lowest cost is taken.
    gauss_newton: J'J in place of the exact Hessian; the objective must be a Tracking form then.
    max_variables: above this many (horizon x joints) a solve is refused, for its Hessian would be too large.
    """

    damping: float = 1e-2
    trials: int = 4
    gauss_newton: bool = False
    max_variables: int = 512

    def __post_init__(self) -> None:
        positive(self, "damping", "max_variables")
        if self.trials < 2:
            raise TrajoptError(f"trials of NewtonSettings is {self.trials}; expected 2 or more")


def solve_newton(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Minimise from `initial` (B, H, A); see `descend`.

    The deadline is met within one block of Hessian products (2048 products, or one per sample of a larger batch).
    Raises TrajoptError for too many variables, or Gauss-Newton without a Tracking form.
    """
    settings = options.settings or NewtonSettings()
    _check(problem, initial, settings)
    second: Tensor | None = None

    def propose(
        actions: Tensor, gradient: Tensor, damping: Tensor, moved: bool, go_on: Callable[[], bool]
    ) -> Proposal | None:
        nonlocal second
        if moved:
            second = _second(problem, actions, settings, go_on)
        return None if second is None else _proposal(problem, actions, gradient, second, damping, settings)

    return descend(problem, initial, options, settings.damping, propose)


def _check(problem: Problem, initial: Tensor, settings: NewtonSettings) -> None:
    n = initial[0].numel()
    if n > settings.max_variables:
        raise TrajoptError(
            f"the problem has {n} variables per sample and 'newton' takes {settings.max_variables}; use 'qn', or raise "
            "max_variables of NewtonSettings"
        )
    if settings.gauss_newton and not isinstance(problem.objective, Tracking):
        raise TrajoptError(
            f"gauss_newton needs an objective of the form Tracking, got {type(problem.objective).__name__}; state the "
            "residuals, or leave gauss_newton off"
        )
    if settings.gauss_newton:
        problem.refuse_terms("gauss_newton")


def _second(problem: Problem, actions: Tensor, settings: NewtonSettings, go_on: Callable[[], bool]) -> Tensor | None:
    """The Hessian, or J'J + rho I, (B, n, n)."""
    if not settings.gauss_newton:
        return hessian(problem, actions, go_on)[2]
    assert isinstance(problem.objective, Tracking)
    with torch.enable_grad():
        leaf = actions.detach().requires_grad_()
        found = jacobian(problem.objective.vector(leaf, *problem.context), leaf, go_on=go_on)
    if found is None:
        return None
    eye = torch.eye(found.shape[2], dtype=found.dtype, device=found.device)
    return found.transpose(1, 2) @ found + problem.proximal * eye


def _proposal(
    problem: Problem, actions: Tensor, gradient: Tensor, second: Tensor, damping: Tensor, settings: NewtonSettings
) -> Proposal:
    """The trial (B, H, A) of lowest cost over the dampings.

    Hessian and gradient are divided by their largest entry, so that costs of any scale are solved alike.
    """
    batch, n, kinds = len(actions), second.shape[1], settings.trials
    low, high = (problem.lower - actions).flatten(1), (problem.upper - actions).flatten(1)
    g = gradient.flatten(1)
    usable = torch.isfinite(second).flatten(1).all(1)
    eye = torch.eye(n, dtype=g.dtype, device=g.device)
    second = torch.where(rows(usable, second), second, eye * largest(g).view(-1, 1, 1))
    scale = torch.maximum(largest(second), largest(g)).clamp_min(torch.finfo(g.dtype).tiny)
    second, g = second / scale.view(-1, 1, 1), g / scale[:, None]
    second, held = convexified(
        second, active(problem, actions, gradient).flatten(1), torch.full_like(scale, FLOOR[g.dtype])
    )
    near, far = (torch.where(held, torch.zeros_like(x), x) for x in (low, high))
    ladder = damping[:, None] * SPREAD ** torch.arange(kinds - 1, dtype=g.dtype, device=g.device)
    ladder = torch.cat([torch.zeros_like(damping)[:, None], ladder], dim=1)
    several = second[:, None] + ladder[:, :, None, None] * eye
    g, near, far = (x.repeat_interleave(kinds, dim=0) for x in (g, near, far))
    step = solve_boxqp(several.flatten(0, 1), g, near, far).x.view(batch, kinds, n)
    trials = _move(problem, actions, step, low, high)
    with torch.no_grad():
        cost = problem.repeat(batch, kinds).cost(trials.flatten(0, 1)).view(batch, kinds)
    best = cheapest(cost, actions, gradient)
    index = torch.arange(batch, device=best.device)
    used = ladder[index, best]
    # the next dampings start below the one that served; none of them serving, they go on above the largest
    easier = (torch.where(used > 0, used, damping) / SPREAD).clamp_min(LEAST)
    return Proposal(trials[index, best], easier, damping * SPREAD ** (kinds - 1))


def _move(problem: Problem, actions: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """actions (B, H, A) + step (B, K, n), (B, K, H, A); a step to a bound ends exactly there, rounding aside."""
    shape = (len(actions), step.shape[1], *actions.shape[1:])
    base = actions[:, None].expand(shape)
    lower, upper = (bound.expand_as(actions)[:, None].expand(shape) for bound in (problem.lower, problem.upper))
    trial = torch.maximum(torch.minimum(base + step.view(shape), upper), lower)
    at_low = ((step <= low[:, None]) & (low < 0)[:, None]).view(shape)
    at_high = ((step >= high[:, None]) & (high > 0)[:, None]).view(shape)
    return torch.where(at_low, lower, torch.where(at_high, upper, trial))
