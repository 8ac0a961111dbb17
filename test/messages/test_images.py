"""Pictures: every encoding, byte order and padding gives the same numbers, and what is encoded is decoded."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace as N
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difftop_ros.contract import ImageObs
from difftop_ros.messages import ObservationError
from difftop_ros.messages.images import (
    camera_info,
    compressed_image,
    decode_colour,
    decode_compressed,
    decode_depth,
    depth_image,
    image,
    process_image,
)
from difftop_ros.messages.types import Types, rosbags_types

HEADER = N(frame_id="cam", stamp=N(sec=0, nanosec=0))
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
def test_colour_encodings_and_padding(encoding: str, padding: int, height: int, width: int, seed: int) -> None:
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
def test_depth_encodings_padding_and_byte_order(encoding: str, padding: int, big: bool, seed: int) -> None:
    millimetres = np.random.default_rng(seed).integers(0, 65536, (5, 4), dtype=np.uint16)
    wire = millimetres if encoding == "16UC1" else (millimetres / 1000).astype(np.float32)
    decoded = decode_depth(image_message(wire, encoding, padding, big), "/depth")
    np.testing.assert_allclose(decoded, millimetres / 1000, rtol=1e-6)
    assert decoded.dtype == np.float32


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_compressed_pictures_come_out_rgb(form: str) -> None:
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120))
    decoded = decode_compressed(compressed_image(rosbags_types, picture, 0.0, "cam", form, 95), "/image")
    assert np.abs(decoded.astype(int) - picture).mean() < (4 if form == "jpeg" else 1e-9)


def test_picture_errors_name_what_was_got() -> None:
    with pytest.raises(ObservationError, match=r"'/image' has encoding '32FC3'.*'bgr8'"):
        decode_colour(image_message(np.zeros((2, 2, 2), np.uint8), "32FC3", 0, False), "/image")
    short = image_message(np.zeros((4, 4, 3), np.uint8), "rgb8", 0, False)
    short.data = short.data[:-1]
    with pytest.raises(ObservationError, match="47 bytes"):
        decode_colour(short, "/image")
    with pytest.raises(ObservationError, match="cannot be decoded"):
        decode_compressed(N(header=HEADER, format="jpeg", data=np.zeros(20, np.uint8)), "/image")
    with pytest.raises(ObservationError, match="depth_cloud"):
        decode_colour(image_message(np.zeros((4, 4), np.float32), "32FC1", 0, False), "/image")


def test_crop_then_resize_and_a_crop_outside() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:50] = 200
    obs = ImageObs(kind="image", topic="/i", crop=(10, 20, 20, 30), resize=(8, 12))
    assert (process_image(picture, obs) == 200).all() and process_image(picture, obs).shape == (8, 12, 3)
    with pytest.raises(ObservationError, match="reaches outside"):
        process_image(picture[:20], obs)


@pytest.mark.parametrize("encoding,channels", [("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1)])
def test_images_keep_their_pixels_in_every_encoding(
    types: Types, pixels: np.ndarray, encoding: str, channels: int, through_wire: Callable[..., Any]
) -> None:
    message = image(types, pixels, 12.25, "front_optical_frame", encoding)
    back = through_wire(types, message, "sensor_msgs/msg/Image")
    assert (back.header.stamp.sec, back.header.stamp.nanosec) == (12, 250_000_000)
    assert (back.height, back.width, back.step, back.encoding) == (6, 5, 5 * channels, encoding)
    found = np.frombuffer(back.data, np.uint8).reshape(6, 5, channels)
    if encoding == "mono8":
        expected = pixels @ [0.299, 0.587, 0.114]
        assert np.abs(found[..., 0] - expected).max() <= 0.51
    else:
        np.testing.assert_array_equal(found[..., :3] if encoding.startswith("rgb") else found[..., 2::-1], pixels)


def test_depth_in_metres_and_in_millimetres(types: Types, through_wire: Callable[..., Any]) -> None:
    depth = np.array([[0.5, 1.2345], [np.nan, 80.0]], np.float32)
    metres = through_wire(types, depth_image(types, depth, 0.0, "f"), "sensor_msgs/msg/Image")
    np.testing.assert_array_equal(np.frombuffer(metres.data, np.float32).reshape(2, 2), depth)
    millis = through_wire(types, depth_image(types, depth, 0.0, "f", "16UC1"), "sensor_msgs/msg/Image")
    assert np.frombuffer(millis.data, np.uint16).tolist() == [500, 1234, 0, 0]  # not finite or too far: no reading


def test_compressed_pictures_decode(types: Types, pixels: np.ndarray, through_wire: Callable[..., Any]) -> None:
    smooth = np.repeat(np.repeat(pixels[:2, :2], 16, axis=0), 16, axis=1)
    for form, tolerance in (("png", 0), ("jpeg", 60)):
        message = compressed_image(types, smooth, 0.0, "f", form, 95)
        back = through_wire(types, message, "sensor_msgs/msg/CompressedImage")
        assert back.format == form
        picture = cv2.imdecode(np.frombuffer(back.data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        found = picture[..., ::-1].astype(int)
        assert np.abs(found - smooth).max() <= tolerance


def test_camera_info(types: Types, through_wire: Callable[..., Any]) -> None:
    K = np.array([[100.0, 0, 79.5], [0, 100, 59.5], [0, 0, 1]])
    message = camera_info(types, K, 160, 120, 0.5, "front_optical_frame")
    back = through_wire(types, message, "sensor_msgs/msg/CameraInfo")
    np.testing.assert_array_equal(np.array(back.k).reshape(3, 3), K)
    np.testing.assert_array_equal(np.array(back.p).reshape(3, 4)[:, :3], K)
    assert (back.width, back.height, len(back.d)) == (160, 120, 5)
