"""Messages built from numpy: what goes in comes out, with rclpy's classes and with those of a rosbags type store."""

from __future__ import annotations

import numpy as np
import pytest

from difftop_ros.messages import encode as messages

KINDS = ["rosbags", "ros"]


@pytest.fixture(params=KINDS)
def types(request):
    if request.param == "ros":
        pytest.importorskip("rclpy", reason="rclpy is not installed")
        return messages.ros_types
    return messages.rosbags_types


def through_wire(types, message, kind):
    """The message after CDR serialisation and back, by the library its class belongs to."""
    if types is messages.ros_types:
        from rclpy.serialization import deserialize_message, serialize_message

        return deserialize_message(serialize_message(message), type(message))
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    return store.deserialize_cdr(store.serialize_cdr(message, kind), kind)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("encoding,channels", [("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1)])
def test_images_keep_their_pixels_in_every_encoding(types, pixels, encoding, channels):
    message = messages.image(types, pixels, 12.25, "front_optical_frame", encoding)
    back = through_wire(types, message, "sensor_msgs/msg/Image")
    assert (back.header.stamp.sec, back.header.stamp.nanosec) == (12, 250_000_000)
    assert (back.height, back.width, back.step, back.encoding) == (6, 5, 5 * channels, encoding)
    found = np.frombuffer(back.data, np.uint8).reshape(6, 5, channels)
    if encoding == "mono8":
        expected = pixels @ [0.299, 0.587, 0.114]
        assert np.abs(found[..., 0] - expected).max() <= 0.51
    else:
        np.testing.assert_array_equal(found[..., :3] if encoding.startswith("rgb") else found[..., 2::-1], pixels)


def test_depth_in_metres_and_in_millimetres(types):
    depth = np.array([[0.5, 1.2345], [np.nan, 80.0]], np.float32)
    metres = through_wire(types, messages.depth_image(types, depth, 0.0, "f"), "sensor_msgs/msg/Image")
    np.testing.assert_array_equal(np.frombuffer(metres.data, np.float32).reshape(2, 2), depth)
    millis = through_wire(types, messages.depth_image(types, depth, 0.0, "f", "16UC1"), "sensor_msgs/msg/Image")
    assert np.frombuffer(millis.data, np.uint16).tolist() == [500, 1234, 0, 0]  # not finite or too far: no reading


def test_compressed_pictures_decode(types, pixels):
    import cv2

    smooth = np.repeat(np.repeat(pixels[:2, :2], 16, axis=0), 16, axis=1)
    for form, tolerance in (("png", 0), ("jpeg", 60)):
        message = messages.compressed_image(types, smooth, 0.0, "f", form, 95)
        back = through_wire(types, message, "sensor_msgs/msg/CompressedImage")
        assert back.format == form
        found = cv2.imdecode(np.frombuffer(back.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        assert np.abs(found - smooth).max() <= tolerance


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"order": ("z", "rgb", "y", "x"), "padding": 4},
        {"order": ("rgb", "x", "y", "z"), "big_endian": True, "row_padding": 12},
        {"padding": 12, "row_padding": 5, "big_endian": True},
    ],
)
def test_clouds_of_any_layout_hold_the_same_points(types, pixels, layout):
    xyz = np.random.default_rng(1).normal(size=(6, 5, 3)).astype(np.float32)
    message = messages.point_cloud2(types, xyz, 1.0, "f", pixels, **layout)
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


def test_flat_clouds_and_clouds_with_nan(types):
    xyz = np.array([[0, 1, 2], [np.nan, 0, 0]], np.float32)
    message = messages.point_cloud2(types, xyz, 0.0, "f")
    assert (message.height, message.width, message.is_dense) == (1, 2, False)
    assert [f.name for f in message.fields] == ["x", "y", "z"]


def test_camera_info(types):
    K = np.array([[100.0, 0, 79.5], [0, 100, 59.5], [0, 0, 1]])
    message = messages.camera_info(types, K, 160, 120, 0.5, "front_optical_frame")
    back = through_wire(types, message, "sensor_msgs/msg/CameraInfo")
    np.testing.assert_array_equal(np.array(back.k).reshape(3, 3), K)
    np.testing.assert_array_equal(np.array(back.p).reshape(3, 4)[:, :3], K)
    assert (back.width, back.height, len(back.d)) == (160, 120, 5)


@pytest.mark.parametrize("mode", ["position", "velocity"])
@pytest.mark.parametrize(
    "kind", ["sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray"]
)
def test_commands_of_the_three_types(types, kind, mode):
    values = np.array([0.1, -0.2])
    back = through_wire(types, messages.command(types, kind, ["a", "b"], values, 2.0, mode, 0.04), kind)
    if kind.endswith("Float64MultiArray"):
        found = back.data
    elif kind.endswith("JointTrajectory"):
        assert list(back.joint_names) == ["a", "b"]
        assert back.points[0].time_from_start.nanosec == 40_000_000
        found = getattr(back.points[0], "positions" if mode == "position" else "velocities")
    else:
        assert list(back.name) == ["a", "b"]
        found = getattr(back, mode)
    np.testing.assert_array_equal(np.asarray(found), values)


def test_a_stamp_never_has_a_whole_second_of_nanoseconds():
    time = messages.stamp(messages.rosbags_types, 1.9999999999)
    assert (time.sec, time.nanosec) == (2, 0)
