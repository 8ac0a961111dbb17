"""Box-constrained differential dynamic programming on the rollout form, batched over samples.

Tassa, Mansard and Todorov, "Control-limited differential dynamic programming" (ICRA 2014): a backward pass whose
feed-forward term solves a box-QP at each stage, with no feedback on the coordinates that a bound holds, and a forward
rollout with a line search. Reward and value enter with their exact second derivatives, the dynamics with the first
only unless asked for. The expansions of all stages are made at once: the rollout knows every state beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from difftop_ros.trajopt.boxqp import convexified, solve_boxqp
from difftop_ros.trajopt.derivatives import jacobian
from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.objectives import LatentRollout
from difftop_ros.trajopt.options import SolverOptions, positive
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, largest, rows
from difftop_ros.trajopt.solvers.second_order import Proposal, cheapest, descend

FLOOR = {torch.float64: 1e-9, torch.float32: 1e-6}  # smallest eigenvalue of a stage's control Hessian, relative
SPREAD = 10.0  # ratio of neighbouring dampings
LEAST = 1e-5  # smallest damping


@dataclass(frozen=True)
class IlqrSettings:
    """second_order_dynamics: full DDP, with the curvature of the dynamics weighted by the costate; dearer, and
    quadratic in its end phase, which Gauss-Newton is only where the dynamics are linear.

    damping: that of a stage's control Hessian in the first iteration, relative to its largest entry.
    trials, lengths: the backward passes tried at once, with dampings none, d, 10 d, ..., and the step lengths 1, 1/2,
        1/4, ... of each one's forward pass; the rollout of lowest cost is taken.
    """

    second_order_dynamics: bool = False
    damping: float = 1e-2
    trials: int = 4
    lengths: int = 4

    def __post_init__(self) -> None:
        positive(self, "damping", "lengths")
        if self.trials < 2:
            raise TrajoptError(f"trials of IlqrSettings is {self.trials}; expected 2 or more")


@dataclass(frozen=True)
class _Expansion:
    """Per stage, x the latent state and u the action: the states (B, H + 1, Z) themselves, dynamics' Jacobian
    f (B, H, Z, Z + A), cost's gradient c (B, H, Z + A) and Hessian cc (B, H, Z + A, Z + A), and of the terminal cost
    v (B, Z) and vv (B, Z, Z). The costs are divided by their largest entry per sample."""

    states: Tensor
    f: Tensor
    c: Tensor
    cc: Tensor
    v: Tensor
    vv: Tensor


def solve_ilqr(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Minimise from `initial` (B, H, A); see `descend`. Raises TrajoptError if the objective is no LatentRollout.

    The deadline is met within one block of derivative products (2048, or one per sample and step).
    """
    settings = options.settings or IlqrSettings()
    form = problem.objective
    if not isinstance(form, LatentRollout):
        raise TrajoptError(
            f"'ilqr' needs an objective of the form LatentRollout, got {type(form).__name__}; state dynamics, reward "
            "and value apart, or use method 'qn'"
        )
    problem.refuse_terms("method 'ilqr'")
    expansion: _Expansion | None = None

    def propose(
        actions: Tensor, gradient: Tensor, damping: Tensor, moved: bool, go_on: Callable[[], bool]
    ) -> Proposal | None:
        nonlocal expansion
        if moved:
            expansion = _expand(problem, form, actions, settings, go_on)
        if expansion is None:
            return None
        return _proposal(problem, form, (actions, gradient), expansion, damping, settings)

    return descend(problem, initial, options, settings.damping, propose)


def _proposal(
    problem: Problem,
    form: LatentRollout,
    point: tuple[Tensor, Tensor],
    expansion: _Expansion,
    damping: Tensor,
    settings: IlqrSettings,
) -> Proposal:
    """The rollout of lowest cost over dampings and step lengths from actions and gradient (B, H, A) each."""
    actions, gradient = point
    kinds, lengths = settings.trials, settings.lengths
    ladder = damping[:, None] * SPREAD ** torch.arange(kinds - 1, dtype=damping.dtype, device=damping.device)
    ladder = torch.cat([torch.zeros_like(damping)[:, None], ladder], dim=1)
    copies = _Expansion(*(getattr(expansion, f.name).repeat_interleave(kinds, 0) for f in fields(expansion)))
    low = (problem.lower - actions).repeat_interleave(kinds, 0)
    high = (problem.upper - actions).repeat_interleave(kinds, 0)
    feed, gain = _backward(low, high, copies, ladder.flatten())
    trials, cost = _forward(problem, form, actions, copies.states, (feed, gain, low, high), lengths)
    best = cheapest(cost, actions, gradient)
    index = torch.arange(len(actions), device=best.device)
    used = ladder[index, torch.div(best, lengths, rounding_mode="floor")]
    # the next dampings start below the one that served; none of them serving, they go on above the largest
    easier = (torch.where(used > 0, used, damping) / SPREAD).clamp_min(LEAST)
    return Proposal(trials[index, best], easier, damping * SPREAD ** (kinds - 1))


def _expand(
    problem: Problem, form: LatentRollout, actions: Tensor, settings: IlqrSettings, go_on: Callable[[], bool]
) -> _Expansion | None:
    """All stages at once, as one batch of B H; None if `go_on` said no."""
    batch, horizon, joints = actions.shape
    start, *rest = problem.context
    with torch.no_grad():
        states = form.states(actions, start, *rest)
    z = states.shape[2]
    stage = form.staged(horizon, *rest)
    point = torch.cat([states[:, :-1], actions], dim=2).flatten(0, 1)
    weight = form.discount ** torch.arange(horizon, dtype=actions.dtype, device=actions.device).repeat(batch)
    with torch.enable_grad():
        leaf = point.requires_grad_()
        following = form.next_state(leaf[:, :z], leaf[:, z:], *stage)
        f = jacobian(following, leaf, go_on=go_on)
        if f is None:
            return None
        f = f.reshape(batch, horizon, z, z + joints)
        last = states[:, -1].clone().requires_grad_()
        end = torch.zeros_like(weight[:batch]) if form.value is None else form.value_of(last, *form.at(-1, *rest))
        terminal = _curvature(-(form.discount**horizon) * end, last, go_on)
        cost = -weight * form.reward_of(leaf[:, :z], leaf[:, z:], *stage)
        if problem.proximal > 0 and problem.reference is not None:
            reference = problem.reference.expand_as(actions).flatten(0, 1)
            cost = cost + 0.5 * problem.proximal * (leaf[:, z:] - reference).square().sum(1)
        if settings.second_order_dynamics and terminal is not None:
            slope = _gradient(cost, leaf).view(batch, horizon, -1)
            costate = _costates(f, slope, terminal[0], z)
            # the Hamiltonian: its Hessian holds the dynamics' curvature; its gradient in the cost's place is not wanted
            curved = _curvature(cost + (costate.flatten(0, 1) * following).sum(1), leaf, go_on)
            stages = None if curved is None else (slope, curved[1])
        else:
            stages = _curvature(cost, leaf, go_on)
    if stages is None or terminal is None:
        return None
    c, cc = stages[0].reshape(batch, horizon, -1), stages[1].reshape(batch, horizon, z + joints, -1)
    return _scaled(_Expansion(states, f, c, cc, *terminal))


def _gradient(cost: Tensor, leaf: Tensor) -> Tensor:
    if not cost.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(cost.sum(), leaf, create_graph=True, allow_unused=True, materialize_grads=True)
    return found


def _curvature(cost: Tensor, leaf: Tensor, go_on: Callable[[], bool]) -> tuple[Tensor, Tensor] | None:
    """Gradient (N, n) and Hessian (N, n, n) of costs (N,) of points (N, n); None if `go_on` said no."""
    gradient = _gradient(cost, leaf)
    second = jacobian(gradient, leaf, go_on=go_on)
    return None if second is None else (gradient.detach(), 0.5 * (second + second.transpose(1, 2)))


def _costates(f: Tensor, slope: Tensor, end: Tensor, z: int) -> Tensor:
    """dJ/dz_{t+1} along the rollout, (B, H, Z): the weights of the dynamics' curvature in the exact Hessian."""
    found = [end]
    for step in range(f.shape[1] - 1, 0, -1):
        found.append(slope[:, step, :z].detach() + _product(f[:, step, :, :z].transpose(1, 2), found[-1]))
    return torch.stack(found[::-1], dim=1)


def _scaled(e: _Expansion) -> _Expansion:
    """Costs of any scale alike; and a sample whose second derivatives are not finite takes gradient steps."""
    z = e.v.shape[1]
    finite = torch.isfinite(e.cc).flatten(1).all(1) & torch.isfinite(e.vv).flatten(1).all(1)
    plain = torch.zeros_like(e.cc[0, 0])
    plain[z:, z:].fill_diagonal_(1.0)
    cc = torch.where(rows(finite, e.cc), e.cc, plain)
    vv = torch.where(rows(finite, e.vv), e.vv, torch.zeros_like(e.vv))
    first = torch.isfinite(e.f).flatten(1).all(1) & torch.isfinite(e.c).flatten(1).all(1)
    first &= torch.isfinite(e.v).all(1)
    f, c, v = (torch.where(rows(first, x), x, torch.zeros_like(x)) for x in (e.f, e.c, e.v))
    scale = torch.stack([largest(x) for x in (cc, vv, c, v)]).amax(0).clamp_min(torch.finfo(v.dtype).tiny)
    c, cc, v, vv = (x / rows(scale, x) for x in (c, cc, v, vv))
    return _Expansion(e.states, f, c, cc, v, vv)


def _backward(low: Tensor, high: Tensor, e: _Expansion, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Feed-forward (B, H, A) and gains (B, H, A, Z), from the distances to the bounds (B, H, A)."""
    z, joints = e.v.shape[1], low.shape[2]
    vx, vxx = e.v, e.vv
    eye = torch.eye(joints, dtype=vx.dtype, device=vx.device)
    feeds, gains = [], []
    for step in range(low.shape[1] - 1, -1, -1):
        f = e.f[:, step]
        q = e.c[:, step] + _product(f.transpose(1, 2), vx)
        qq = e.cc[:, step] + f.transpose(1, 2) @ vxx @ f
        # a sample whose value function has overflowed does not move, and its rejected step raises its damping
        sound = torch.isfinite(qq).flatten(1).all(1) & torch.isfinite(q).all(1)
        q = torch.where(rows(sound, q), q, torch.zeros_like(q))
        qq = torch.where(rows(sound, qq), qq, torch.eye(qq.shape[1], dtype=qq.dtype, device=qq.device))
        qu, quu, qux = q[:, z:], qq[:, z:, z:], qq[:, z:, :z]
        size = torch.maximum(largest(quu), largest(qu)).clamp_min(torch.finfo(q.dtype).tiny)
        outward = ((low[:, step] >= 0) & (qu > 0)) | ((high[:, step] <= 0) & (qu < 0))
        convex, held = convexified(quu / rows(size, quu), outward, torch.full_like(size, FLOOR[q.dtype]))
        near, far = (torch.where(held, torch.zeros_like(qu), x[:, step]) for x in (low, high))
        qp = solve_boxqp(convex + rows(damping, quu) * eye, qu / size[:, None], near, far)
        free = qp.free.to(q.dtype)
        gain = -torch.cholesky_solve(free[:, :, None] * qux / rows(size, qux), qp.factor)
        gain, feed = free[:, :, None] * gain, qp.x
        turned = gain.transpose(1, 2)
        vx = q[:, :z] + _product(turned, _product(quu, feed) + qu) + _product(qux.transpose(1, 2), feed)
        cross = turned @ qux
        vxx = qq[:, :z, :z] + turned @ quu @ gain + cross + cross.transpose(1, 2)
        vxx = 0.5 * (vxx + vxx.transpose(1, 2))
        feeds.append(feed)
        gains.append(gain)
    return torch.stack(feeds[::-1], dim=1), torch.stack(gains[::-1], dim=1)


def _forward(
    problem: Problem,
    form: LatentRollout,
    actions: Tensor,
    states: Tensor,
    policy: tuple[Tensor, Tensor, Tensor, Tensor],
    lengths: int,
) -> tuple[Tensor, Tensor]:
    """Rollouts of a + length * feed + gain (z' - z), kept in the box: actions (B, K L, H, A), their costs (B, K L).

    states and policy (feed-forward, gains, distances to the bounds) are those of B K backward passes.
    """
    batch, horizon, _ = actions.shape
    each = len(states) // batch * lengths
    several = problem.repeat(batch, each)
    scale = (0.5 ** torch.arange(lengths, dtype=actions.dtype, device=actions.device)).repeat(len(states))[:, None]
    old = actions.repeat_interleave(each, 0)
    feed, gain, low, high, track = (x.repeat_interleave(lengths, 0) for x in (*policy, states))
    lower, upper = several.lower.expand_as(old), several.upper.expand_as(old)
    full = (scale == 1)[:, None]
    # a whole step to a bound ends exactly there, rounding aside
    at_low, at_high = full & (feed <= low) & (low < 0), full & (feed >= high) & (high > 0)
    state, *rest = several.context
    chosen = []
    with torch.no_grad():
        for step in range(horizon):
            action = old[:, step] + scale * feed[:, step] + _product(gain[:, step], state - track[:, step])
            action = torch.maximum(torch.minimum(action, upper[:, step]), lower[:, step])
            action = torch.where(at_low[:, step], lower[:, step], action)
            action = torch.where(at_high[:, step], upper[:, step], action)
            chosen.append(action)
            if step + 1 < horizon:
                state = form.next_state(state, action, *form.at(step, *rest))
        trials = torch.stack(chosen, dim=1)
        cost = several.cost(trials)
    return trials.view(batch, each, *actions.shape[1:]), cost.view(batch, each)


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    """(B, m, n) (B, n) -> (B, m)."""
    return torch.bmm(matrix, vector[:, :, None]).squeeze(2)
