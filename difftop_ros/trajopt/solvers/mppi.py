"""TD-MPC's planner, the rival: model-predictive path integral with elites (arXiv 2203.04955, algorithm 1).

Without gradients: per iteration a normal distribution over plans is sampled and clamped into the box, the best plans
(elites) are weighted by exp(temperature (G - G_best)), and mean and deviation follow them; the deviation never falls
below a floor. Beside the samples, candidates near the given start take part (the paper's policy-prior trajectories).
Unlike TD-MPC, which draws one of the elites, the cheapest plan seen is returned: the end is never worse than the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.options import SolverOptions, positive
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Ended, Solution, Stopwatch, finish, finite_samples, rows


@dataclass(frozen=True)
class MppiSettings:
    """TD-MPC's: 512 samples and 64 elites for options.iterations (there 6) iterations.

    temperature: weight of a return's distance to the best [1 / unit of the return]. momentum: share of the old mean
    that is kept. spread, least_spread: first and least standard deviation, in half-widths of the box (in units of the
    action where a bound is infinite); TD-MPC lowers the least one while it trains, from 0.5 to this. priors: candidates
    drawn about the start with the least deviation; the start itself is one more. rows: plans evaluated at once, which
    bounds the memory of large batches.
    """

    samples: int = 512
    elites: int = 64
    temperature: float = 0.5
    momentum: float = 0.1
    spread: float = 2.0
    least_spread: float = 0.05
    priors: int = 24
    rows: int = 1 << 17

    def __post_init__(self) -> None:
        positive(self, "samples", "elites", "temperature", "spread", "least_spread", "rows")
        if not 0 <= self.momentum < 1:
            raise TrajoptError(f"momentum of MppiSettings is {self.momentum}; expected 0 or more and below 1")
        if self.priors < 0:
            raise TrajoptError(f"priors of MppiSettings is {self.priors}; expected 0 or more")
        if self.elites > self.samples:
            raise TrajoptError(f"elites of MppiSettings is {self.elites}; expected at most samples = {self.samples}")


def solve_mppi(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Search from `initial` (B, H, A); options.seed gives the noise, the same for every sample of the batch.

    A gradient is taken at the start, to flag bad samples as every solver does, and at the end, for its norm.
    """
    settings = options.settings or MppiSettings()
    watch = Stopwatch(options)
    start = problem.clamp(initial.detach())
    value, gradient = problem.value_and_gradient(start)
    watch.lap()
    finite = finite_samples(value, gradient)
    gradient = torch.where(rows(finite, gradient), gradient, torch.zeros_like(gradient))
    search = _Search(problem, start, value, options, settings)
    deadline, done = False, 0
    if bool(finite.any()):
        for _ in range(options.iterations):
            if watch.spent():
                deadline = True
                break
            search.iterate()
            watch.lap()
            done += 1
    best, best_gradient = value, gradient
    take = finite & (search.best_value < value)
    if done:
        best, best_gradient = problem.value_and_gradient(torch.where(rows(take, start), search.best, start))
        take = take & finite_samples(best, best_gradient) & (best <= value)
    iterations = done * finite.long()
    rollouts = 1 + iterations * search.plans + (iterations > 0).long()
    ended = Ended(finite, torch.zeros_like(finite), iterations, rollouts, value, deadline)
    actions = torch.where(rows(take, start), search.best, start)
    gradient = torch.where(rows(take, start), best_gradient, gradient)
    return finish(problem, actions, torch.where(take, best, value), gradient, ended, options)


class _Search:
    """The distribution over plans and the cheapest plan seen, per sample."""

    def __init__(
        self, problem: Problem, start: Tensor, value: Tensor, options: SolverOptions, settings: MppiSettings
    ) -> None:
        self.problem, self.options, self.settings = problem, options, settings
        half = ((problem.upper - problem.lower) / 2).expand_as(start)
        self.unit = torch.where(torch.isfinite(half), half, torch.ones_like(half))
        self.mean, self.deviation = start, settings.spread * self.unit
        self.best, self.best_value = start, value
        self.generator = torch.Generator().manual_seed(options.seed)
        priors = self._noise(settings.priors, start)
        around = start[:, None] + settings.least_spread * self.unit[:, None] * priors
        self.candidates = torch.cat([start[:, None], self._clamp(around)], dim=1)
        self.plans = settings.samples + settings.priors + 2  # the start and the mean are two of them

    def iterate(self) -> None:
        """Sample, rate, and move the distribution to the elites."""
        settings = self.settings
        noise = self._noise(settings.samples, self.mean)
        drawn = self._clamp(self.mean[:, None] + self.deviation[:, None] * noise)
        plans = torch.cat([self.candidates, self._clamp(self.mean[:, None]), drawn], dim=1)
        cost = self._costs(plans)
        cost = torch.where(torch.isfinite(cost), cost, torch.full_like(cost, torch.inf))
        elite_cost, chosen = cost.topk(settings.elites, dim=1, largest=False)
        elites = plans.gather(1, chosen[:, :, None, None].expand(-1, -1, *plans.shape[2:]))
        better = elite_cost[:, 0] < self.best_value
        self.best_value = torch.where(better, elite_cost[:, 0], self.best_value)
        self.best = torch.where(rows(better, self.best), elites[:, 0], self.best)
        weight = torch.softmax(-settings.temperature * (elite_cost - elite_cost[:, :1]), dim=1)[:, :, None, None]
        mean = (weight * elites).sum(1)
        deviation = (weight * (elites - mean[:, None]).square()).sum(1).sqrt()
        self.mean = settings.momentum * self.mean + (1 - settings.momentum) * mean
        self.deviation = torch.maximum(
            torch.minimum(deviation, settings.spread * self.unit), settings.least_spread * self.unit
        )

    def _noise(self, count: int, like: Tensor) -> Tensor:
        """Normal noise (count, H, A), one draw for all samples, so that a sample alone is the same as in a batch."""
        return torch.randn((count, *like.shape[1:]), generator=self.generator, dtype=torch.float64).to(like)

    def _clamp(self, plans: Tensor) -> Tensor:
        """Plans (B, K, H, A) inside the box."""
        lower, upper = (b.expand_as(self.mean)[:, None] for b in (self.problem.lower, self.problem.upper))
        return torch.maximum(torch.minimum(plans, upper), lower)

    def _costs(self, plans: Tensor) -> Tensor:
        """J (B, K) of plans (B, K, H, A), so many samples at a time that `rows` plans are evaluated at once."""
        batch, count = plans.shape[:2]
        at_once = max(1, self.settings.rows // count)
        costs = []
        with torch.no_grad():
            for first in range(0, batch, at_once):
                part = torch.arange(first, min(first + at_once, batch), device=plans.device)
                repeated = self.problem.select(part.repeat_interleave(count))
                costs.append(repeated.cost(plans[part].flatten(0, 1)).view(len(part), count))
        return torch.cat(costs)
