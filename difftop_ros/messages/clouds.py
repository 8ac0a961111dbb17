"""From measured points to the cloud a policy sees: finite → frame → crop → voxel → outliers → N farthest points.

Cropping comes first because it is cheap and everything after it is not. Open3D finds outliers, fpsample the farthest
points; both are loaded only when a contract asks for them. Reading messages is points.py's job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from difftop_ros.contract import CloudObs
from difftop_ros.contract.clouds import COLOUR_TYPES, CloudSource
from difftop_ros.messages.compressed import decode_compressed
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.images import decode_colour, decode_depth
from difftop_ros.messages.points import Points, decode_point_cloud, depth_points, joined

DENSE_CELLS = 2_000_000  # a grid of no more cells is counted whole, which is faster than sorting points


def cloud_frame(obs: CloudObs, messages: Mapping[str, Any]) -> np.ndarray:
    """The frame of all the cloud's cameras as process_cloud makes it. Raises ObservationError."""
    parts = [_placed(_measured(source, obs, messages), source, obs) for source in obs.sources]
    return process_cloud(parts[0] if len(parts) == 1 else joined(parts), obs)


def _measured(source: CloudSource, obs: CloudObs, messages: Mapping[str, Any]) -> Points:
    message = messages[source.topic]
    if source.camera_info is None:
        return decode_point_cloud(message, source.topic, obs.color, obs.max_mb)
    depth = decode_depth(message, source.topic, source.depth_unit_m, obs.max_pixels)
    seen = np.isfinite(depth) & (depth > 0)
    _refuse_blind(int(seen.sum()), depth.size, source.topic, obs)
    info, frame_id = messages[source.camera_info], message.header.frame_id
    picture = _colour_of(depth, source, obs, messages) if obs.color else None
    return depth_points(depth, info, source.depth_range_m, source.topic, frame_id, source.is_rectified, picture)


def _colour_of(depth: np.ndarray, source: CloudSource, obs: CloudObs, messages: Mapping[str, Any]) -> np.ndarray:
    """Uint8 (h, w, 3) of the colour picture that is registered to the depth picture (h, w)."""
    topic = str(source.color_image)
    decode = decode_compressed if source.color_type == COLOUR_TYPES[1] else decode_colour
    picture = decode(messages[topic], topic, obs.max_pixels)
    if picture.shape[:2] != depth.shape:
        raise ObservationError(
            f"picture on '{topic}' is {picture.shape[1]} x {picture.shape[0]}, the depth on '{source.topic}' "
            f"{depth.shape[1]} x {depth.shape[0]}; color_image must be registered to the depth: choose that topic"
        )
    return picture


def process_cloud(points: Points, obs: CloudObs) -> np.ndarray:
    """Float32 (obs.points, 3), or (obs.points, 6) with colour 0..1; xyz [m] in obs.frame.

    Fewer points than asked for are repeated in order. Raises ObservationError for an unexpected frame id, for a sensor
    that sees nothing or next to nothing, and for a cloud that is empty after the crop.
    """
    measured = points.x.size
    points = _placed(points, obs.sources[0], obs)
    xyz = (points.x, points.y, points.z)
    kept = _finite_and_cropped(xyz, obs)
    if not kept.size:
        _complain_of_emptiness(xyz, obs, measured)
    if kept.size < obs.fewest_points:
        raise ObservationError(
            f"cloud on '{obs.topic}' has {kept.size} points after the crop; min_points is {obs.fewest_points}: check "
            "the sensor, or lower min_points"
        )
    cloud = np.stack([axis[kept] for axis in xyz], axis=1)
    colour = points.colour(kept) if obs.color and points.colour is not None else None
    cloud, colour = _thin(cloud, colour, obs)
    index = farthest_points(cloud, obs.points)
    if colour is None:
        return cloud[index]
    return np.concatenate([cloud[index], colour[index]], axis=1)


def _refuse_blind(finite: int, measured: int, topic: str, obs: CloudObs) -> None:
    if finite and finite < obs.min_finite * measured:
        raise ObservationError(
            f"{finite} of {measured} points measured on '{topic}' are numbers; min_finite is {obs.min_finite:g}: check "
            "the sensor, its range and its exposure"
        )


def _placed(points: Points, source: CloudSource, obs: CloudObs) -> Points:
    """The points in the contract's frame; those that are there already, as they are."""
    measured = points.x.size
    if not measured:
        raise ObservationError(f"cloud on '{source.topic}' has no points at all; check the sensor")
    _refuse_blind(int(np.isfinite(points.z).sum()), measured, source.topic, obs)
    transform = source.transform
    if points.frame_id == obs.frame:
        return points
    if transform is None or points.frame_id != transform.from_frame:
        known = f"'{obs.frame}'" + (f" or '{transform.from_frame}'" if transform else "")
        raise ObservationError(
            f"cloud on '{source.topic}' is in frame '{points.frame_id}'; the contract expects {known}: "
            f"give the contract a transform with from_frame: '{points.frame_id}'"
        )
    rotation = transform.rotation.astype(np.float32)
    shift = np.array(transform.xyz, np.float32)
    with np.errstate(all="ignore"):  # what is not finite is dropped later
        x, y, z = (
            r[0] * points.x + r[1] * points.y + r[2] * points.z + t for r, t in zip(rotation, shift, strict=True)
        )
    return Points(x, y, z, obs.frame, points.colour)


def _finite_and_cropped(xyz: tuple[np.ndarray, ...], obs: CloudObs) -> np.ndarray:
    """Indices of the points to keep; NaN fails every comparison and infinity every bound, so a crop drops both."""
    with np.errstate(invalid="ignore"):
        if obs.crop is None:
            return np.flatnonzero(np.isfinite(xyz[0]) & np.isfinite(xyz[1]) & np.isfinite(xyz[2]))
        keep = np.ones(xyz[0].size, bool)
        for axis, low, high in zip(xyz, obs.crop.min, obs.crop.max, strict=True):
            keep &= axis >= np.float32(low)
            keep &= axis <= np.float32(high)
        return np.flatnonzero(keep)


def _complain_of_emptiness(xyz: tuple[np.ndarray, ...], obs: CloudObs, measured: int) -> None:
    finite = np.isfinite(xyz[0]) & np.isfinite(xyz[1]) & np.isfinite(xyz[2])
    if obs.crop is None or not finite.any():
        raise ObservationError(
            f"cloud on '{obs.topic}' has {measured} points and none of them is finite; check the sensor, its range "
            "and its exposure"
        )
    low = [round(float(axis[finite].min()), 3) for axis in xyz]
    high = [round(float(axis[finite].max()), 3) for axis in xyz]
    raise ObservationError(
        f"cloud is empty after the crop: '{obs.topic}' measured {int(finite.sum())} points from {low} to {high} in "
        f"'{obs.frame}', the crop keeps {list(obs.crop.min)} to {list(obs.crop.max)}: correct the crop or the transform"
    )


def _thin(cloud: np.ndarray, colour: np.ndarray | None, obs: CloudObs) -> tuple[np.ndarray, np.ndarray | None]:
    """Voxel grid, then statistical outliers, as the contract says. (n, 3) and (n, 3) | None in and out, float32."""
    if obs.voxel_m is None and obs.outliers is None:
        return cloud, colour
    if obs.voxel_m is not None:
        cloud, colour = voxel_means(cloud, colour, obs.voxel_m)
    # With no more points than neighbours there is no statistic to be an outlier of.
    if obs.outliers is None or len(cloud) <= obs.outliers.neighbours:
        return cloud, colour
    import open3d as o3d

    geometry = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.astype(np.float64)))
    _, kept = geometry.remove_statistical_outlier(obs.outliers.neighbours, obs.outliers.std_ratio)
    if not len(kept):
        raise ObservationError(
            f"cloud on '{obs.topic}' is empty after outlier removal; raise outliers.std_ratio "
            f"(now {obs.outliers.std_ratio})"
        )
    index = np.asarray(kept)
    return cloud[index], None if colour is None else colour[index]


def voxel_means(cloud: np.ndarray, colour: np.ndarray | None, size_m: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean of the points (n, 3), and of their colours, in each cell of the grid of multiples of `size_m` [m].

    Cells come in the order of x, y, z, so that the result depends neither on the order of the points nor, elsewhere in
    the cloud, on where its outermost point lies.
    """
    cells = np.floor(cloud.astype(np.float64) * (1.0 / size_m))
    cells -= cells.min(axis=0)
    span = cells.max(axis=0) + 1
    total = float(np.prod(span))
    if total < 2.0**53:
        key = (cells @ np.array([span[1] * span[2], span[2], 1.0])).astype(np.int64)
        if total <= DENSE_CELLS:
            counts = np.bincount(key, minlength=int(total))
            used = np.flatnonzero(counts)
            counts = counts[used]
            means = [np.bincount(key, values, int(total))[used] / counts for values in _columns(cloud, colour)]
            return _as_cloud(means, colour)
        _, group = np.unique(key, return_inverse=True)
    else:  # a point very far away: no number tells all cells apart
        _, group = np.unique(cells, axis=0, return_inverse=True)
    counts = np.bincount(group)
    return _as_cloud([np.bincount(group, values) / counts for values in _columns(cloud, colour)], colour)


def _columns(cloud: np.ndarray, colour: np.ndarray | None) -> list[np.ndarray]:
    return [*cloud.T, *(() if colour is None else colour.T)]


def _as_cloud(means: list[np.ndarray], colour: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    table = np.stack(means, axis=1).astype(np.float32)
    return np.ascontiguousarray(table[:, :3]), None if colour is None else np.ascontiguousarray(table[:, 3:])


def farthest_points(cloud: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of farthest points of (n, 3), starting at point 0; n <= count: all, repeated in order."""
    if cloud.shape[0] <= count:
        return np.arange(count) % cloud.shape[0]
    from fpsample import bucket_fps_kdline_sampling

    height = 3 if cloud.shape[0] < 10_000 else 5 if cloud.shape[0] < 40_000 else 7
    return bucket_fps_kdline_sampling(cloud, count, h=height, start_idx=0).astype(np.int64)
