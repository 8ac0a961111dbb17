"""Readings of something that moves, in the order of their stamps, and what lies between two of them. numpy alone."""

from __future__ import annotations

import bisect

import numpy as np

WENT_BACK_NS = 1_000_000_000  # a stamp so far behind is a clock that began anew, not a message overtaken


class Readings:
    """Vectors (n,) by stamp [ns]. keep: how many at most, the newest; None: all."""

    def __init__(self, keep: int | None) -> None:
        self._keep = keep
        self._stamps: list[int] = []
        self._values: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._stamps)

    def __contains__(self, stamp_ns: int) -> bool:
        at = bisect.bisect_left(self._stamps, stamp_ns)
        return at < len(self._stamps) and self._stamps[at] == stamp_ns

    def add(self, stamp_ns: int, value: np.ndarray) -> None:
        """Take one reading; of two with one stamp the last counts."""
        if self._stamps and self._keep is not None and stamp_ns < self._stamps[-1] - WENT_BACK_NS:
            self.clear()
        at = bisect.bisect_left(self._stamps, stamp_ns)
        if at < len(self._stamps) and self._stamps[at] == stamp_ns:
            self._values[at] = value
            return
        self._stamps.insert(at, stamp_ns)
        self._values.insert(at, value)
        if self._keep is not None and len(self._stamps) > self._keep:
            del self._stamps[0], self._values[0]

    def around(self, stamp_ns: int) -> tuple[int, np.ndarray, np.ndarray, float]:
        """How far the nearest reading is [ns]; the ones before and after, and where between them (0 to 1) the stamp is.

        Before the first and after the last reading there is only that one. There must be a reading.
        """
        after = bisect.bisect_left(self._stamps, stamp_ns)
        low, high = max(after - 1, 0), min(after, len(self._stamps) - 1)
        first, last = self._stamps[low], self._stamps[high]
        nearest = min(abs(stamp_ns - first), abs(stamp_ns - last))
        share = 0.0 if last == first else min(max((stamp_ns - first) / (last - first), 0.0), 1.0)
        return nearest, self._values[low], self._values[high], share

    def clear(self) -> None:
        """Forget all."""
        self._stamps.clear()
        self._values.clear()
