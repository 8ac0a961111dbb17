"""From a sensor's frame to the contract's, and which points are inside its crop: the first thing done with a cloud.

A point that one axis rejects is looked at no further: the axis that rejects most is tried first, and coordinates are
computed and copied only for what is left. What becomes of the points then is clouds.py's job.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from difftop_ros.contract import CloudObs
from difftop_ros.contract.clouds import CloudSource
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.points import Points

SAMPLE = 512  # points by which it is told which axis rejects most
Rows = list[tuple[np.ndarray, np.float32]]  # of a transform: for each axis, three factors and a shift


def cropped(points: Points, source: CloudSource, obs: CloudObs) -> Points:
    """The finite points inside obs.crop, in obs.frame; in the order in which they were measured.

    Raises ObservationError for a cloud without points, one that is nearly all NaN, or in an unexpected frame.
    """
    rows = _rows(points, source, obs)
    xyz = [points.x, points.y, points.z]
    kept: np.ndarray | None = None
    found: dict[int, np.ndarray] = {}
    with np.errstate(all="ignore"):  # what is not finite fails every comparison
        for axis in _order(xyz, rows, obs):
            values = _along(axis, xyz, rows)
            inside = np.flatnonzero(_inside(axis, values, obs))
            if inside.size < values.size:
                values, xyz = values[inside], [coordinate[inside] for coordinate in xyz]
                found = {other: coordinates[inside] for other, coordinates in found.items()}
                kept = inside if kept is None else kept[inside]
            found[axis] = values
    index, colour = kept, points.colour
    reader = colour if colour is None or index is None else lambda some: colour(index[some])
    return Points(found[0], found[1], found[2], obs.frame, reader)


def extent(points: Points, source: CloudSource, obs: CloudObs) -> tuple[int, list[float], list[float]]:
    """How many points are finite, and from where to where [m] in obs.frame they reach: for a person to correct it."""
    rows, xyz = _rows(points, source, obs), [points.x, points.y, points.z]
    with np.errstate(all="ignore"):
        placed = np.stack([_along(axis, xyz, rows) for axis in range(3)])
    placed = placed[:, np.isfinite(placed).all(axis=0)]
    if not placed.size:
        return 0, [], []
    low, high = placed.min(axis=1), placed.max(axis=1)
    return placed.shape[1], [round(float(v), 3) for v in low], [round(float(v), 3) for v in high]


def refuse_blind(finite: int, measured: int, topic: str, obs: CloudObs) -> None:
    """Raises ObservationError when less than obs.min_finite of the measured points, but not none, are numbers."""
    if finite and finite < obs.min_finite * measured:
        raise ObservationError(
            f"{finite} of {measured} points measured on '{topic}' are numbers; min_finite is {obs.min_finite:g}: check "
            "the sensor, its range and its exposure"
        )


def _rows(points: Points, source: CloudSource, obs: CloudObs) -> Rows | None:
    """The transform into obs.frame; None for points that are there already."""
    measured = points.z.size
    if not measured:
        raise ObservationError(f"cloud on '{source.topic}' has no points at all; check the sensor")
    refuse_blind(int(np.count_nonzero(np.isfinite(points.z))), measured, source.topic, obs)
    transform = source.transform
    if points.frame_id == obs.frame:
        return None
    if transform is None or points.frame_id != transform.from_frame:
        known = f"'{obs.frame}'" + (f" or '{transform.from_frame}'" if transform else "")
        raise ObservationError(
            f"cloud on '{source.topic}' is in frame '{points.frame_id}'; the contract expects {known}: "
            f"give the contract a transform with from_frame: '{points.frame_id}'"
        )
    return list(zip(transform.rotation.astype(np.float32), np.array(transform.xyz, np.float32), strict=True))


def _along(axis: int, xyz: Sequence[np.ndarray], rows: Rows | None) -> np.ndarray:
    """Coordinates float32 (n,) [m] along an axis of the contract's frame."""
    if rows is None:
        return xyz[axis]
    (a, b, c), shift = rows[axis]
    values = a * xyz[0]
    values += b * xyz[1]
    values += c * xyz[2]
    values += shift
    return values


def _inside(axis: int, values: np.ndarray, obs: CloudObs) -> np.ndarray:
    if obs.crop is None:
        return np.isfinite(values)
    keep = values >= np.float32(obs.crop.min[axis])
    keep &= values <= np.float32(obs.crop.max[axis])
    return keep


def _order(xyz: Sequence[np.ndarray], rows: Rows | None, obs: CloudObs) -> list[int]:
    """The axes, the one first that keeps fewest of a sample."""
    step = max(xyz[0].size // SAMPLE, 1)
    sample = [coordinate[::step] for coordinate in xyz]
    left = [np.count_nonzero(_inside(axis, _along(axis, sample, rows), obs)) for axis in range(3)]
    return sorted(range(3), key=left.__getitem__)
