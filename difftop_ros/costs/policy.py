"""A policy with costs added to its plan: first the plan as learned, then a solve near it that heeds the costs.

The learned plan is the reference and the first start of the second solve, so it does not matter what made it: any
policy can be given costs. A plan that the costs have nothing against is returned as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difftop_ros.contract import Contract
from difftop_ros.costs.collision import Clearance, Collision
from difftop_ros.costs.kinds import CollisionOptions
from difftop_ros.costs.load import Costs
from difftop_ros.costs.sight import Sight
from difftop_ros.costs.term import InUnits
from difftop_ros.errors import UserError
from difftop_ros.plan_result import PlanResult
from difftop_ros.trajopt import Problem, Solution, SolverOptions, Status, prepare, solve

LEAST_MS = 5.0  # of a solve, however late those before it were
KEPT = 0.9  # another way is taken when it costs less than this share of the way in force: no dithering before a post


class CostsFailed(UserError):
    """The costs could not be computed for a plan; nothing of it may be followed."""


class WithCosts:
    """Acts as `policy` does, around what the costs stand for. Everything else is the policy's own.

    The cost of a plan a is tether/2 ||u||^2 + stiffness/2 ||second differences of u||^2 + sum of terms, with u the
    difference to the policy's plan in steps at top speed. Joints that only open or close (robot.coupling) stay the
    policy's. Starts: the policy's plan, the plan in force, and detours of the tool upwards and to either side.
    """

    def __init__(self, policy: Any, costs: Costs, contract: Contract | None = None) -> None:
        """contract: the one in force, by default the policy's. Raises UserError for a mode without positions."""
        self.policy, self.costs = policy, costs
        self.contract: Contract = contract or policy.contract
        command = self.contract.command
        if command.mode != "position":
            raise UserError(f"costs need position commands, and command.mode is {command.mode!r}; leave the costs out")
        self._scale = torch.tensor([joint.velocity / self.contract.rate_hz for joint in command.joints])
        self._bounds = tuple(torch.tensor(bound, dtype=torch.float32) for bound in command.bounds())
        self._fixed = torch.tensor([name in self.contract.robot.coupling for name in command.joint_names])
        self._rows = _rows_of(self.contract)
        self._collisions = {n: term for n, term in costs.terms.items() if isinstance(term, Collision)}
        self._sights = [
            Sight(term, options, self.contract)
            for name, term in self._collisions.items()
            if isinstance(options := costs.settings[name], CollisionOptions)
        ]
        self._backend = "none"
        self._prepared: dict[int, Any] = {}  # by the number of starts

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def reset(self) -> None:
        """Forget the past episode: what was seen in it too."""
        self.policy.reset()
        for sight in self._sights:
            sight.reset()

    def prepare(self, backend: str) -> None:
        """Make both solves ready with a backend of trajopt.prepare, a minute or two; 'none' undoes it.

        A policy without a solve of its own has only the second. Raises TrajoptError.
        """
        if getattr(self.policy.net, "prepare", None) is not None:
            self.policy.prepare(backend)
        self._backend, self._prepared = backend, {}
        if backend == "none":
            return
        low, high = self._bounds
        middle = ((low + high) / 2).expand(self.policy.horizon, -1)
        for starts in {1, len(self._asides(middle, middle[0])) or 1}:
            self._solve(middle, torch.zeros(starts, *middle.shape), None, None)

    def act(
        self,
        obs: Mapping[str, np.ndarray],
        warm_start: np.ndarray | None = None,
        iterations: int | None = None,
        deadline_ms: float | None = None,
    ) -> PlanResult:
        """As Policy.act; warm_start is the plan in force, which may already go round something.

        Raises CostsFailed where a cost is not finite, raises, or has another shape than one number per plan.
        """
        begin = time.perf_counter()
        position = self._position(obs)
        for term in self.costs.terms.values():
            if hasattr(term, "position"):
                term.position = position
        shown = dict(obs)
        for sight in self._sights:
            sight.look(obs, position)
            shown = sight.withhold(shown, position)
        result: PlanResult = self.policy.act(
            shown, warm_start=warm_start, iterations=iterations, deadline_ms=deadline_ms
        )
        start = time.perf_counter()
        plan = torch.from_numpy(result.actions).to(torch.float32)
        shares, heed = self._asked(plan)
        with torch.no_grad():
            actions, status, iterated = result.actions, result.status, result.iterations
            if heed:
                until = None if deadline_ms is None else begin + deadline_ms / 1e3
                warm = None if warm_start is None else torch.from_numpy(warm_start).to(torch.float32)
                solution, plan = self._around(plan, warm, position, until)
                actions = self._clipped(plan.double().numpy())
                status, iterated = Status(int(solution.status[0])).name, int(solution.iterations[0])
                shares = self._shares(plan[None])
        nearest = self.clearance(plan)
        return replace(
            result,
            actions=actions,
            status=status,
            iterations=iterated,
            solve_ms=result.solve_ms + 1e3 * (time.perf_counter() - start),
            term_names=tuple(self.costs.terms),
            term_costs=tuple(float(share) for share in shares[:, 0]),
            clearance=nearest.distance if nearest else float("nan"),
            clearance_between=f"{nearest.link}, step {nearest.step}" if nearest else "",
        )

    def clearance(self, plan: Tensor) -> Clearance | None:
        """Where a plan (H, A) comes nearest to what the costs know of; None if no cost measures it."""
        found = [term.clearance(plan) for term in self._collisions.values()]
        return min(found, key=lambda nearest: nearest.distance) if found else None

    def _clipped(self, actions: np.ndarray) -> np.ndarray:
        low, high = (np.asarray(bound) for bound in self.contract.command.bounds())
        return np.clip(actions, low, high)  # the box is float32: rounding may leave a bound by one unit

    def _position(self, obs: Mapping[str, np.ndarray]) -> Tensor:
        """Newest measured positions (A,) of the commanded joints."""
        return torch.tensor([float(obs[key][-1][row]) for key, row in self._rows])

    def _asked(self, plan: Tensor) -> tuple[Tensor, bool]:
        """The shares (terms, 1) of a plan (H, A), and whether any cost would have another: its gradient is not zero."""
        with torch.enable_grad():
            leaf = plan[None].clone().requires_grad_()
            shares = self._shares(leaf)
            total = shares.sum()
            gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
        return shares.detach(), gradient is not None and bool((gradient != 0.0).any())

    def _shares(self, plans: Tensor) -> Tensor:
        """Each term's cost of plans (B, H, A), (terms, B)."""
        found = []
        for name, term in self.costs.terms.items():
            try:
                share = term(plans, *(tensor.expand(len(plans), *tensor.shape) for tensor in term.data))
            except Exception as error:
                raise CostsFailed(f"the cost '{name}' itself failed: {type(error).__name__}: {error}") from error
            if not isinstance(share, Tensor) or share.shape != plans.shape[:1]:
                shape = tuple(share.shape) if isinstance(share, Tensor) else type(share).__name__
                raise CostsFailed(f"the cost '{name}' returned {shape}; expected ({len(plans)},), one number per plan")
            if not torch.isfinite(share).all():
                raise CostsFailed(f"the cost '{name}' is not finite for this plan; look at its weight and its figures")
            found.append(share)
        return torch.stack(found)

    def _problem(self, plan: Tensor, times: int) -> Problem:
        """The second solve in u (times, H, A): differences to `plan` (H, A) in steps at top speed."""
        low, high = ((bound - plan) / self._scale for bound in self._bounds)
        still = torch.zeros_like(plan)
        low = torch.where(self._fixed, still, torch.minimum(low, still))
        high = torch.where(self._fixed, still, torch.maximum(high, still))
        many = (times, *plan.shape)
        problem = Problem(
            _Smooth(self.costs.options.stiffness), (), low.expand(many), high.expand(many),
            reference=still.expand(many), proximal=self.costs.options.tether,
        )  # fmt: skip
        scale, offset = self._scale.expand(many), plan.expand(many)
        for term in self.costs.terms.values():
            data = (tensor.expand(times, *tensor.shape) for tensor in term.data)
            problem = problem.adding(InUnits(term), scale, offset, *data)
        return problem

    def _around(
        self, plan: Tensor, warm: Tensor | None, position: Tensor, until: float | None
    ) -> tuple[Solution, Tensor]:
        """The solution of least cost, and its plan (H, A).

        From the policy's plan or the one in force, whichever costs less; only where that ends too near to something,
        from ways aside too: most plans follow the one before, and one start is enough.
        """
        still = torch.zeros_like(plan)
        first = self._solve(plan, still[None], None if warm is None else self._in_box(plan, warm)[None], until)
        found = plan + self._scale * first.actions[0]
        asides = self._asides(plan, position)
        if not asides or not self._too_near(found):
            return first, found
        initial = torch.stack([self._in_box(plan, aside) for aside in asides])
        others = self._solve(plan, initial, None, until)
        best = int(torch.where(torch.isfinite(others.final_cost), others.final_cost, torch.inf).argmin())
        if not float(others.final_cost[best]) < KEPT * float(first.final_cost[0]):
            return first, found
        picked = {field.name: getattr(others, field.name)[best : best + 1] for field in fields(others)}
        return Solution(**picked), plan + self._scale * others.actions[best]

    def _too_near(self, plan: Tensor) -> bool:
        """Whether a plan (H, A) comes nearer to something than half the margin of the cost that minds it."""
        return any(term.clearance(plan).distance < 0.5 * term.margin for term in self._collisions.values())

    def _solve(self, plan: Tensor, initial: Tensor, warm: Tensor | None, until: float | None) -> Solution:
        """Solutions in u from starts (B, H, A), by the time `until` of the performance counter, or a little later.

        Raises CostsFailed if none of them has a finite cost.
        """
        deadline_ms = None if until is None else max(1e3 * (until - time.perf_counter()), LEAST_MS)
        problem = self._problem(plan, len(initial))
        options = SolverOptions(iterations=self.costs.options.iterations, adjoint="none", deadline_ms=deadline_ms)
        try:
            solution = self._solved(problem, initial, warm, options)
        except UserError:
            raise
        except Exception as error:  # a cost may fail at other plans than the one it was asked about first
            raise CostsFailed(f"a cost failed in the solve: {type(error).__name__}: {error}; mend that cost") from error
        if not torch.isfinite(solution.final_cost).any():
            raise CostsFailed("no plan of finite cost was found with the added costs; look at their figures")
        return solution

    def _solved(self, problem: Problem, initial: Tensor, warm: Tensor | None, options: SolverOptions) -> Solution:
        if self._backend == "none":
            return solve(problem, initial, options, warm)
        if len(initial) not in self._prepared:
            self._prepared[len(initial)] = prepare(problem, initial, options, self._backend)
        return self._prepared[len(initial)](
            problem.context, initial, problem.reference, problem.lower, problem.upper, warm, options.deadline_ms
        )

    def _in_box(self, plan: Tensor, wanted: Tensor) -> Tensor:
        return ((wanted - plan) / self._scale).masked_fill(self._fixed, 0.0)

    def _asides(self, plan: Tensor, position: Tensor) -> list[Tensor]:
        """Plans whose tool swerves by `detour_m` upwards, to the left and to the right of its way, most in mid-way."""
        size, frame = self.costs.options.detour_m, self.contract.robot.tool_frame
        model = next((term.robot for term in self._collisions.values()), None)
        if size == 0 or frame is None or model is None:
            return []
        with torch.enable_grad():
            jacobian = torch.autograd.functional.jacobian(lambda q: model.pose(q, frame)[:3, 3], position)
        way = model.pose(plan[-1], frame)[:3, 3] - model.pose(position, frame)[:3, 3]
        up = torch.tensor([0.0, 0.0, 1.0])
        side = torch.linalg.cross(up, way)
        side = side / side.norm() if float(side.norm()) > 1e-3 else torch.tensor([0.0, 1.0, 0.0])
        free = jacobian.masked_fill(self._fixed, 0.0)
        profile = torch.sin(torch.linspace(0.0, torch.pi, len(plan) + 2)[1:-1])
        inverse = torch.linalg.pinv(free)
        return [plan + profile[:, None] * (inverse @ (size * direction)) for direction in (up, side, -side)]


class _Smooth:
    """The return of a difference u (B, H, A): -stiffness/2 times its squared second differences, from rest at 0."""

    def __init__(self, stiffness: float) -> None:
        self._stiffness = stiffness

    def __call__(self, u: Tensor) -> Tensor:
        begin = torch.zeros_like(u[:, :1])
        bends = torch.cat([begin, begin, u], dim=1).diff(n=2, dim=1)
        return -0.5 * self._stiffness * bends.square().flatten(1).sum(1)


def _rows_of(contract: Contract) -> list[tuple[str, int]]:
    """For each commanded joint, the observation and the row of its frame that hold its measured position."""
    return [
        next((key, obs.positions[name]) for key, obs in contract.observations.items() if name in obs.positions)
        for name in contract.command.joint_names
    ]
