"""A voxel grid over points: which points share a cell, and the means of what belongs to them."""

from __future__ import annotations

import numpy as np


class Voxels:
    """Cells of a grid of multiples of `size_m` [m] that hold any of the points x, y, z (n,) each [m].

    means: float32 (cells, 3), the mean point of each. Cells come in the order of x, y, z, so that the result depends
    neither on the order of the points nor, elsewhere in the cloud, on where its outermost point lies.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, size_m: float) -> None:
        self._order, self._first = _grouped([_cells(axis, size_m) for axis in (x, y, z)])
        self._counts = np.diff(self._first, append=x.size)
        self.means = np.empty((self._first.size, 3), np.float32)
        for column, axis in enumerate((x, y, z)):
            sums = np.add.reduceat(axis[self._order], self._first, dtype=np.float64)
            np.divide(sums, self._counts, out=self.means[:, column], casting="same_kind")

    def points_in(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the cells `chosen` (k,): the indices of their points, one cell after the other, and where each begins."""
        counts = self._counts[chosen]
        begin = np.cumsum(counts) - counts
        within = np.arange(int(counts.sum())) - np.repeat(begin, counts)
        return self._order[np.repeat(self._first[chosen], counts) + within], begin


def means_of(values: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Means float32 (k, c) of consecutive rows of `values` (n, c), a group beginning at each of `begin` (k,)."""
    counts = np.diff(begin, append=len(values))
    return (np.add.reduceat(values, begin, axis=0, dtype=np.float64) / counts[:, None]).astype(np.float32)


def _cells(axis: np.ndarray, size_m: float) -> np.ndarray:
    """Float64 (n,) cell numbers, the lowest 0."""
    cells = np.multiply(axis, 1.0 / size_m, dtype=np.float64)
    np.floor(cells, out=cells)
    cells -= cells.min()
    return cells


def _grouped(cells: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The points' indices (n,), those of one cell together, and where each cell begins among them."""
    spans = [float(axis.max()) + 1 for axis in cells]
    count = spans[0] * spans[1] * spans[2]
    if count >= 2.0**53:  # a point very far away: no number tells all cells apart
        order = np.lexsort(cells[::-1])
        return order, _begins(np.stack([axis[order] for axis in cells]))
    number = cells[0] * (spans[1] * spans[2])
    number += cells[1] * spans[2]
    number += cells[2]
    key: np.ndarray = number.astype(np.uint32 if count <= 2.0**32 else np.uint64)
    # Sixteen bits at a time, the lowest first: numpy sorts those by counting, which is several times faster than
    # comparing.
    order = np.argsort(key.astype(np.uint16), kind="stable")
    for shift in range(16, int(count - 1).bit_length(), 16):
        order = order[np.argsort((key >> shift).astype(np.uint16)[order], kind="stable")]
    return order, _begins(key[order][None])


def _begins(keys: np.ndarray) -> np.ndarray:
    """Where the columns of `keys` (k, n) change, with 0."""
    changes = (keys[:, 1:] != keys[:, :-1]).any(axis=0) if len(keys) > 1 else keys[0, 1:] != keys[0, :-1]
    return np.concatenate([[0], np.flatnonzero(changes) + 1])
