"""From measured points to the cloud a policy sees: finite → frame → crop → voxel → outliers → N farthest points.

Cropping comes first because it is cheap and everything after it is not. Open3D does voxels and outliers, fpsample the
farthest-point sampling; both are loaded only when a contract asks for them. Reading messages is points.py's job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from difftop_ros.contract import CloudObs, DepthCloudObs, PointCloudObs
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.images import decode_depth
from difftop_ros.messages.points import Points, decode_point_cloud, depth_points


def point_cloud_frame(obs: PointCloudObs, messages: Mapping[str, Any]) -> np.ndarray:
    """The frame of a PointCloud2 as process_cloud makes it. Raises ObservationError."""
    return process_cloud(decode_point_cloud(messages[obs.topic], obs.topic, obs.color), obs)


def depth_cloud_frame(obs: DepthCloudObs, messages: Mapping[str, Any]) -> np.ndarray:
    """The frame of a depth Image and its CameraInfo as process_cloud makes it. Raises ObservationError."""
    message, info = messages[obs.topic], messages[obs.camera_info]
    depth = decode_depth(message, obs.topic)
    return process_cloud(depth_points(depth, info, obs.depth_range_m, obs.topic, message.header.frame_id), obs)


def process_cloud(points: Points, obs: CloudObs) -> np.ndarray:
    """Float32 (obs.points, 3), or (obs.points, 6) with colour 0..1; xyz [m] in obs.frame.

    Fewer points than asked for are repeated in order. Raises ObservationError for an unexpected frame id, for a cloud
    without a finite point, and for one that is empty after the crop.
    """
    measured = points.x.size
    if not measured:
        raise ObservationError(f"cloud on '{obs.topic}' has no points at all; check the sensor")
    xyz = _into_frame(points, obs)
    kept = _finite_and_cropped(xyz, obs)
    if not kept.size:
        _complain_of_emptiness(xyz, obs, measured)
    cloud = np.stack([axis[kept] for axis in xyz], axis=1)
    colour = points.colour(kept) if obs.color and points.colour is not None else None
    cloud, colour = _thin(cloud, colour, obs)
    index = farthest_points(cloud, obs.points)
    if colour is None:
        return cloud[index]
    return np.concatenate([cloud[index], colour[index]], axis=1)


def _into_frame(points: Points, obs: CloudObs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = (points.x, points.y, points.z)
    transform = obs.transform
    if points.frame_id == obs.frame:
        return axes
    if transform is None or points.frame_id != transform.from_frame:
        known = f"'{obs.frame}'" + (f" or '{transform.from_frame}'" if transform else "")
        raise ObservationError(
            f"cloud on '{obs.topic}' is in frame '{points.frame_id}'; the contract expects {known}: "
            f"give the contract a transform with from_frame: '{points.frame_id}'"
        )
    rotation = transform.rotation.astype(np.float32)
    shift = np.array(transform.xyz, np.float32)
    moved = [r[0] * axes[0] + r[1] * axes[1] + r[2] * axes[2] + t for r, t in zip(rotation, shift, strict=True)]
    return moved[0], moved[1], moved[2]


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
    import open3d as o3d

    geometry = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.astype(np.float64)))
    if colour is not None:
        geometry.colors = o3d.utility.Vector3dVector(colour.astype(np.float64))
    if obs.voxel_m is not None:
        geometry = geometry.voxel_down_sample(obs.voxel_m)
    # With no more points than neighbours there is no statistic to be an outlier of.
    if obs.outliers is not None and len(geometry.points) > obs.outliers.neighbours:
        geometry, _ = geometry.remove_statistical_outlier(obs.outliers.neighbours, obs.outliers.std_ratio)
        if not len(geometry.points):
            raise ObservationError(
                f"cloud on '{obs.topic}' is empty after outlier removal; raise outliers.std_ratio "
                f"(now {obs.outliers.std_ratio})"
            )
    thinned = np.asarray(geometry.points).astype(np.float32)
    return thinned, None if colour is None else np.asarray(geometry.colors).astype(np.float32)


def farthest_points(cloud: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of farthest points of (n, 3), starting at point 0; n <= count: all, repeated in order."""
    if cloud.shape[0] <= count:
        return np.arange(count) % cloud.shape[0]
    from fpsample import bucket_fps_kdline_sampling

    height = 3 if cloud.shape[0] < 10_000 else 5 if cloud.shape[0] < 40_000 else 7
    return bucket_fps_kdline_sampling(cloud, count, h=height, start_idx=0).astype(np.int64)
