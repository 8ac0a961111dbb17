"""From measured points to the cloud a policy sees: finite → frame → crop → voxel → outliers → N farthest points.

Cropping comes first because it is cheap and everything after it is not; colours are read last, for the points that are
shown or averaged alone. Open3D finds outliers, fpsample the farthest points; both are loaded only when a contract asks
for them. Reading messages is points.py's job, the crop and the grid are in cloud/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.contract import CloudObs
from difftop_ros.contract.base import Place
from difftop_ros.contract.clouds import COLOUR_TYPES, CloudSource
from difftop_ros.messages.cloud.crop import cropped, extent, refuse_blind
from difftop_ros.messages.cloud.voxels import Voxels, means_of
from difftop_ros.messages.compressed import decode_compressed
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.images import decode_colour, decode_depth
from difftop_ros.messages.points import Points, decode_point_cloud, depth_points, joined
from difftop_ros.space.relative import from_tool
from difftop_ros.stages import stage

Measured = Sequence[tuple[Points, CloudSource]]
Poses = Mapping[Place, np.ndarray]  # base_from_link (4, 4)


def cloud_frame(obs: CloudObs, messages: Mapping[str, Any], poses: Poses | None = None) -> np.ndarray:
    """The frame of all the cloud's cameras as process_cloud makes it, then relative to the tool if that is asked for.

    poses: base_from_link (4, 4) of obs.places, when each camera's points were measured. Raises ObservationError.
    """
    with stage("decode"):
        measured = [
            (_measured(source, obs, messages), _standing(source, obs.frame, poses or {})) for source in obs.sources
        ]
    found = _frame(measured, obs)
    return found if obs.relative_to is None else from_tool(found, obs, (poses or {})[obs.tool])


def whole_cloud(obs: CloudObs, messages: Mapping[str, Any], poses: Poses | None = None) -> np.ndarray:
    """Float32 (n, 3), or (n, 6) with colour 0..1: all finite points of all cameras in obs.frame, as they came.

    Raises ObservationError.
    """
    bare = obs.model_copy(update={"crop": None})
    parts = [
        cropped(_measured(source, obs, messages), _standing(source, obs.frame, poses or {}), bare)
        for source in obs.sources
    ]
    points = joined(parts)
    cloud = np.stack([points.x, points.y, points.z], axis=1)
    if not obs.color or points.colour is None:
        return cloud
    return np.concatenate([cloud, points.colour(np.arange(len(cloud)))], axis=1)


def _standing(source: CloudSource, frame: str, poses: Poses) -> CloudSource:
    """The camera where it was; as it is, if it does not move."""
    place, transform = source.place(frame), source.transform
    if place is None or transform is None:
        return source
    pose = poses[place] @ transform.pose
    turn = tuple(Rotation.from_matrix(pose[:3, :3]).as_quat())
    placed = {"link": None, "tf": False, "xyz": tuple(pose[:3, 3]), "quat_xyzw": turn, "rpy": None}
    return source.model_copy(update={"transform": transform.model_copy(update=placed)})


def _measured(source: CloudSource, obs: CloudObs, messages: Mapping[str, Any]) -> Points:
    message = messages[source.topic]
    if source.camera_info is None:
        return decode_point_cloud(message, source.topic, obs.color, obs.max_mb)
    depth = decode_depth(message, source.topic, source.depth_unit_m, obs.max_pixels)
    with np.errstate(invalid="ignore"):
        seen = int(np.count_nonzero((depth > 0) & (depth < np.inf)))
    refuse_blind(seen, depth.size, source.topic, obs)
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
    return _frame([(points, obs.sources[0])], obs)


def _frame(measured: Measured, obs: CloudObs) -> np.ndarray:
    with stage("crop"):
        parts = [cropped(points, source, obs) for points, source in measured]
        points = parts[0] if len(parts) == 1 else joined(parts)
    if not points.x.size:
        _complain_of_emptiness(measured, obs)
    if points.x.size < obs.fewest_points:
        raise ObservationError(
            f"cloud on '{obs.topic}' has {points.x.size} points after the crop; min_points is {obs.fewest_points}: "
            "check the sensor, or lower min_points"
        )
    voxels = None
    if obs.voxel_m is None:
        cloud = np.stack([points.x, points.y, points.z], axis=1)
    else:
        with stage("voxel"):
            voxels = Voxels(points.x, points.y, points.z, obs.voxel_m)
            cloud = voxels.means
    with stage("sample"):
        index = _without_outliers(cloud, obs)
        index = index[farthest_points(cloud[index], obs.points)]
    if not obs.color or points.colour is None:
        return cloud[index]
    with stage("colour"):
        return np.concatenate([cloud[index], _colours(points.colour, voxels, index)], axis=1)


def _colours(colour: Callable[[np.ndarray], np.ndarray], voxels: Voxels | None, index: np.ndarray) -> np.ndarray:
    """Colours float32 (k, 3) of the points, or means of those in the cells, `index` (k,)."""
    if voxels is None:
        return colour(index)
    inside, begin = voxels.points_in(index)
    return means_of(colour(inside), begin)


def _complain_of_emptiness(measured: Measured, obs: CloudObs) -> None:
    count = sum(points.z.size for points, _ in measured)
    reach = [extent(points, source, obs) for points, source in measured]
    finite = sum(number for number, _, _ in reach)
    if obs.crop is None or not finite:
        raise ObservationError(
            f"cloud on '{obs.topic}' has {count} points and none of them is finite; check the sensor, its range "
            "and its exposure"
        )
    low = np.min([low for number, low, _ in reach if number], axis=0).tolist()
    high = np.max([high for number, _, high in reach if number], axis=0).tolist()
    raise ObservationError(
        f"cloud is empty after the crop: '{obs.topic}' measured {finite} points from {low} to {high} in "
        f"'{obs.frame}', the crop keeps {list(obs.crop.min)} to {list(obs.crop.max)}: correct the crop or the transform"
    )


def _without_outliers(cloud: np.ndarray, obs: CloudObs) -> np.ndarray:
    """Indices of the points (n, 3) that are no statistical outliers, as the contract says."""
    # With no more points than neighbours there is no statistic to be an outlier of.
    if obs.outliers is None or len(cloud) <= obs.outliers.neighbours:
        return np.arange(len(cloud))
    import open3d as o3d

    geometry = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.astype(np.float64)))
    _, kept = geometry.remove_statistical_outlier(obs.outliers.neighbours, obs.outliers.std_ratio)
    if not len(kept):
        raise ObservationError(
            f"cloud on '{obs.topic}' is empty after outlier removal; raise outliers.std_ratio "
            f"(now {obs.outliers.std_ratio})"
        )
    return np.asarray(kept)


def farthest_points(cloud: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of farthest points of (n, 3), starting at point 0; n <= count: all, repeated in order."""
    if cloud.shape[0] <= count:
        return np.arange(count) % cloud.shape[0]
    from fpsample import bucket_fps_kdline_sampling

    height = 3 if cloud.shape[0] < 10_000 else 5 if cloud.shape[0] < 40_000 else 7
    return bucket_fps_kdline_sampling(cloud, count, h=height, start_idx=0).astype(np.int64)
