"""Clouds of points: any field order, byte order and padding, depth pictures, crops, transforms, thinning."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace as N
from typing import Any

import numpy as np
import open3d as o3d
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difftop_ros.contract import parse_contract
from difftop_ros.messages import ObservationError
from difftop_ros.messages.clouds import farthest_points, process_cloud
from difftop_ros.messages.images import camera_info
from difftop_ros.messages.points import decode_point_cloud, depth_points, point_cloud2
from difftop_ros.messages.types import Types, rosbags_types

HEADER = N(frame_id="cam", stamp=N(sec=0, nanosec=0))
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


@QUICK
@given(st.permutations(["x", "y", "z", "c", "i"]), st.sampled_from([3, 5, 7, 8]), st.booleans(), st.integers(0, 5),
       st.integers(0, 7), st.integers(1, 3), st.sampled_from(["f4", "u4", "rgb"]), st.integers(0, 99))  # fmt: skip
def test_points_of_any_layout(
    order: list[str], datatype: int, big: bool, padding: int, row_padding: int, height: int, colour: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    width = 5
    kind = DATATYPES[datatype]
    xyz = rng.integers(-100, 100, (height * width, 3)) if kind[0] == "i" else rng.normal(size=(height * width, 3))
    rgb = rng.integers(0, 256, (height * width, 3))
    end: Any = ">" if big else "<"
    packed = (rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2]).astype(np.uint32)
    columns, fields, offset = {}, [], 0
    for name in order:
        if name == "c" and colour == "rgb":
            parts = [(n, 2, rgb[:, k].astype("u1")) for k, n in enumerate("rgb")]
        elif name == "c":
            parts = [("rgb", 7 if colour == "f4" else 6, packed)]
        elif name == "i":
            parts = [("intensity", 4, np.arange(height * width, dtype="u2"))]
        else:
            parts = [(name, datatype, xyz[:, "xyz".index(name)].astype(kind))]
        for field, number, values in parts:
            offset += padding
            columns[offset] = values.astype(values.dtype.newbyteorder(end))
            fields.append(N(name=field, offset=offset, datatype=number, count=1))
            offset += values.dtype.itemsize
    step = offset + padding
    buffer = np.full((height, width * step + row_padding), 255, np.uint8)
    for start, values in columns.items():
        block = np.ascontiguousarray(values).view(np.uint8).reshape(height, width, -1)
        for column in range(width):
            at = column * step + start
            buffer[:, at : at + block.shape[2]] = block[:, column]
    message = N(header=HEADER, height=height, width=width, fields=fields, is_bigendian=big, point_step=step,
                row_step=buffer.shape[1], data=buffer.reshape(-1))  # fmt: skip
    points = decode_point_cloud(message, "/points", colour=True)
    np.testing.assert_allclose(np.stack([points.x, points.y, points.z], 1), xyz.astype(kind), rtol=1e-6)
    assert points.colour is not None
    np.testing.assert_allclose(points.colour(np.arange(height * width)), rgb / 255, atol=1e-6)


def cloud_obs(**keys: Any) -> Any:
    text = {"kind": "point_cloud", "topic": "/points", "frame": "world", "points": 32, **keys}
    contract = {
        "name": "c", "rate_hz": 10, "control_rate_hz": 10,
        "command": {"topic": "/c", "type": "sensor_msgs/msg/JointState",
                    "joints": [{"name": "a", "position": [-1, 1], "velocity": 1}]},
        "observations": {"j": {"kind": "joint_state", "topic": "/j", "joints": ["a"]}, "cloud": text},
    }  # fmt: skip
    return parse_contract(yaml.safe_dump(contract)).observations["cloud"]


def test_clouds_of_the_simulator_decode_in_any_layout() -> None:
    rng = np.random.default_rng(1)
    xyz, rgb = rng.normal(size=(6, 8, 3)).astype(np.float32), rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    plain = point_cloud2(rosbags_types, xyz, 0.0, "world", rgb)
    odd = point_cloud2(rosbags_types, xyz, 0.0, "world", rgb, order=("rgb", "z", "x", "y"), padding=3, row_padding=5,
                           big_endian=True)  # fmt: skip
    obs = cloud_obs(color=True)
    frames = [process_cloud(decode_point_cloud(m, "/points", True), obs) for m in (plain, odd)]
    np.testing.assert_array_equal(frames[0], frames[1])


def test_crop_and_transform_agree_with_open3d() -> None:
    rng = np.random.default_rng(2)
    xyz = rng.uniform(-1, 1, (5000, 3)).astype(np.float32)
    quaternion = np.array([0.1, -0.3, 0.2, 0.9])
    quaternion /= np.linalg.norm(quaternion)
    shift = [0.1, 0.2, -0.3]
    obs = cloud_obs(transform={"from_frame": "cam", "xyz": shift, "quat_xyzw": quaternion.tolist()}, points=20000,
                    crop={"min": [-0.5, -0.4, -0.3], "max": [0.5, 0.6, 0.4]})  # fmt: skip
    message = point_cloud2(rosbags_types, xyz, 0.0, "cam")
    frame = process_cloud(decode_point_cloud(message, "/points", False), obs)
    reference = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz.astype(np.float64)))
    wxyz = quaternion[[3, 0, 1, 2]]
    np.testing.assert_allclose(
        o3d.geometry.get_rotation_matrix_from_quaternion(wxyz), obs.transform.rotation, atol=1e-12
    )
    reference.rotate(obs.transform.rotation, center=(0, 0, 0)).translate(shift)
    box = o3d.geometry.AxisAlignedBoundingBox([-0.5, -0.4, -0.3], [0.5, 0.6, 0.4])
    expected = np.asarray(reference.crop(box).points)
    np.testing.assert_allclose(np.unique(frame, axis=0), np.unique(expected.astype(np.float32), axis=0), atol=1e-6)


def test_depth_points_agree_with_open3d() -> None:
    rng = np.random.default_rng(3)
    depth = rng.uniform(0.3, 2.0, (24, 32)).astype(np.float32)
    depth[3, 4], depth[5, 6] = 0.0, np.nan
    matrix = np.array([[40.0, 0, 15.2], [0, 41.0, 11.7], [0, 0, 1]])
    info = camera_info(rosbags_types, matrix, 32, 24, 0.0, "cam")
    points = depth_points(depth, info, (0.05, 10.0), "/depth", "cam")
    camera = o3d.camera.PinholeCameraIntrinsic(32, 24, matrix)
    clean = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
    reference = o3d.geometry.PointCloud.create_from_depth_image(o3d.geometry.Image(clean), camera, depth_scale=1.0)
    ours = np.stack([points.x, points.y, points.z], 1)
    np.testing.assert_allclose(ours, np.asarray(reference.points), atol=1e-6)


def test_depth_needs_its_own_camera_info() -> None:
    info = camera_info(rosbags_types, np.eye(3) * 40, 16, 12, 0.0, "cam")
    with pytest.raises(ObservationError, match="32 x 24, its CameraInfo says 16 x 12"):
        depth_points(np.ones((24, 32), np.float32), info, (0, 9), "/depth", "cam")


@pytest.mark.parametrize(
    ("k", "d", "model", "words"),
    [
        ([0.0, 0, 8, 0, 40, 6, 0, 0, 1], [0.0] * 5, "plumb_bob", "positive focal lengths"),
        ([40.0, 0, 8, 0, 40, 6, 0, 0, 1], [0.1] * 4, "equidistant", "distortion model 'equidistant'"),
    ],
)
def test_cameras_that_cannot_be_used_are_named(k: list[float], d: list[float], model: str, words: str) -> None:
    info = N(height=12, width=16, k=k, d=d, distortion_model=model)
    with pytest.raises(ObservationError, match=words):
        depth_points(np.ones((12, 16), np.float32), info, (0, 9), "/depth", "cam")


def test_lens_distortion_moves_the_rays() -> None:
    k, depth = [40.0, 0, 8, 0, 40, 6, 0, 0, 1], np.ones((12, 16), np.float32)
    straight, bent = (
        depth_points(depth, N(height=12, width=16, k=k, d=d, distortion_model="plumb_bob"), (0, 9), "/depth", "cam")
        for d in ([0.0] * 5, [0.2, 0, 0, 0, 0])
    )
    assert abs(bent.x[0]) < abs(straight.x[0]) - 1e-4  # k1 > 0: a pixel at the edge looks less far aside
    assert bent.x[6 * 16 + 8] == pytest.approx(0.0, abs=1e-6)


def test_few_points_are_repeated_in_order_and_many_are_thinned_alike() -> None:
    few = np.arange(15, dtype=np.float32).reshape(5, 3)
    frame = process_cloud(decode_point_cloud(point_cloud2(rosbags_types, few, 0.0, "world"), "/p", False), cloud_obs())
    np.testing.assert_array_equal(frame, few[np.arange(32) % 5])
    many = np.random.default_rng(4).random((3000, 3)).astype(np.float32)
    first, second = farthest_points(many, 64), farthest_points(many, 64)
    np.testing.assert_array_equal(first, second)
    assert len(set(first.tolist())) == 64 and 0 in first


def test_voxels_and_outliers_change_what_they_should() -> None:
    rng = np.random.default_rng(5)
    table = np.column_stack([rng.uniform(0, 0.3, (4000, 2)), np.zeros(4000)]).astype(np.float32)
    cloud = np.concatenate([table, [[0.15, 0.15, 0.9]]]).astype(np.float32)
    rgb = np.full((cloud.shape[0], 3), [255, 0, 51], np.uint8)
    message = point_cloud2(rosbags_types, cloud, 0.0, "world", rgb)
    points = decode_point_cloud(message, "/points", True)
    assert process_cloud(points, cloud_obs(color=True, voxel_m=0.02))[:, 2].max() > 0.8
    frame = process_cloud(points, cloud_obs(color=True, voxel_m=0.02, outliers={"neighbours": 8, "std_ratio": 2.0}))
    assert frame[:, 2].max() < 0.1
    np.testing.assert_allclose(frame[:, 3:], np.tile([1.0, 0.0, 0.2], (32, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("xyz", "frame", "sentence"),
    [
        (np.full((9, 3), np.nan, np.float32), "world", "none of them is finite"),
        (np.full((9, 3), 5, np.float32), "world", r"empty after the crop: '/points' measured 9 points from \[5.0"),
        (np.zeros((9, 3), np.float32), "odom", "frame 'odom'; the contract expects 'world'"),
        (np.zeros((0, 3), np.float32), "world", "no points at all"),
    ],
)
def test_useless_clouds_are_refused(xyz: np.ndarray, frame: str, sentence: str) -> None:
    obs = cloud_obs(crop={"min": [-1, -1, -1], "max": [1, 1, 1]})
    with pytest.raises(ObservationError, match=sentence):
        process_cloud(decode_point_cloud(point_cloud2(rosbags_types, xyz, 0.0, frame), "/points", False), obs)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"order": ("z", "rgb", "y", "x"), "padding": 4},
        {"order": ("rgb", "x", "y", "z"), "big_endian": True, "row_padding": 12},
        {"padding": 12, "row_padding": 5, "big_endian": True},
    ],
)
def test_clouds_of_any_layout_hold_the_same_points(
    types: Types, pixels: np.ndarray, layout: dict[str, Any], through_wire: Callable[..., Any]
) -> None:
    xyz = np.random.default_rng(1).normal(size=(6, 5, 3)).astype(np.float32)
    message = point_cloud2(types, xyz, 1.0, "f", pixels, **layout)
    back = through_wire(types, message, "sensor_msgs/msg/PointCloud2")
    assert (back.height, back.width) == (6, 5) and len(back.data) == back.row_step * 6
    endian = ">" if back.is_bigendian else "<"
    rows = np.frombuffer(back.data, np.uint8).reshape(6, back.row_step)[:, : 5 * back.point_step]
    points = rows.reshape(6, 5, back.point_step)
    found = {
        f.name: np.ascontiguousarray(points[..., f.offset : f.offset + 4]).view(f"{endian}u4")[..., 0]
        for f in back.fields
    }
    for i, name in enumerate("xyz"):
        np.testing.assert_array_equal(found[name].astype(np.uint32).view(np.float32), xyz[..., i])
    colours = np.stack([(found["rgb"] >> s) & 255 for s in (16, 8, 0)], axis=-1)
    np.testing.assert_array_equal(colours, pixels)


def test_flat_clouds_and_clouds_with_nan(types: Types) -> None:
    xyz = np.array([[0, 1, 2], [np.nan, 0, 0]], np.float32)
    message = point_cloud2(types, xyz, 0.0, "f")
    assert (message.height, message.width, message.is_dense) == (1, 2, False)
    assert [f.name for f in message.fields] == ["x", "y", "z"]
