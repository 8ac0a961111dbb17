"""Several starts per problem and the best of their ends; warm starts and their shift in time. For every solver."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.options import SolverOptions, Status
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, rows

Run = Callable[[Problem, Tensor, SolverOptions], Solution]


def shift(actions: Tensor, steps: int) -> Tensor:
    """A plan (B, H, A) as it stands `steps` time steps later: the first ones dropped, the last one repeated.

    The usual warm start of the next solve. From H steps on it is the last action throughout. Raises TrajoptError on
    negative steps or another number of dimensions.
    """
    if actions.ndim != 3 or 0 in actions.shape:
        raise TrajoptError(f"actions have shape {tuple(actions.shape)}; expected (batch, horizon, joints), none 0")
    if steps < 0:
        raise TrajoptError(f"steps is {steps}; expected 0 or more time steps to move on by")
    later = torch.arange(actions.shape[1], device=actions.device) + steps
    return actions[:, later.clamp_max(actions.shape[1] - 1)]


def better_start(problem: Problem, initial: Tensor, warm: Tensor) -> Tensor:
    """Per sample the start (B, H, A) that costs less; a warm start loses that is not finite, in itself or its cost."""
    if warm.shape != initial.shape:
        raise TrajoptError(
            f"the warm start has shape {tuple(warm.shape)}; expected {tuple(initial.shape)}, as the start has it"
        )
    with torch.no_grad():
        warm, initial = problem.clamp(warm), problem.clamp(initial)
        first, second = problem.cost(initial), problem.cost(warm)
    usable = torch.isfinite(second) & torch.isfinite(warm).flatten(1).all(1)
    take = usable & (~torch.isfinite(first) | (second < first))
    return torch.where(rows(take, initial), warm, initial)


def solve_from_several(run: Run, problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Solve from `options.starts` starts each, at once as one larger batch; return each problem's best end.

    The given start is one of them, so the result never costs more than without the others; its cost is the one reported
    as initial. Another start whose solve was not finite is never chosen. Iterations are those of the best, gradients
    the sum over all starts.
    """
    if options.starts == 1:
        return run(problem, initial, options)
    batch, starts = initial.shape[0], options.starts
    initial = problem.clamp(initial)
    noise = torch.randn(
        (starts - 1, *initial.shape[1:]), generator=torch.Generator().manual_seed(options.seed), dtype=torch.float64
    ).to(initial)
    half = ((problem.upper - problem.lower) / 2).expand_as(initial)
    half = torch.where(torch.isfinite(half), half, torch.ones_like(half))
    others = initial[:, None] + options.start_spread * half[:, None] * noise
    several = problem.repeat(batch, starts)
    ends = run(several, several.clamp(torch.cat([initial[:, None], others], dim=1).flatten(0, 1)), options)
    cost = ends.final_cost.view(batch, starts)
    usable = torch.isfinite(cost) & (ends.status.view(batch, starts) != int(Status.NONFINITE))
    usable[:, 0] = torch.isfinite(
        cost[:, 0]
    )  # also with a bad gradient: nothing dearer may take the given start's place
    cost = torch.where(usable, cost, torch.full_like(cost, torch.inf))
    best = cost.argmin(1) + starts * torch.arange(batch, device=cost.device)  # the first of equals
    picked = {f.name: getattr(ends, f.name)[best] for f in dataclasses.fields(ends)}
    first = ends.initial_cost.view(batch, starts)[:, 0]
    gradients = ends.gradients.view(batch, starts).sum(1)
    return Solution(**{**picked, "initial_cost": first, "gradients": gradients})
