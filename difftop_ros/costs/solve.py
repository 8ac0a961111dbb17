"""The second solve: a plan near a given one that heeds the added costs. What gave the first plan does not matter.

The cost of a plan a is tether/2 u'Gu + stiffness/2 ||second differences of u||^2 + sum of terms, with u (H, A) the
difference to the given plan in steps at top speed. G is 1 for what moves the tool's point alone, and `posture` more for
what turns the tool or moves the arm while the tool stays: a policy knows the postures of its demonstrations alone, and
does not come back to them from others. Along G's eigenvectors axes do not depend on each other; u is sought among the
MODES smoothest ways of each, scaled so that their part of the cost is half the square of its amounts v. So the solver
has fewer variables and a good scale, and a plan stays smooth however few its iterations are.
"""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difftop_ros.contract import Contract
from difftop_ros.costs.collision import Clearance, Collision
from difftop_ros.costs.load import Costs
from difftop_ros.costs.term import CostTerm
from difftop_ros.errors import UserError
from difftop_ros.trajopt import Problem, Solution, SolverOptions, prepare, solve

LEAST_MS = 5.0  # of a solve, however late those before it were
KEPT = 0.9  # another way is taken when it costs less than this share of the way in force: no dithering before a post
TOLERANCE = 3e-3  # of the gradient: an amount of a mode by which no step of the plan moves a thousandth at top speed
MODES = 6
SMALL = 1e-6  # a difference of a joint [rad | m] for derivatives
TURN_RAD = 0.1  # a turn of the tool that weighs as much as a joint's step at top speed, times `posture`


class CostsFailed(UserError):
    """The costs could not be computed for a plan; nothing of it may be followed."""


class SecondSolve:
    """Joints that only open or close (robot.coupling) stay as given. Starts: the given plan, the plan in force, and
    detours of the tool upwards and to either side. Plans are float32 (H, A) in the contract's units."""

    def __init__(self, costs: Costs, contract: Contract) -> None:
        self.costs, self.contract = costs, contract
        command = contract.command
        self._scale = torch.tensor([joint.velocity / contract.rate_hz for joint in command.joints])
        self._bounds = torch.tensor(command.bounds(), dtype=torch.float32)
        self._fixed = torch.tensor([name in contract.robot.coupling for name in command.joint_names])
        self._modes: dict[int, tuple[Tensor, Tensor]] = {}  # by the horizon
        free = int((~self._fixed).sum())
        self._weights, self._axes = torch.ones(free), torch.eye(free)  # of G, see `stand`
        self.collisions = [term for term in costs.terms.values() if isinstance(term, Collision)]
        self._backend = "none"
        self._prepared: dict[int, Any] = {}  # by the number of starts

    def prepare(self, backend: str, horizon: int) -> None:
        """Make it ready for plans of `horizon` steps with a backend of trajopt.prepare; 'none' undoes it."""
        self._backend, self._prepared = backend, {}
        if backend == "none":
            return
        low, high = self._bounds
        middle = ((low + high) / 2).expand(horizon, -1)
        self.stand(middle[0])
        for starts in {1, len(self._asides(middle, middle[0])) or 1}:
            self.solve_from(middle, middle.expand(starts, -1, -1), None, None)

    def asked(self, plan: Tensor) -> tuple[Tensor, bool]:
        """The shares (terms,) of a plan, and whether any cost would have another plan: its gradient is not zero."""
        if not self.costs.terms:
            return torch.empty(0), False
        with torch.enable_grad():
            leaf = plan[None].clone().requires_grad_()
            shares = self._shares(leaf)
            total = shares.sum()
            gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None
        return shares.detach()[:, 0], gradient is not None and bool((gradient != 0.0).any())

    def shares(self, plan: Tensor) -> Tensor:
        """Each term's cost of a plan, (terms,). Raises CostsFailed naming a term that is not one finite number."""
        return self._shares(plan[None])[:, 0]

    def clearance(self, plan: Tensor) -> Clearance | None:
        """Where a plan comes nearest to what the costs know of; None if no cost measures it."""
        found = [term.clearance(plan) for term in self.collisions]
        return min(found, key=lambda nearest: nearest.distance) if found else None

    def around(
        self, plan: Tensor, warm: Tensor | None, position: Tensor, until: float | None
    ) -> tuple[Solution, Tensor]:
        """The solution of least cost, and its plan; `warm` is the plan in force, the robot at `position` (A,).

        From the given plan or the one in force, whichever costs less; only where that ends too near to something, from
        ways aside too: most plans follow the one before, and one start is enough. It ends by the time `until` of the
        performance counter, or a little later. Raises CostsFailed if no plan of finite cost is found.
        """
        self.stand(position)
        first = self.solve_from(plan, plan[None], warm, until)
        found = self._plan(plan, first.actions[0])
        asides = self._asides(plan, position) if self._too_near(found) else []
        if not asides:
            return first, found
        others = self.solve_from(plan, torch.stack(asides), None, until)
        best = int(torch.where(torch.isfinite(others.final_cost), others.final_cost, torch.inf).argmin())
        if not float(others.final_cost[best]) < KEPT * float(first.final_cost[0]):
            return first, found
        picked = {field.name: getattr(others, field.name)[best : best + 1] for field in fields(others)}
        return Solution(**picked), self._plan(plan, others.actions[best])

    def _too_near(self, plan: Tensor) -> bool:
        """Whether a plan comes nearer to something than half the margin of the cost that minds it."""
        return any(term.clearance(plan).distance < 0.5 * term.margin for term in self.collisions)

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

    def stand(self, position: Tensor) -> None:
        """From now on differences are weighed as they are where the robot stands, at `position` (A,)."""
        frame = self.contract.robot.tool_frame
        if frame is None or not self.collisions or self.costs.options.posture == 0:
            return
        twist = (self._jacobian(position, frame) * self._scale.double().numpy())[:, ~self._fixed.numpy()]  # (6, free)
        turn = twist[3:] / TURN_RAD
        _, sizes, rows = np.linalg.svd(twist)
        idle = rows[int((sizes > 1e-3 * sizes[0]).sum()) :]  # motions of the arm in which the tool stays
        weighed = np.eye(len(rows)) + self.costs.options.posture * (turn.T @ turn + idle.T @ idle)
        weights, axes = np.linalg.eigh(weighed)
        self._weights, self._axes = torch.tensor(weights).float(), torch.tensor(axes.T).float()

    def _jacobian(self, position: Tensor, frame: str) -> np.ndarray:
        """(6, A): how a frame's point moves [m] and turns [rad] per unit of each joint."""
        now = position.double().numpy()
        body = self.collisions[0].robot.body
        poses = body.pose(np.stack([now, *(now + SMALL * np.eye(len(now)))]), frame)
        turns = poses[1:, :3, :3] @ poses[0, :3, :3].T / SMALL
        return np.stack(
            [*((poses[1:, :3, 3] - poses[0, :3, 3]) / SMALL).T, turns[:, 2, 1], turns[:, 0, 2], turns[:, 1, 0]]
        )

    def _basis(self, horizon: int) -> tuple[Tensor, Tensor]:
        """The modes (H, K), orthonormal, and what half their squared second differences are, (K,)."""
        if horizon not in self._modes:
            begin = np.zeros((2, horizon))  # from rest
            bends = np.diff(np.vstack([begin, np.eye(horizon)]), n=2, axis=0)
            values, vectors = np.linalg.eigh(bends.T @ bends)
            self._modes[horizon] = (torch.tensor(vectors[:, :MODES]).float(), torch.tensor(values[:MODES]).float())
        return self._modes[horizon]

    def _scales(self, horizon: int) -> tuple[Tensor, Tensor]:
        """What an amount of 1 is of each mode and axis of G, (K, free joints); those axes as commands (free, A)."""
        options, (_, bends) = self.costs.options, self._basis(horizon)
        scales = (options.tether * self._weights + options.stiffness * bends[:, None]).rsqrt()
        return scales, self._axes @ torch.diag(self._scale)[~self._fixed]

    def _plan(self, plan: Tensor, amounts: Tensor) -> Tensor:
        """The plan that differs from `plan` by `amounts` (..., K, free joints) of modes and axes."""
        modes, _ = self._basis(len(plan))
        scales, spread = self._scales(len(plan))
        return torch.clamp(plan + modes @ (amounts * scales) @ spread, *self._bounds)

    def _amounts(self, plan: Tensor, wanted: Tensor) -> Tensor:
        """About those (..., K, free joints) that make `plan` the plans `wanted` (..., H, A)."""
        modes, _ = self._basis(len(plan))
        scales, _ = self._scales(len(plan))
        return modes.T @ ((wanted - plan) / self._scale)[..., ~self._fixed] @ self._axes.T / scales

    def _problem(self, plan: Tensor, times: int) -> Problem:
        """In amounts v (times, K, free joints)."""
        modes, _ = self._basis(len(plan))
        scales, spread = self._scales(len(plan))
        still = torch.zeros(times, *scales.shape)
        free = torch.full_like(still, torch.inf)
        problem = Problem(_nothing, (), -free, free, reference=still, proximal=1.0)
        common = [t.expand(times, *t.shape) for t in (modes, scales, spread, plan, self._bounds)]
        for term in self.costs.terms.values():
            data = (tensor.expand(times, *tensor.shape) for tensor in term.data)
            problem = problem.adding(_OfAmounts(term), *common, *data)
        return problem

    def solve_from(self, plan: Tensor, starts: Tensor, in_force: Tensor | None, until: float | None) -> Solution:
        """Solutions in amounts from plans `starts` (B, H, A) or, where it costs less, from the plan in force (H, A).

        Raises CostsFailed if none of them has a finite cost.
        """
        deadline_ms = None if until is None else max(1e3 * (until - time.perf_counter()), LEAST_MS)
        problem, initial = self._problem(plan, len(starts)), self._amounts(plan, starts)
        warm = None if in_force is None else self._amounts(plan, in_force[None])
        options = SolverOptions(
            iterations=self.costs.options.iterations, tolerance=TOLERANCE, adjoint="none", deadline_ms=deadline_ms
        )
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
        return self._prepared[len(initial)](problem.context, initial, warm_start=warm, deadline_ms=options.deadline_ms)

    def _asides(self, plan: Tensor, position: Tensor) -> list[Tensor]:
        """Plans whose tool swerves by `detour_m` upwards, to the left and to the right of its way, most in mid-way."""
        size, frame = self.costs.options.detour_m, self.contract.robot.tool_frame
        if size == 0 or frame is None or not self.collisions:
            return []
        jacobian = self._jacobian(position, frame)
        jacobian[:, self._fixed.numpy()] = 0.0
        ends = torch.stack([position, plan[-1]]).double().numpy()
        places = self.collisions[0].robot.body.pose(ends, frame)[:, :3, 3]
        way = places[-1] - places[0]
        up = np.array([0.0, 0.0, 1.0])
        side = np.cross(up, way)
        length = float(np.linalg.norm(side))
        side = side / length if length > 1e-3 else np.array([0.0, 1.0, 0.0])
        profile = torch.sin(torch.linspace(0.0, torch.pi, len(plan) + 2)[1:-1])
        aims = np.zeros((6, 3))  # of the point alone: the tool does not turn
        aims[:3] = size * np.stack([up, side, -side], axis=1)
        moves = np.linalg.pinv(jacobian, rcond=1e-2) @ aims  # (A, 3)
        return [plan + profile[:, None] * torch.from_numpy(move).to(plan) for move in moves.T]

    def clipped(self, plan: Tensor) -> np.ndarray:
        """The plan as float64 within the contract's bounds: the box is float32, rounding may leave it by one unit."""
        low, high = (np.asarray(bound) for bound in self.contract.command.bounds())
        return np.clip(plan.double().numpy(), low, high)


class _OfAmounts:
    """A term over amounts of modes, v (B, K, free joints)."""

    def __init__(self, term: CostTerm) -> None:
        self._term = term

    def __call__(self, v: Tensor, modes: Tensor, scales: Tensor, spread: Tensor, plan: Tensor, bounds: Tensor,
                 *data: Tensor) -> Tensor:  # fmt: skip
        """modes (B, H, K), scales as v, spread (B, free, A), plan (B, H, A), bounds (B, 2, A), term's data -> (B,)."""
        commands = plan + modes @ (v * scales) @ spread
        return self._term(torch.clamp(commands, bounds[:, :1], bounds[:, 1:]), *data)


def _nothing(v: Tensor) -> Tensor:
    """The return of amounts (B, K, free joints) by themselves: what they cost is the proximal term's."""
    return 0.0 * v.flatten(1).sum(1)
