"""Which things in a cloud move, and where they will be: clusters of points found again a fifth of a second later.

A thing is one that is as large as it was: what the arm hides in part changes its size, and keeps the velocity it had.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

APART_M = 0.05  # points nearer to each other are of one thing
FEWEST = 6  # points of a thing whose motion is told
SPAN_S, LEAST_S = 0.2, 0.1  # between two looks that are compared: about so long, and no less
SAME_SIZE_M = 0.04  # two looks at one thing differ less in each of its extents
SLOWEST, FASTEST = 0.08, 1.5  # [m/s]; slower is noise, faster is another thing
KEPT_S = 0.4  # for so long a thing that was not recognised keeps its velocity
STEP_M = 0.02  # between copies along the way of what moves


@dataclass(frozen=True)
class _Thing:
    """rows: of its points; centre and size (3,) of the box around them [m]."""

    rows: np.ndarray
    centre: np.ndarray
    size: np.ndarray


class Motion:
    """Remembers what was seen for a moment. Used by one thread."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, list[_Thing]]] = []
        self._known: list[tuple[float, np.ndarray, np.ndarray]] = []  # time, centre, velocity of what moved

    def ways(self, points: np.ndarray, time_s: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """What moves of points (n, 3) [m] seen at `time_s`: the points (k, 3) of each thing and its velocity (3,)."""
        things = _things(points)
        self._looks = [look for look in self._looks if 0 <= time_s - look[0] <= 2 * SPAN_S]
        old = [look for look in self._looks if time_s - look[0] >= LEAST_S]
        before = min(old, key=lambda look: abs(time_s - look[0] - SPAN_S), default=None)
        self._known = [known for known in self._known if 0 <= time_s - known[0] <= KEPT_S]
        moving: list[tuple[np.ndarray, np.ndarray]] = []
        found: list[tuple[float, np.ndarray, np.ndarray]] = []
        for thing in things if before else ():
            assert before is not None
            since, velocity = self._velocity(thing, time_s, *before)
            if velocity is None or np.linalg.norm(velocity) < SLOWEST:
                continue
            found.append((since, thing.centre, velocity))
            moving.append((points[thing.rows], velocity))
        self._known = found or self._known
        self._looks.append((time_s, things))
        return moving

    def _velocity(
        self, thing: _Thing, time_s: float, before_s: float, before: list[_Thing]
    ) -> tuple[float, np.ndarray | None]:
        """When it was told last and how fast it moves (3,) [m/s], None where that is not known."""
        span = time_s - before_s
        same = [
            other for other in before
            if (np.abs(other.size - thing.size) < SAME_SIZE_M).all()
            and np.linalg.norm(other.centre - thing.centre) < FASTEST * span
        ]  # fmt: skip
        if same:
            nearest = min(same, key=lambda other: float(np.linalg.norm(other.centre - thing.centre)))
            return time_s, (thing.centre - nearest.centre) / span
        for since, centre, velocity in self._known:
            if np.linalg.norm(centre + velocity * span - thing.centre) < FASTEST * span:
                return since, velocity
        return time_s, None


def along(ways: list[tuple[np.ndarray, np.ndarray]], span_s: float) -> np.ndarray:
    """Copies float32 (k, 3) [m] of what moves on its way of the next `span_s`, or of the last if it is negative."""
    copies = [np.empty((0, 3), np.float32)]
    for points, velocity in ways:
        count = int(np.ceil(np.linalg.norm(velocity) * abs(span_s) / STEP_M))
        steps = span_s * np.arange(1, count + 1) / max(count, 1)
        copies.append((points + steps[:, None, None] * velocity).reshape(-1, 3).astype(np.float32))
    return np.concatenate(copies)


def _things(points: np.ndarray) -> list[_Thing]:
    if len(points) < FEWEST:
        return []
    pairs = cKDTree(points).query_pairs(APART_M, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(points), len(points)))
    count, label = connected_components(graph, directed=False)
    rows = [np.flatnonzero(label == index) for index in range(count)]
    boxes = [(mine, points[mine].min(0), points[mine].max(0)) for mine in rows if len(mine) >= FEWEST]
    return [_Thing(mine, (low + high) / 2, high - low) for mine, low, high in boxes]
