"""The quadratic model of `qn`: a damped, self-scaling BFGS matrix per sample, and its minimum inside a box.

Only elementwise operations, reductions and batched products on tensors of fixed shape: it can be compiled, captured and
differentiated. No cost is evaluated here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DENSE = 64  # up to so many variables, or twice the number of updates, the matrix itself is kept
FIRST_PASS = 3  # conjugate-gradient steps: few, because the model is a scaled identity plus a few directions
SECOND_PASS = 2  # they go on from the first pass
TRUSTED = 0.2  # Powell: measured curvature below this share of the model's is mixed with the model's
SMALLEST_SCALING = 0.2
STEEP = 0.1  # a step of the passes must be as steep as this share of the projected gradient's step
TINY = 1e-30  # a curvature below it is no curvature


class Base(NamedTuple):
    """A curvature shared by a batch: `top` () times `matrix` (n, n), whose eigenvalues are at most 1."""

    top: Tensor
    matrix: Tensor


class Model(NamedTuple):
    """B = `memory` (B, n, n) if dense; else `scale` (B,) times the base's matrix, or the identity without a base, plus

    `memory` (B, 2 K, n) of rank-one terms v v', of sign + and - by turns. `fresh` (B,): no update was learnt yet, and
    nothing is known but the scale.
    """

    scale: Tensor
    fresh: Tensor
    memory: Tensor
    base: Base | None = None


def is_dense(n: int, updates: int) -> bool:
    """Whether the matrix is kept for n variables and so many updates: else its rank-one terms take less."""
    return n <= max(DENSE, 2 * updates)


def base_of(curvature: Tensor) -> Base | None:
    """The base of a curvature (n, n); None if it is not positive definite."""
    top = curvature.abs().sum(1).amax()  # Gershgorin's bound of the eigenvalues
    return None if int(torch.linalg.cholesky_ex(curvature / top).info) else Base(top, curvature / top)


def known_model(base: Base, batch: int, updates: int) -> Model:
    """The model of a known curvature, for a batch; with rank-one terms, so that all share the matrix."""
    memory = base.matrix.new_zeros(batch, 2 * updates, len(base.matrix))
    return Model(base.top.repeat(batch), torch.zeros_like(memory[:, 0, 0], dtype=torch.bool), memory, base)


def new_model(scale: Tensor, n: int, updates: int) -> Model:
    """`scale` (B,) times the identity."""
    if is_dense(n, updates):
        memory = scale[:, None, None] * torch.eye(n, dtype=scale.dtype, device=scale.device)
    else:
        memory = scale.new_zeros(scale.shape[0], 2 * updates, n)
    return Model(scale, torch.ones_like(scale, dtype=torch.bool), memory)


def product(model: Model, vector: Tensor, dense: bool) -> Tensor:
    """B v for vector (B, n)."""
    if dense:
        return _times(model.memory, vector, symmetric=True)
    inner = _times(model.memory, vector) * _signs(model.memory)
    based = vector if model.base is None else vector @ model.base.matrix
    return torch.addcmul(_times(model.memory.transpose(1, 2), inner), model.scale[:, None], based)


def learn_from(model: Model, step: Tensor, change: Tensor, learn: Tensor, dense: bool) -> Model:
    """The model after a step s (B, n) and its gradient change y (B, n), where `learn` (B,).

    A sample's first update rescales its starting model to y'y / s'y; later ones shrink the model towards a smaller
    measured curvature by the root of the ratio (self-scaling: a first scale that was too large is shed sooner). Where
    s'y is below TRUSTED s'Bs or negative, y is mixed with Bs so that the model stays positive definite (Powell).
    Denominators are replaced where they are not used: a part not taken has no derivative that could be NaN.
    """
    curvature, square = _dot(step, change), _dot(change, change)
    one = torch.ones_like(curvature)
    convex = learn & (curvature > 1e-12 * square)
    first = convex & model.fresh
    wanted = square / torch.where(first, curvature, one)
    grow = torch.where(first, wanted / model.scale, one)  # the fresh model is its scale times the identity
    scale = grow * model.scale
    memory = grow[:, None, None] * model.memory if dense else model.memory
    bs = product(Model(scale, model.fresh, memory, model.base), step, dense)
    sbs = _dot(step, bs)
    trusted = convex & ~first & (curvature > TRUSTED * sbs)
    shrink = torch.where(trusted, curvature / torch.where(trusted, sbs, one), one).clamp(SMALLEST_SCALING, 1.0).sqrt()
    bs, sbs = shrink[:, None] * bs, shrink * sbs
    damped = curvature < TRUSTED * sbs
    theta = torch.where(damped, (1 - TRUSTED) * sbs / torch.where(damped, sbs - curvature, one), one)
    y = torch.lerp(bs, change, theta[:, None])
    sy = _dot(step, y)
    usable = learn & (sy > TINY) & (sbs > TINY)
    plus = y * torch.where(usable, sy, one).rsqrt().masked_fill(~usable, 0.0)[:, None]
    minus = bs * torch.where(usable, sbs, one).rsqrt().masked_fill(~usable, 0.0)[:, None]
    if dense:
        memory = shrink[:, None, None] * memory
        memory = torch.addcmul(memory, plus[:, :, None], plus[:, None])
        memory = torch.addcmul(memory, minus[:, :, None], minus[:, None], value=-1)
    else:
        kept = shrink.sqrt()[:, None, None] * memory[:, 2:]
        memory = torch.cat([kept, plus[:, None], minus[:, None]], dim=1)
    return Model(shrink * scale, model.fresh & ~learn, memory, model.base)


def minimise_in_box(model: Model, gradient: Tensor, free: Tensor, low: Tensor, high: Tensor, dense: bool) -> Tensor:
    """The step d (B, n), low <= d <= high, that about minimises g'd + 1/2 d'Bd over the `free` coordinates (0 or 1).

    A first pass solves for all free ones; those it pushes out of the box stay on their bound in the second, which goes
    on from the first. A third pass, and more steps in these, changed no result that was measured.
    """
    small = torch.finfo(gradient.dtype).eps ** 2 * _dot(gradient, gradient) + torch.finfo(gradient.dtype).tiny
    target = -free * gradient
    wanted = _solve(model, free, target, torch.zeros_like(gradient), FIRST_PASS, small, dense)
    inside = torch.maximum(torch.minimum(wanted, high), low)
    held = inside != wanted
    fixed = inside.masked_fill(~held, 0.0)
    free = free.masked_fill(held, 0.0)
    guess = free * wanted
    residual = free * (target - product(model, fixed + guess, dense))
    wanted = _solve(model, free, residual, guess, SECOND_PASS, small, dense)
    step = fixed + free * torch.maximum(torch.minimum(wanted, high), low)
    return _downhill(gradient, step, torch.maximum(torch.minimum(-gradient / model.scale[:, None], high), low))


def _downhill(gradient: Tensor, step: Tensor, projected: Tensor) -> Tensor:
    """The step (B, n), or where it is less steep than a share of the projected gradient's step, that one.

    A coordinate that a pass has put on its bound stays there though the others may ask it back: such a step can lead
    uphill, and shortening it does not help. The projected gradient's always leads downhill.
    """
    steep = _dot(gradient, step) <= STEEP * _dot(gradient, projected)
    return torch.where(steep[:, None], step, projected)


def _solve(
    model: Model, free: Tensor, residual: Tensor, guess: Tensor, steps: int, small: Tensor, dense: bool
) -> Tensor:
    """Conjugate gradients for B_FF x = target_F from `guess` (zero off F, like its `residual`), so many steps.

    `small` (B,), what a residual's square is worth nothing below, keeps 0 / 0 and its derivative at bay.
    """
    solved, direction, square = guess, residual, _dot(residual, residual)
    for left in reversed(range(steps)):
        image = free * product(model, direction, dense)
        alpha = (square / (_dot(direction, image) + model.scale * small))[:, None]
        solved = torch.addcmul(solved, alpha, direction)
        if left:
            residual = torch.addcmul(residual, alpha, image, value=-1)
            new_square = _dot(residual, residual)
            direction = torch.addcmul(residual, (new_square / (square + small))[:, None], direction)
            square = new_square
    return solved


def _dot(one: Tensor, two: Tensor) -> Tensor:
    """(B, n), (B, n) -> (B,)."""
    return (one * two).sum(1)


def _times(matrix: Tensor, vector: Tensor, symmetric: bool = False) -> Tensor:
    """(B, m, n) times (B, n) -> (B, m); written out where a compiler fuses it, which sums best over rows."""
    if torch.compiler.is_compiling():
        return (matrix * vector[:, :, None]).sum(1) if symmetric else (matrix * vector[:, None]).sum(2)
    return torch.bmm(matrix, vector[:, :, None]).squeeze(2)


def _signs(memory: Tensor) -> Tensor:
    """+1 and -1 by turns, (2 K,)."""
    return 1.0 - 2.0 * (torch.arange(memory.shape[1], device=memory.device) % 2).to(memory.dtype)
