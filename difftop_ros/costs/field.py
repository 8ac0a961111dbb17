"""What the camera sees as a distance field: a grid in the base frame whose cells know how far the next point is.

One pass over the cloud per plan, then eight look-ups per query: the cost of a solve does not grow with the cloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Cells of edge `cell` [m]; corner: lowest x, y, z [m]; size: cells along x, y, z."""

    corner: tuple[float, float, float]
    size: tuple[int, int, int]
    cell: float = 0.02

    @classmethod
    def over(cls, low: Sequence[float], high: Sequence[float], cell: float = 0.02) -> Grid:
        """The grid that covers the box from `low` to `high` [m]."""
        size = tuple(int(np.ceil((h - lo) / cell)) + 1 for lo, h in zip(low, high, strict=True))
        return cls((low[0], low[1], low[2]), (size[0], size[1], size[2]), cell)

    def field(self, points: np.ndarray, least: int = 1) -> np.ndarray:
        """Distance float32 `size` [m] of every cell's centre to the next occupied cell's centre; inf-free.

        points float (n, 3) [m]; those outside the grid, or not finite, do not count. A cell is occupied from `least`
        points on, so that single flying pixels may be left out. No obstacle: everywhere the grid's diagonal.
        """
        where = np.floor((points - np.array(self.corner)) / self.cell + 0.5)
        inside = np.isfinite(where).all(1) & (where >= 0).all(1) & (where < np.array(self.size)).all(1)
        flat = np.ravel_multi_index(tuple(where[inside].astype(np.intp).T), self.size)
        free = np.bincount(flat, minlength=int(np.prod(self.size))).reshape(self.size) < least
        if free.all():
            return np.full(self.size, self.cell * float(np.linalg.norm(self.size)), np.float32)
        return (self.cell * distance_transform_edt(free)).astype(np.float32)

    def lookup(self, field: Tensor, points: Tensor) -> Tensor:
        """Trilinear value (B, ...) of field (B, X, Y, Z) at points (B, ..., 3); outside, that of the nearest cell."""
        size = points.new_tensor(self.size)
        place = (points - points.new_tensor(self.corner)) / self.cell
        place = torch.minimum(place.clamp_min(0.0), size - 1.001).flatten(1, -2)
        low = place.detach().floor()
        share = place - low
        strides = (self.size[1] * self.size[2], self.size[2], 1)
        first = (low[..., 0] * strides[0] + low[..., 1] * strides[1] + low[..., 2]).long()
        flat = field.flatten(1)
        total = torch.zeros_like(share[..., 0])
        for x in (0, 1):
            for y in (0, 1):
                for z in (0, 1):
                    sides = zip(share.unbind(-1), (x, y, z), strict=True)
                    weight = torch.stack([part if far else 1.0 - part for part, far in sides]).prod(0)
                    total = total + weight * flat.gather(1, first + x * strides[0] + y * strides[1] + z * strides[2])
        return total.view(points.shape[:-1])
