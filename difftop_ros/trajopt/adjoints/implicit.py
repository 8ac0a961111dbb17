"""The implicit adjoint: how a* moves with the problem's parameters, from the optimality condition alone.

On the free coordinates F the solution satisfies dJ/da_F = 0, so da_F*/dtheta = -H_FF^-1 d(dJ/da_F)/dtheta (implicit
function theorem); a coordinate held by a bound moves with that bound, and takes the free ones along by -H_FF^-1 H_FA.
The forward value stays a*: nothing acts on one iterate and trains on another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from difftop_ros.trajopt.adjoints.once import saved_for_backward
from difftop_ros.trajopt.boxqp import lift
from difftop_ros.trajopt.derivatives import jacobian, vector_products
from difftop_ros.trajopt.options import SolverOptions, Status
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, rows

CG_ROUNDINGS = 100  # relative residual, in roundings of the dtype, at which conjugate gradients have solved a sample


def attach_implicit(problem: Problem, solution: Solution, options: SolverOptions) -> Tensor:
    """Actions (B, H, A) equal to the solution's, whose backward pass reaches the problem's parameters and tensors.

    Samples flagged NONFINITE get zero gradient. Another sample's problem is evaluated in their place, its share of the
    gradient multiplied by zero: they cannot spread, and the others see a batch of the same size as without them.
    """
    good = solution.status != int(Status.NONFINITE)
    if bool(good.all()):
        return _attach(problem, solution.actions, options)
    if not bool(good.any()):
        return solution.actions
    own = torch.arange(len(good), device=good.device)
    stand_in = torch.where(good, own, good.to(torch.uint8).argmax())
    attached = _attach(problem.select(stand_in), solution.actions[stand_in], options)
    return torch.where(rows(good, attached), attached, solution.actions)


def _attach(problem: Problem, optimum: Tensor, options: SolverOptions) -> Tensor:
    leaf = optimum.detach().requires_grad_()
    if not (problem.lower.requires_grad or problem.upper.requires_grad):
        _, gradient = problem.value_and_gradient(leaf, graph=True)
        low, high = _held(problem, optimum, gradient.detach())
        return _ImplicitStep.apply(gradient, leaf, ~(low | high), options) if _depends(gradient, leaf) else optimum
    _, gradient = problem.value_and_gradient(optimum)
    low, high = _held(problem, optimum, gradient)

    def on_bounds(other: Tensor) -> Tensor:
        return torch.where(low, problem.lower, torch.where(high, problem.upper, other))

    with torch.enable_grad():
        point = on_bounds(leaf)
        _, gradient = problem.value_and_gradient(point, graph=True)
        step = _ImplicitStep.apply(gradient, point, ~(low | high), options) if gradient.requires_grad else optimum
        return on_bounds(step)


def _depends(gradient: Tensor, leaf: Tensor) -> bool:
    """Whether anything but `leaf` is behind the gradient: without, the solution is a constant and carries no graph.

    Parameters hide in the objective, so the graph is asked; it is left at the first one found.
    """
    open_nodes, seen = [gradient.grad_fn], set()
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and variable is not leaf:
            return True
        open_nodes += [following for following, _ in node.next_functions]
    return False


def _held(problem: Problem, optimum: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Which coordinates the lower and which the upper bound holds, (B, H, A) each, never both.

    A step to a bound, a + (bound - a), may end one rounding away from it; that is at the bound.
    """
    lower, upper = problem.lower.detach(), problem.upper.detach()
    width = upper - lower
    rounding = 4 * torch.finfo(optimum.dtype).eps
    width = torch.where(torch.isfinite(width), width, torch.ones_like(width))
    fixed = lower >= upper
    low = (optimum <= lower + rounding * (lower.abs() + width)) & (gradient > 0)
    high = (optimum >= upper - rounding * (upper.abs() + width)) & (gradient < 0)
    return low | (fixed & ~high), high


class _ImplicitStep(torch.autograd.Function):
    """Forward a*, backward -H_FF^-1 v handed to dJ/da, from where autograd goes on to the parameters."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, point: Tensor, free: Tensor, options: SolverOptions) -> Tensor:
        """`gradient` dJ/da at `point` with its graph, `free` mask; all (B, H, A)."""
        ctx.save_for_backward(gradient, point, free)
        ctx.options = options
        return point.detach().clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Solve H_FF w = v for the incoming v and return -w."""
        gradient, point, free = saved_for_backward(ctx)
        options: SolverOptions = ctx.options
        mask = free.flatten(1)
        target = torch.where(mask, grads[0].flatten(1), torch.zeros_like(grads[0].flatten(1)))
        wanted = mask.any(0).nonzero()[:, 0]  # products only for coordinates that are free in some sample
        if len(wanted) == 0:
            return torch.zeros_like(point), None, None, None
        if target.shape[1] <= options.dense_limit:
            with torch.enable_grad():
                hessian = jacobian(gradient, point, columns=wanted)
            assert hessian is not None
            solved = torch.zeros_like(target)
            solved[:, wanted] = _dense(hessian[:, :, wanted], target[:, wanted], mask[:, wanted], options)
            return -solved.view_as(point), None, None, None

        def product(vector: Tensor) -> Tensor:
            with torch.enable_grad():
                (found,) = vector_products(gradient, (point,), vector.view_as(point)[None])
            return torch.where(mask, found[0].flatten(1), torch.zeros_like(vector))

        return -_conjugate_gradients(product, target, options).view_as(point), None, None, None


def _dense(hessian: Tensor, target: Tensor, mask: Tensor, options: SolverOptions) -> Tensor:
    """Factor the reduced Hessian; if not all of its eigenvalues exceed the floor, they are lifted. Exact otherwise.

    A sample whose Hessian is not finite gets no gradient.
    """
    usable = torch.isfinite(hessian).flatten(1).all(1)
    both = mask[:, :, None] & mask[:, None] & usable[:, None, None]
    hessian = torch.where(both, 0.5 * (hessian + hessian.transpose(1, 2)), torch.zeros_like(hessian))
    hessian = hessian + torch.diag_embed((~(mask & usable[:, None])).to(hessian.dtype))
    floor = torch.full_like(target[:, 0], options.curvature_floor)
    factor = torch.linalg.cholesky_ex(lift(hessian, floor)).L
    solved = torch.cholesky_solve(target[:, :, None], factor).squeeze(2)
    return torch.where(mask & usable[:, None], solved, torch.zeros_like(solved))


def _conjugate_gradients(product: Callable[[Tensor], Tensor], target: Tensor, options: SolverOptions) -> Tensor:
    """Solve per sample by CG; a sample stops where its curvature is below the floor, or its residual is small.

    If that is so in the first direction, one step with the lifted curvature (its absolute value, at least the floor) is
    taken along it. A sample whose products are not finite gets no gradient.
    """
    zero = torch.zeros_like(target[:, 0])
    solved = torch.zeros_like(target)
    residual = direction = target
    square = start = residual.square().sum(1)
    tiny, enough = torch.finfo(target.dtype).tiny, (CG_ROUNDINGS * torch.finfo(target.dtype).eps) ** 2
    for index in range(options.cg_iterations):
        image = product(direction)
        usable = torch.isfinite(image).all(1)
        image = torch.where(usable[:, None], image, torch.zeros_like(image))
        curvature, length = (direction * image).sum(1), direction.square().sum(1)
        running = usable & (square > enough * start) & (length > 0)
        convex = curvature > options.curvature_floor * length
        lifted = torch.maximum(curvature.abs(), options.curvature_floor * length).clamp_min(tiny)
        alpha = torch.where(running & (convex | (index == 0)), square / lifted, zero)
        solved = torch.where(usable[:, None], solved + alpha[:, None] * direction, torch.zeros_like(solved))
        residual = residual - alpha[:, None] * image
        new_square = residual.square().sum(1)
        goes_on = running & convex
        if not bool(goes_on.any()):
            break
        beta = torch.where(goes_on, new_square / square.clamp_min(tiny), zero)
        direction = torch.where(goes_on[:, None], residual + beta[:, None] * direction, torch.zeros_like(direction))
        square = new_square
    return solved
