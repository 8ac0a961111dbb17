"""What a controller is told at each moment by trajectories that come now and then: set-points, as if sent one by one.

Pure numpy on way points that messages.commands has read; which set-point counts for a step is grid.py's to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from difftop_ros.data.errors import BagError

MOST = 2_000_000  # set-points of one bag
WayPoints = tuple[np.ndarray, np.ndarray]  # seconds after the start (n,), values (n, A)


def set_points(starts: np.ndarray, found: Sequence[WayPoints], until_ns: int, period_ns: int) -> WayPoints:
    """Stamps int64 (m,) [ns] and values (m, A) of the set-points, `period_ns` apart, that trajectories amount to.

    starts: int64 (k,) [ns], sorted, of the trajectories `found`. Each is interpolated between its points, to the first
    one from where the one before had got to, until its end, the next one's start or `until_ns`; a set-point is what is
    to be reached one period later, as in a trajectory of one point, which stays what it is. Raises BagError for
    trajectories so long that no recording can hold them.
    """
    stamps: list[np.ndarray] = []
    values: list[np.ndarray] = []
    reached: np.ndarray | None = None
    count = 0
    for start, end, (times, points) in zip(starts, [*starts[1:], until_ns], found, strict=True):
        if times.size == 1:
            stamps.append(np.array([start], np.int64))
            values.append(points)
            reached = points[-1]
            continue
        if times[0] > 0 and reached is not None and np.isfinite(reached).all():
            times, points = np.append(0.0, times), np.vstack([reached, points])
        lasts = min(max(int(end - start), 0), round(min(times[-1], 1e9) * 1e9))
        count += (size := max(1, -(-lasts // period_ns)))
        if count > MOST:
            raise BagError(f"a trajectory commanded at {start / 1e9:.1f} s lasts {times[-1]:g} s; correct its sender")
        at = np.arange(size) * period_ns
        stamps.append(start + at)
        ahead_s = np.append((at + period_ns) / 1e9, lasts / 1e9)
        followed = np.stack([np.interp(ahead_s, times, column) for column in points.T], axis=1)
        values.append(followed[:-1])
        reached = followed[-1]
    return np.concatenate(stamps), np.concatenate(values)
