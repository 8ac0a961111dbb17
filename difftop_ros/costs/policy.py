"""A policy with costs added to its plan: first the plan as learned, then a solve near it that heeds the costs.

The learned plan is the reference and the first start of the second solve, so it does not matter what made it: any
policy can be given costs. A plan that the costs have nothing against is returned as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difftop_ros.contract import Contract
from difftop_ros.costs.collision import Collision
from difftop_ros.costs.keep import Kept
from difftop_ros.costs.kinds import CollisionOptions
from difftop_ros.costs.load import Costs
from difftop_ros.costs.solve import CostsFailed, SecondSolve
from difftop_ros.costs.terms.joints import NearPlan
from difftop_ros.costs.watched import Watched
from difftop_ros.errors import UserError
from difftop_ros.plan_result import PlanResult
from difftop_ros.trajopt import Status

__all__ = ["CostsFailed", "WithCosts"]


class WithCosts:
    """Acts as `policy` does, around what the costs stand for. Everything else is the policy's own.

    second: the solve that heeds the costs.
    """

    def __init__(self, policy: Any, costs: Costs, contract: Contract | None = None) -> None:
        """contract: the one in force, by default the policy's. Raises UserError for a mode without positions."""
        self.policy, self.costs = policy, costs
        self.contract: Contract = contract or policy.contract
        if self.contract.command.mode != "position":
            raise UserError(
                f"costs need position commands, and command.mode is {self.contract.command.mode!r}; leave the costs out"
            )
        self._rows = self.contract.measured
        for term in costs.terms.values():
            if isinstance(term, NearPlan):
                term.reset(getattr(policy, "horizon", 1))
        self.second = SecondSolve(costs, self.contract)
        self._watched = [
            Watched(term, options, self.contract)
            for name, term in costs.terms.items()
            if isinstance(term, Collision) and isinstance(options := costs.settings[name], CollisionOptions)
        ]
        self._kept = Kept(costs.limits, self.contract)
        self._time_s, self._ages_ms = 0.0, dict[str, float]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def reset(self) -> None:
        """Forget the past episode: what was seen in it too."""
        self.policy.reset()
        self._kept.reset()
        for watched in self._watched:
            watched.reset()

    def weigh(self, weights: Mapping[str, float]) -> None:
        """New weights by the costs' names, from the next plan on. Raises UserError, and then nothing has changed."""
        for name, weight in weights.items():
            if not hasattr(self.costs.terms.get(name), "weight"):
                raise UserError(f"no cost with a weight is called '{name}'; there are {list(self.costs.terms)}")
            if not 0 <= weight < np.inf:
                raise UserError(f"the weight of '{name}' is {weight}; expected a finite number, 0 or more")
        for name, weight in weights.items():
            setattr(self.costs.terms[name], "weight", weight)  # noqa: B010 - not every cost has one

    def observed(self, time_s: float, ages_ms: Mapping[str, float]) -> None:
        """When the next frames were seen [s], and how old each observation was then [ms].

        Without it, frames count as fresh and one step of the contract after those before.
        """
        self._time_s, self._ages_ms = time_s, dict(ages_ms)

    def prepare(self, backend: str) -> None:
        """Make both solves ready with a backend of trajopt.prepare, a minute or two; 'none' undoes it.

        A policy without a solve of its own has only the second. Raises TrajoptError.
        """
        if getattr(self.policy.net, "prepare", None) is not None and self.policy.prepared != backend:
            self.policy.prepare(backend)
        self.second.prepare(backend, self.policy.horizon)

    def act(
        self,
        obs: Mapping[str, np.ndarray],
        warm_start: np.ndarray | None = None,
        iterations: int | None = None,
        deadline_ms: float | None = None,
        committed: int = 0,
    ) -> PlanResult:
        """As Policy.act; warm_start is the plan in force, which may already go round something.

        Raises CostsFailed where a cost is not finite, raises, or has another shape than one number per plan, and where
        a known shape contains a part of the robot.
        """
        begin = time.perf_counter()
        position = torch.tensor([float(obs[key][-1][row]) for key, row in self._rows])
        for term in self.costs.terms.values():
            if hasattr(term, "position"):
                term.position = position
            if isinstance(term, NearPlan):
                term.take(None if warm_start is None else torch.from_numpy(warm_start).float())
        shown = dict(obs)
        for watched in self._watched:
            watched.refuse_inside(position)
            watched.look(obs, self._time_s, self._ages_ms)
            shown = watched.withhold(shown, position)
        self._time_s, self._ages_ms = self._time_s + 1.0 / self.contract.rate_hz, {}
        result: PlanResult = self.policy.act(
            shown, warm_start=warm_start, iterations=iterations, deadline_ms=deadline_ms, committed=committed
        )
        until = None if deadline_ms is None else begin + deadline_ms / 1e3
        settled = committed if warm_start is not None and getattr(self.policy.net, "continues", False) else 0
        found = self.around(result, warm_start, position, until)
        found.actions[:settled] = result.actions[:settled]  # nothing can be done about those any more
        return found

    @torch.no_grad()
    def around(
        self, result: PlanResult, warm_start: np.ndarray | None, position: Tensor, until: float | None = None
    ) -> PlanResult:
        """The policy's own result with the costs heeded, by the time `until` of the performance counter.

        Terms must know what is around and where the robot is, `position` (A,); `act` sees to that.
        """
        start = time.perf_counter()
        plan = torch.from_numpy(result.actions).to(torch.float32)
        shares, heed = self.second.asked(plan)
        actions, status, iterated = result.actions, result.status, result.iterations
        if heed:
            warm = None if warm_start is None else torch.from_numpy(warm_start).to(torch.float32)
            solution, plan = self.second.around(plan, warm, position, until)
            actions = self.second.clipped(plan)
            status, iterated = Status(int(solution.status[0])).name, int(solution.iterations[0])
            shares = self.second.shares(plan)
        actions = self._kept(actions, position.double().numpy())
        nearest = self.second.clearance(torch.from_numpy(actions).to(plan))
        return replace(
            result,
            actions=actions,
            before_costs=result.actions,
            status=status,
            iterations=iterated,
            solve_ms=result.solve_ms + 1e3 * (time.perf_counter() - start),
            term_names=tuple(self.costs.terms),
            term_costs=tuple(shares.tolist()),
            clearance=nearest.distance if nearest else float("nan"),
            clearance_between=f"{nearest.link}, step {nearest.step}" if nearest else "",
        )
