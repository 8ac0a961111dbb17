"""Running minimum, maximum, mean and standard deviation of arrays too large to hold. What uses them lives elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Each float64 (channels,): of the last axis over all others."""

    min: np.ndarray
    max: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    count: int


class RunningStatistics:
    """Feed blocks (..., channels) with `add`, read with `result`; Chan's update keeps long runs exact."""

    def __init__(self, channels: int) -> None:
        self._min = np.full(channels, np.inf)
        self._max = np.full(channels, -np.inf)
        self._mean = np.zeros(channels)
        self._square = np.zeros(channels)
        self._count = 0

    def add(self, block: np.ndarray) -> None:
        """Add values (..., channels) of any real dtype."""
        rows = np.asarray(block).reshape(-1, self._mean.size).astype(np.float64)
        if not rows.shape[0]:
            return
        mean = rows.mean(axis=0)
        shift = mean - self._mean
        total = self._count + rows.shape[0]
        self._square += ((rows - mean) ** 2).sum(axis=0) + shift**2 * (self._count * rows.shape[0] / total)
        self._mean += shift * (rows.shape[0] / total)
        self._count = total
        self._min = np.minimum(self._min, rows.min(axis=0))
        self._max = np.maximum(self._max, rows.max(axis=0))

    def result(self) -> Statistics:
        """What was seen so far; raises ValueError when that is nothing."""
        if not self._count:
            raise ValueError("no values were added; add a block before asking for the result")
        return Statistics(self._min, self._max, self._mean, np.sqrt(self._square / self._count), self._count)
