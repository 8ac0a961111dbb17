"""What the camera sees as a distance field: a grid in the base frame whose cells know how far the next point is.

One pass over the cloud per plan, then one look-up of eight cells per query: the cost of a solve does not grow with the
cloud.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

AT_ONCE = 2_000_000  # pairs of a point and a cell near it whose distances are taken at once


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

    def field(self, points: np.ndarray, reach: float) -> np.ndarray:
        """Distance float32 `size` [m] of every cell's centre to the nearest point, `reach` [m] where that is farther.

        points float (n, 3) [m]; those outside the grid, or not finite, do not count.
        """
        where = (points - np.array(self.corner)) / self.cell
        inside = np.isfinite(where).all(1) & (where >= -0.5).all(1) & (where < np.array(self.size) - 0.5).all(1)
        field = torch.full((int(np.prod(self.size)),), reach)
        most = int(np.ceil(reach / self.cell)) + 1
        chunk = max(AT_ONCE // (2 * most + 1) ** 3, 1)
        for begin in range(0, int(inside.sum()), chunk):
            self._lower(field, torch.from_numpy(where[inside][begin : begin + chunk]).float(), most)
        return field.view(self.size).numpy()

    def _lower(self, field: Tensor, where: Tensor, most: int) -> None:
        """Lowers the flat `field` to the distances of points `where` (n, 3), in cells, `most` cells around each."""
        steps = torch.arange(-most, most + 1)
        flat: Tensor | int = 0
        squared: Tensor | float = 0.0
        for axis, size in enumerate(self.size):
            cells = (where[:, axis].round().long()[:, None] + steps).clamp_(0, size - 1)  # (n, K)
            shape = [len(where), 1, 1, 1]
            shape[axis + 1] = len(steps)
            squared = squared + (cells - where[:, axis, None]).square().view(shape)
            flat = flat * size + cells.view(shape)
        assert isinstance(flat, Tensor) and isinstance(squared, Tensor)
        field.scatter_reduce_(0, flat.flatten(), squared.sqrt_().mul_(self.cell).flatten(), "amin")

    def lookup(self, field: Tensor, points: Tensor) -> Tensor:
        """Trilinear value (B, ...) of field (B, X, Y, Z) at points (B, ..., 3); outside, that of the nearest cell."""
        size = points.new_tensor(self.size)
        place = (points - points.new_tensor(self.corner)) / self.cell
        place = torch.minimum(place.clamp_min(0.0), size - 1.001).flatten(1, -2)
        low = place.detach().floor()
        share = place - low
        strides = (self.size[1] * self.size[2], self.size[2], 1)
        first = (low[..., 0] * strides[0] + low[..., 1] * strides[1] + low[..., 2]).long()
        corners = [sum(a * b for a, b in zip(far, strides, strict=True)) for far in itertools.product((0, 1), repeat=3)]
        index = first[..., None] + torch.tensor(corners, device=points.device)
        values = field.flatten(1).gather(1, index.flatten(1)).unflatten(1, (-1, 2, 2, 2))
        for axis in range(3):  # x first: the cells that differ in it are the two halves
            part = share[..., axis].view(*share.shape[:2], *[1] * (2 - axis))
            values = values[:, :, 0] * (1.0 - part) + values[:, :, 1] * part
        return values.view(points.shape[:-1])
