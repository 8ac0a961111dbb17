"""The loop that `newton` and `ilqr` share: propose a trial, accept it if it lowers the cost, adapt the damping.

What a trial is made of lives in their files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from difftop_ros.trajopt.options import SolverOptions
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import (
    Ended,
    Solution,
    Stopwatch,
    finish,
    finite_samples,
    largest,
    projected_gradient,
    rows,
)

SUFFICIENT = 1e-4  # Armijo: the share of the predicted decrease a step must achieve
LARGEST = 1e8  # a damping, relative to the largest second derivative, above which no decrease is expected any more
ROUNDING = 64  # differences of costs up to so many units of their last digit mean nothing


@dataclass(frozen=True)
class Proposal:
    """A trial (B, H, A) inside the box, and each sample's next damping (B,) if it is accepted or rejected."""

    trial: Tensor
    if_accepted: Tensor
    if_rejected: Tensor


class Propose(Protocol):
    """(actions, gradient, damping, moved, go_on) -> Proposal, or None if `go_on` said that the time is up.

    moved: False if no sample's actions changed since the last call, so that its derivatives still hold.
    """

    def __call__(
        self, actions: Tensor, gradient: Tensor, damping: Tensor, moved: bool, go_on: Callable[[], bool]
    ) -> Proposal | None: ...


def descend(problem: Problem, initial: Tensor, options: SolverOptions, damping: float, propose: Propose) -> Solution:
    """Minimise from `initial` (B, H, A). The cost never rises; a sample that starts non-finite stays where it is.

    Gradients counts those of the cost and of the derivatives' expansion, not the products that make its matrices.
    """
    watch = Stopwatch(options)
    actions = problem.clamp(initial.detach())
    value, gradient = problem.value_and_gradient(actions)
    watch.lap()
    initial_cost, finite = value, finite_samples(value, gradient)
    gradient = torch.where(rows(finite, gradient), gradient, torch.zeros_like(gradient))
    dampings = torch.full_like(value, damping)
    iterations, stuck, deadline, moved = torch.zeros_like(value, dtype=torch.long), ~finite, False, True
    for _ in range(options.iterations):
        done = (largest(projected_gradient(problem, actions, gradient)) <= options.tolerance) | stuck
        if bool(done.all()):
            break
        proposal = None if watch.spent() else propose(actions, gradient, dampings, moved, lambda: _lap(watch))
        if proposal is None:
            deadline = True
            break
        watch.lap()
        new_value, new_gradient = problem.value_and_gradient(proposal.trial)
        watch.lap()
        accept = finite_samples(new_value, new_gradient) & ~done
        accept &= _decreases(
            problem, (actions, value, gradient), (proposal.trial, new_value, new_gradient), initial_cost
        )
        actions = torch.where(rows(accept, actions), proposal.trial, actions)
        gradient = torch.where(rows(accept, gradient), new_gradient, gradient)
        value = torch.where(accept, new_value, value)
        dampings = torch.where(accept, proposal.if_accepted, torch.where(done, dampings, proposal.if_rejected))
        stuck = stuck | (dampings > LARGEST)
        iterations, moved = iterations + (~done).long(), bool(accept.any())
    ended = Ended(finite, stuck & finite, iterations, 1 + 2 * iterations, initial_cost, deadline)
    return finish(problem, actions, value, gradient, ended, options)


def rounding(value: Tensor, actions: Tensor, gradient: Tensor) -> Tensor:
    """Differences of cost (B,) that mean nothing.

    The cost may be a small sum of large terms: hence the gradient's share, and a generous factor.
    """
    terms = (gradient * actions).flatten(1).abs().sum(1)
    return ROUNDING * torch.finfo(value.dtype).eps * (value.abs() + terms)


def cheapest(cost: Tensor, actions: Tensor, gradient: Tensor) -> Tensor:
    """The index (B,) of the lowest finite cost among trials (B, K) from `actions` with `gradient`, the boldest first.

    Of equal ones, rounding aside, the first: near the minimum the costs no longer tell the trials apart, and the whole
    Newton step is the best of them.
    """
    cost = torch.where(torch.isfinite(cost), cost, torch.full_like(cost, torch.inf))
    lowest = cost.amin(1)
    return (cost <= (lowest + rounding(lowest, actions, gradient))[:, None]).to(torch.uint8).argmax(1)


def _lap(watch: Stopwatch) -> bool:
    watch.lap()
    return not watch.spent()


Point = tuple[Tensor, Tensor, Tensor]  # actions, their cost and gradient


def _decreases(problem: Problem, here: Point, there: Point, ceiling: Tensor) -> Tensor:
    """Sufficient decrease; or, where it drowns in rounding, half the gradient at a cost not above the start's."""
    (actions, value, gradient), (trial, new_value, new_gradient) = here, there
    predicted = ((trial - actions) * gradient).flatten(1).sum(1)
    armijo = (predicted < 0) & (new_value <= value + SUFFICIENT * predicted) & (new_value <= value)
    noise = rounding(torch.maximum(value.abs(), ceiling.abs()), actions, gradient)
    level = (predicted.abs() <= 16 * noise) & (new_value <= torch.minimum(value + 4 * noise, ceiling))
    before = largest(projected_gradient(problem, actions, gradient))
    return armijo | (level & (largest(projected_gradient(problem, trial, new_gradient)) < 0.5 * before))
