"""Box-constrained quadratic programs, a batch at once, by projected Newton. No trajectory and no network here.

min 1/2 x'Hx + g'x over low <= x <= high: Bertsekas, "Projected Newton methods for optimization problems with simple
constraints" (1982); Tassa, Mansard and Todorov, "Control-limited differential dynamic programming" (2014), appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LENGTHS = 8  # step lengths 1, 1/2, 1/4, ... tried at once
ARMIJO = 0.1


@dataclass(frozen=True)
class BoxQp:
    """The minimiser x (B, n), free (B, n) coordinates not held by a bound, and factor (B, n, n): the lower Cholesky
    factor of H with the held rows and columns replaced by those of the identity."""

    x: Tensor
    free: Tensor
    factor: Tensor


def lift(hessian: Tensor, floor: Tensor) -> Tensor:
    """H (B, n, n) where its eigenvalues all exceed `floor` (B,); else each is replaced by max(|eigenvalue|, floor).

    The absolute value keeps the scale of a direction of negative curvature, where the quadratic model has no minimum.
    Expects finite entries.
    """
    eye = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
    bad = torch.linalg.cholesky_ex(hessian - floor[:, None, None] * eye).info != 0
    if not bool(bad.any()):
        return hessian
    values, vectors = torch.linalg.eigh(hessian[bad])
    values = torch.maximum(values.abs(), floor[bad, None])
    lifted = hessian.clone()
    lifted[bad] = (vectors * values[:, None]) @ vectors.transpose(1, 2)
    return lifted


def convexified(hessian: Tensor, held: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """A positive definite Hessian (B, n, n), and the coordinates (B, n) that a step with it must leave where they are.

    Where H is not positive definite, the coordinates `held` by a bound now are taken out of it (their rows and columns
    become those of the identity) before the rest is lifted: at a minimum on a bound only the free block need be
    positive, and lifting the whole would spoil Newton's step on it. Where H is, no coordinate is left out.
    """
    eye = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
    indefinite = torch.linalg.cholesky_ex(hessian - floor[:, None, None] * eye).info != 0
    if not bool(indefinite.any()):
        return hessian, torch.zeros_like(held)
    held = held & indefinite[:, None]
    return lift(masked(hessian, (~held).to(hessian.dtype)), floor), held


def solve_boxqp(
    hessian: Tensor, gradient: Tensor, low: Tensor, high: Tensor, start: Tensor | None = None, passes: int = 50
) -> BoxQp:
    """Minimise 1/2 x'Hx + g'x in the box; hessian (B, n, n) positive definite (see `lift`), the rest (B, n).

    start: (B, n), clamped into the box; zero without one. Every problem is independent. It ends once the projected
    gradient is at rounding level or no step length lowers the objective; each pass holds the coordinates at a bound
    whose gradient pushes outwards, takes the Newton step of the others and searches along the projected arc.
    """
    x = torch.zeros_like(gradient) if start is None else start
    x = torch.maximum(torch.minimum(x, high), low)
    free, factor, newton = _newton(hessian, gradient, low, high, x)
    full = torch.maximum(torch.minimum(x + newton, high), low)
    if bool((full == x + newton).all()) and bool(free.all()):
        return BoxQp(full, free, factor)  # the unconstrained minimiser lies inside every box
    lengths = 0.5 ** torch.arange(LENGTHS, dtype=x.dtype, device=x.device)
    running = torch.ones_like(x[:, 0], dtype=torch.bool)
    for _ in range(passes):
        arc = x[:, None] + lengths[:, None] * newton[:, None]
        arc = torch.maximum(torch.minimum(arc, high[:, None]), low[:, None])
        moved = arc - x[:, None]
        slope = _times(hessian, x) + gradient
        # differences of the objective, free of its magnitude's rounding
        change = torch.einsum("bkn,bn->bk", moved, slope) + 0.5 * torch.einsum("bkn,bnm,bkm->bk", moved, hessian, moved)
        enough = change <= ARMIJO * torch.einsum("bkn,bn->bk", moved, slope)
        enough &= change < 0
        first = enough.to(torch.uint8).argmax(1)
        index = torch.arange(len(x), device=x.device)
        running = running & enough.any(1)
        whole = (first == 0) & (arc[:, 0] == x + newton).all(1)
        x = torch.where(running[:, None], arc[index, first], x)
        if not bool(running.any()):
            break
        before = free
        free, factor, newton = _newton(hessian, gradient, low, high, x)
        running = running & ~(whole & (free == before).all(1))  # that step was exact: the rest is rounding
        if not bool(running.any()):
            break
    return BoxQp(x, free, factor)


def _newton(hessian: Tensor, gradient: Tensor, low: Tensor, high: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The free mask, the factor and the Newton step on the free coordinates at x."""
    slope = _times(hessian, x) + gradient
    held = ((x <= low) & (slope > 0)) | ((x >= high) & (slope < 0)) | (low >= high)
    mask = (~held).to(x.dtype)
    factor = torch.linalg.cholesky_ex(masked(hessian, mask)).L
    return ~held, factor, mask * -torch.cholesky_solve((mask * slope)[:, :, None], factor).squeeze(2)


def masked(hessian: Tensor, mask: Tensor) -> Tensor:
    """H with the rows and columns where mask (B, n) is 0 replaced by those of the identity."""
    return hessian * mask[:, :, None] * mask[:, None] + torch.diag_embed(1 - mask)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.bmm(matrix, vector[:, :, None]).squeeze(2)
