"""Every encoding, field order, byte order and padding gives the same numbers."""

from __future__ import annotations

from types import SimpleNamespace as N

import cv2
import numpy as np
import open3d as o3d
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difftop_ros.contract import ImageObs, parse_contract
from difftop_ros.messages import ObservationError, ObservationPipeline, command_to_array
from difftop_ros.messages.clouds import farthest_points, process_cloud, rotation_matrix
from difftop_ros.messages.images import decode_colour, decode_compressed, decode_depth, process_image
from difftop_ros.messages.points import DepthProjector, decode_point_cloud

HEADER = N(frame_id="cam", stamp=N(sec=0, nanosec=0))
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


def image_message(array: np.ndarray, encoding: str, padding: int, big: bool) -> N:
    """An Image whose rows end in `padding` bytes of noise."""
    height, width = array.shape[:2]
    wire = array.astype(array.dtype.newbyteorder(">" if big else "<"))
    rows = np.ascontiguousarray(wire).view(np.uint8).reshape(height, -1)
    noise = np.full((height, padding), 77, np.uint8)
    data = np.concatenate([rows, noise], axis=1).reshape(-1)
    return N(header=HEADER, height=height, width=width, encoding=encoding, is_bigendian=int(big),
             step=rows.shape[1] + padding, data=data)  # fmt: skip


@QUICK
@given(st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8"]), st.integers(0, 9), st.integers(1, 7),
       st.integers(1, 7), st.integers(0, 99))  # fmt: skip
def test_colour_encodings_and_padding(encoding: str, padding: int, height: int, width: int, seed: int):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = np.full((height, width, 1), 9, np.uint8)
    wire = {
        "rgb8": rgb, "bgr8": rgb[..., ::-1], "rgba8": np.concatenate([rgb, alpha], 2),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], 2), "mono8": rgb[..., :1],
    }[encoding]  # fmt: skip
    decoded = decode_colour(image_message(wire, encoding, padding, False), "/image")
    expected = np.repeat(rgb[..., :1], 3, 2) if encoding == "mono8" else rgb
    np.testing.assert_array_equal(decoded, expected)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous


@QUICK
@given(st.sampled_from(["16UC1", "32FC1"]), st.integers(0, 9), st.booleans(), st.integers(0, 99))
def test_depth_encodings_padding_and_byte_order(encoding: str, padding: int, big: bool, seed: int):
    millimetres = np.random.default_rng(seed).integers(0, 65536, (5, 4), dtype=np.uint16)
    wire = millimetres if encoding == "16UC1" else (millimetres / 1000).astype(np.float32)
    decoded = decode_depth(image_message(wire, encoding, padding, big), "/depth")
    np.testing.assert_allclose(decoded, millimetres / 1000, rtol=1e-6)
    assert decoded.dtype == np.float32


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_compressed_pictures_come_out_rgb(kit, form: str):
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120))
    decoded = decode_compressed(kit.compressed_image(kit.types, picture, 0.0, "cam", form, 95), "/image")
    assert np.abs(decoded.astype(int) - picture).mean() < (4 if form == "jpeg" else 1e-9)


def test_picture_errors_name_what_was_got():
    with pytest.raises(ObservationError, match=r"'/image' has encoding 'yuv422'.*'bgr8'"):
        decode_colour(image_message(np.zeros((2, 2, 2), np.uint8), "yuv422", 0, False), "/image")
    short = image_message(np.zeros((4, 4, 3), np.uint8), "rgb8", 0, False)
    short.data = short.data[:-1]
    with pytest.raises(ObservationError, match="47 bytes"):
        decode_colour(short, "/image")
    with pytest.raises(ObservationError, match="cannot be decoded"):
        decode_compressed(N(header=HEADER, format="jpeg", data=np.zeros(20, np.uint8)), "/image")
    with pytest.raises(ObservationError, match="depth_cloud"):
        decode_colour(image_message(np.zeros((4, 4), np.float32), "32FC1", 0, False), "/image")


def test_crop_then_resize_and_a_crop_outside():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:50] = 200
    obs = ImageObs(kind="image", topic="/i", crop=(10, 20, 20, 30), resize=(8, 12))
    assert (process_image(picture, obs) == 200).all() and process_image(picture, obs).shape == (8, 12, 3)
    with pytest.raises(ObservationError, match="reaches outside"):
        process_image(picture[:20], obs)


@QUICK
@given(st.permutations(["x", "y", "z", "c", "i"]), st.sampled_from([3, 5, 7, 8]), st.booleans(), st.integers(0, 5),
       st.integers(0, 7), st.integers(1, 3), st.sampled_from(["f4", "u4", "rgb"]), st.integers(0, 99))  # fmt: skip
def test_clouds_of_any_layout(order, datatype, big, padding, row_padding, height, colour, seed):
    rng = np.random.default_rng(seed)
    width = 5
    kind = DATATYPES[datatype]
    xyz = rng.integers(-100, 100, (height * width, 3)) if kind[0] == "i" else rng.normal(size=(height * width, 3))
    rgb = rng.integers(0, 256, (height * width, 3))
    end = ">" if big else "<"
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
    np.testing.assert_allclose(points.colour(np.arange(height * width)), rgb / 255, atol=1e-6)


def cloud_obs(**keys):
    text = {"kind": "point_cloud", "topic": "/points", "frame": "world", "points": 32, **keys}
    contract = {
        "name": "c", "rate_hz": 10, "control_rate_hz": 10,
        "command": {"topic": "/c", "type": "sensor_msgs/msg/JointState",
                    "joints": [{"name": "a", "position": [-1, 1], "velocity": 1}]},
        "observations": {"j": {"kind": "joint_state", "topic": "/j", "joints": ["a"]}, "cloud": text},
    }  # fmt: skip
    import yaml

    return parse_contract(yaml.safe_dump(contract)).observations["cloud"]


def test_clouds_of_the_simulator_decode_in_any_layout(kit):
    rng = np.random.default_rng(1)
    xyz, rgb = rng.normal(size=(6, 8, 3)).astype(np.float32), rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    plain = kit.point_cloud2(kit.types, xyz, 0.0, "world", rgb)
    odd = kit.point_cloud2(kit.types, xyz, 0.0, "world", rgb, order=("rgb", "z", "x", "y"), padding=3, row_padding=5,
                           big_endian=True)  # fmt: skip
    obs = cloud_obs(color=True)
    frames = [process_cloud(decode_point_cloud(m, "/points", True), obs) for m in (plain, odd)]
    np.testing.assert_array_equal(*frames)


def test_crop_and_transform_agree_with_open3d(kit):
    rng = np.random.default_rng(2)
    xyz = rng.uniform(-1, 1, (5000, 3)).astype(np.float32)
    quaternion = np.array([0.1, -0.3, 0.2, 0.9])
    quaternion /= np.linalg.norm(quaternion)
    shift = [0.1, 0.2, -0.3]
    obs = cloud_obs(transform={"from_frame": "cam", "xyz": shift, "quat_xyzw": quaternion.tolist()}, points=20000,
                    crop={"min": [-0.5, -0.4, -0.3], "max": [0.5, 0.6, 0.4]})  # fmt: skip
    message = kit.point_cloud2(kit.types, xyz, 0.0, "cam")
    frame = process_cloud(decode_point_cloud(message, "/points", False), obs)
    reference = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz.astype(np.float64)))
    wxyz = quaternion[[3, 0, 1, 2]]
    np.testing.assert_allclose(
        o3d.geometry.get_rotation_matrix_from_quaternion(wxyz), rotation_matrix(tuple(quaternion)), atol=1e-12
    )
    reference.rotate(rotation_matrix(tuple(quaternion)), center=(0, 0, 0)).translate(shift)
    box = o3d.geometry.AxisAlignedBoundingBox([-0.5, -0.4, -0.3], [0.5, 0.6, 0.4])
    expected = np.asarray(reference.crop(box).points)
    np.testing.assert_allclose(np.unique(frame, axis=0), np.unique(expected.astype(np.float32), axis=0), atol=1e-6)


def test_depth_points_agree_with_open3d(kit):
    rng = np.random.default_rng(3)
    depth = rng.uniform(0.3, 2.0, (24, 32)).astype(np.float32)
    depth[3, 4], depth[5, 6] = 0.0, np.nan
    matrix = np.array([[40.0, 0, 15.2], [0, 41.0, 11.7], [0, 0, 1]])
    info = kit.camera_info(kit.types, matrix, 32, 24, 0.0, "cam")
    points = DepthProjector().points(depth, info, (0.05, 10.0), "/depth", "cam")
    camera = o3d.camera.PinholeCameraIntrinsic(32, 24, matrix)
    clean = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
    reference = o3d.geometry.PointCloud.create_from_depth_image(o3d.geometry.Image(clean), camera, depth_scale=1.0)
    ours = np.stack([points.x, points.y, points.z], 1)
    np.testing.assert_allclose(ours, np.asarray(reference.points), atol=1e-6)


def test_depth_needs_its_own_camera_info(kit):
    info = kit.camera_info(kit.types, np.eye(3) * 40, 16, 12, 0.0, "cam")
    with pytest.raises(ObservationError, match="32 x 24, its CameraInfo says 16 x 12"):
        DepthProjector().points(np.ones((24, 32), np.float32), info, (0, 9), "/depth", "cam")


def test_few_points_are_repeated_in_order_and_many_are_thinned_alike(kit):
    few = np.arange(15, dtype=np.float32).reshape(5, 3)
    frame = process_cloud(decode_point_cloud(kit.point_cloud2(kit.types, few, 0.0, "world"), "/p", False), cloud_obs())
    np.testing.assert_array_equal(frame, few[np.arange(32) % 5])
    many = np.random.default_rng(4).random((3000, 3)).astype(np.float32)
    first, second = farthest_points(many, 64), farthest_points(many, 64)
    np.testing.assert_array_equal(first, second)
    assert len(set(first.tolist())) == 64 and 0 in first


def test_voxels_and_outliers_change_what_they_should(kit):
    rng = np.random.default_rng(5)
    table = np.column_stack([rng.uniform(0, 0.3, (4000, 2)), np.zeros(4000)]).astype(np.float32)
    cloud = np.concatenate([table, [[0.15, 0.15, 0.9]]]).astype(np.float32)
    rgb = np.full((cloud.shape[0], 3), [255, 0, 51], np.uint8)
    message = kit.point_cloud2(kit.types, cloud, 0.0, "world", rgb)
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
def test_useless_clouds_are_refused(kit, xyz, frame, sentence):
    obs = cloud_obs(crop={"min": [-1, -1, -1], "max": [1, 1, 1]})
    with pytest.raises(ObservationError, match=sentence):
        process_cloud(decode_point_cloud(kit.point_cloud2(kit.types, xyz, 0.0, frame), "/points", False), obs)


def test_joints_by_name_and_missing_ones(kit, contract):
    pipeline = ObservationPipeline(contract)
    state = kit.joint_state(kit.types, ["x", "b", "a"], 0.0, np.array([9.0, 2.0, 1.0]))
    np.testing.assert_array_equal(pipeline.decode("joints", {"/joint_states": state}), np.array([1, 2], np.float32))
    state.name = ["x", "b", "c"]
    with pytest.raises(ObservationError, match=r"'/joint_states' lacks 'a'; the contract expects 2 joints"):
        pipeline.decode("joints", {"/joint_states": state})
    state.name = ["x", "b", "a"]
    state.position = np.array([0.0, np.nan, 1.0])
    with pytest.raises(ObservationError, match=r"not finite for \['b'\]"):
        pipeline.decode("joints", {"/joint_states": state})


def test_a_message_of_the_wrong_kind_is_named(kit, contract):
    with pytest.raises(ObservationError, match="expected sensor_msgs/msg/JointState"):
        ObservationPipeline(contract).decode("joints", {"/joint_states": kit.types("std_msgs/msg/Bool")()})


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("sensor_msgs/msg/JointState", "position"),
        ("sensor_msgs/msg/JointState", "velocity"),
        ("sensor_msgs/msg/JointState", "delta_position"),
        ("trajectory_msgs/msg/JointTrajectory", "position"),
        ("trajectory_msgs/msg/JointTrajectory", "velocity"),
        ("std_msgs/msg/Float64MultiArray", "position"),
        ("std_msgs/msg/Float64MultiArray", "velocity"),
        ("std_msgs/msg/Float64MultiArray", "delta_position"),
    ],
)
def test_commands_of_every_type_and_mode(kit, contract, kind, mode):
    command = contract.command.model_copy(update={"type": kind, "mode": mode})
    wanted = contract.model_copy(update={"command": command})
    message = kit.command(kit.types, kind, ["a", "b"], np.array([0.25, -0.5]), 1.0, mode)
    np.testing.assert_array_equal(command_to_array(wanted, message), [0.25, -0.5])
    broken = kit.command(kit.types, kind, ["a", "b"], np.array([0.25, np.nan]), 1.0, mode)
    with pytest.raises(ObservationError, match=r"not finite for \['b'\]"):
        command_to_array(wanted, broken)


def test_a_trajectory_counts_by_its_first_point_ahead(kit, contract):
    kind = "trajectory_msgs/msg/JointTrajectory"
    wanted = contract.model_copy(update={"command": contract.command.model_copy(update={"type": kind})})
    message = kit.command(kit.types, kind, ["b", "a"], np.array([2.0, 1.0]), 1.0, "position", 0.1)
    start = kit.command(kit.types, kind, ["b", "a"], np.array([8.0, 9.0]), 1.0, "position", 0.0).points[0]
    message.points = [start, *message.points]
    np.testing.assert_array_equal(command_to_array(wanted, message), [1.0, 2.0])
    message.points = [start]
    np.testing.assert_array_equal(command_to_array(wanted, message), [9.0, 8.0])
