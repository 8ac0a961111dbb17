"""What a solve returns, per sample, and the bookkeeping every solver shares."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from difftop_ros.trajopt.options import SolverOptions, Status
from difftop_ros.trajopt.problem import Problem


@dataclass(frozen=True)
class Solution:
    """Actions (B, H, A), differentiable if an adjoint was asked for, and per sample (B,):

    status (see Status), iterations, initial_cost, final_cost, gradient_norm (largest entry of the projected
    gradient), active_fraction (share of coordinates held by a bound), gradients (evaluations of the cost's gradient
    that the sample took; a rollout without gradient, as `mppi` makes, counts one as well).
    """

    actions: Tensor
    status: Tensor
    iterations: Tensor
    initial_cost: Tensor
    final_cost: Tensor
    gradient_norm: Tensor
    active_fraction: Tensor
    gradients: Tensor

    def statuses(self) -> list[Status]:
        """The status of each sample as an enumeration member with its sentence."""
        return [Status(int(code)) for code in self.status]


@dataclass(frozen=True)
class Ended:
    """How a solver's loop went, per sample (B,): what `finish` needs beside the end point itself."""

    finite: Tensor
    stuck: Tensor
    iterations: Tensor
    gradients: Tensor
    initial_cost: Tensor
    deadline: bool = False


def finish(
    problem: Problem, actions: Tensor, value: Tensor, gradient: Tensor, ended: Ended, options: SolverOptions
) -> Solution:
    """The Solution of an end point (actions, its cost and gradient), with the statuses in order of precedence."""
    norm = largest(projected_gradient(problem, actions, gradient))
    limit = Status.DEADLINE if ended.deadline else Status.MAX_ITERATIONS
    status = torch.full_like(ended.iterations, int(limit))
    status = torch.where(ended.stuck, int(Status.NO_DECREASE), status)
    status = torch.where(norm <= options.tolerance, int(Status.CONVERGED), status)
    return Solution(
        actions=actions,
        status=torch.where(ended.finite, status, int(Status.NONFINITE)),
        iterations=ended.iterations,
        initial_cost=ended.initial_cost,
        final_cost=value,
        gradient_norm=norm,
        active_fraction=active(problem, actions, gradient).flatten(1).to(value.dtype).mean(1),
        gradients=ended.gradients,
    )


class Stopwatch:
    """Says whether one more gradient evaluation fits into the deadline, going by the slowest one so far."""

    def __init__(self, options: SolverOptions, device: torch.device | None = None) -> None:
        self.device = device  # waited for before the clock is read, where work on it is only queued
        self.budget_s = None if options.deadline_ms is None else options.deadline_ms / 1e3
        self.start = self.last = time.perf_counter()
        self.slowest = 0.0

    def lap(self) -> None:
        """Note that an evaluation has just ended."""
        if self.budget_s is not None and self.device is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.slowest, self.last = max(self.slowest, now - self.last), now

    def spent(self) -> bool:
        """True if another evaluation would probably end after the deadline."""
        if self.budget_s is None:
            return False
        return time.perf_counter() - self.start + self.slowest > self.budget_s


def projected_gradient(problem: Problem, actions: Tensor, gradient: Tensor) -> Tensor:
    """a - clip(a - g), (B, H, A): zero exactly at a point that satisfies the first-order conditions of the box.

    Written as clip(g) between a - upper and a - lower, so that a gradient far smaller than the action is not rounded
    off.
    """
    return torch.maximum(torch.minimum(gradient, actions - problem.lower), actions - problem.upper)


def active(problem: Problem, actions: Tensor, gradient: Tensor) -> Tensor:
    """Coordinates (B, H, A) at a bound whose gradient pushes further out: they stay where they are."""
    low = (actions <= problem.lower) & (gradient > 0)
    high = (actions >= problem.upper) & (gradient < 0)
    return low | high


def largest(tensor: Tensor) -> Tensor:
    """The largest absolute entry of each sample, (B,)."""
    return tensor.abs().flatten(1).amax(1)


def rows(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (B,) shaped to select rows of `like` (B, ...)."""
    return mask.view(-1, *[1] * (like.ndim - 1))


def finite_samples(value: Tensor, gradient: Tensor) -> Tensor:
    """Which samples (B,) have a finite cost and a finite gradient."""
    return torch.isfinite(value) & torch.isfinite(gradient).flatten(1).all(1)
