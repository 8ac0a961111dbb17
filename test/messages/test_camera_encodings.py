"""What real cameras send: mosaics, yuv, 16 bits, compressed and rectified depth, colours as floats, several clouds."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace as N
from typing import Any

import cv2
import numpy as np
import pytest
import zstandard

from difftop_ros.contract import ImageObs
from difftop_ros.contract.clouds import DepthCloudObs, PointCloudObs
from difftop_ros.messages import ObservationError
from difftop_ros.messages.cloud.voxels import Voxels
from difftop_ros.messages.clouds import cloud_frame
from difftop_ros.messages.compressed import PNG, decode_compressed, picture_size
from difftop_ros.messages.images import decode_colour, decode_depth, depth_image, image, image_frame
from difftop_ros.messages.points import decode_point_cloud, depth_points, point_cloud2
from difftop_ros.messages.types import rosbags_types

HEADER = N(frame_id="cam", stamp=N(sec=0, nanosec=0))
COLOUR = np.array([200, 120, 40], np.uint8)
Y, U, V = 132, 81, 169  # BT.601 of that colour, studio swing


def raw(data: np.ndarray, encoding: str, height: int = 8, width: int = 8, big: int = 0) -> N:
    data = np.ascontiguousarray(data)
    wire = data.astype(data.dtype.newbyteorder(">")) if big else data
    return N(header=HEADER, height=height, width=width, encoding=encoding, is_bigendian=big,
             step=data[0].nbytes, data=wire.reshape(-1).view(np.uint8))  # fmt: skip


@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(("bits", "big"), [(8, 0), (16, 0), (16, 1)])
def test_mosaics_of_one_colour(order: str, bits: int, big: int) -> None:
    tile = np.array([COLOUR["rgb".index(c)] for c in order]).reshape(2, 2)
    mosaic = np.tile(tile, (4, 4)).astype(f"u{bits // 8}") << (bits - 8)
    found = decode_colour(raw(mosaic, f"bayer_{order}{bits}", big=big), "/i")
    assert np.abs(found[2:-2, 2:-2].astype(int) - COLOUR).max() <= 1
    if bits == 8:
        data = cv2.imencode(".png", mosaic)[1].reshape(-1)
        packed = N(header=HEADER, format=f"bayer_{order}8; png compressed ", data=data)
        np.testing.assert_array_equal(decode_compressed(packed, "/i"), found)


YUV = {
    "uyvy": np.tile(np.array([[U, Y], [V, Y]]), (8, 4, 1)),
    "yuyv": np.tile(np.array([[Y, U], [Y, V]]), (8, 4, 1)),
    "nv12": np.concatenate([np.full((8, 8), Y), np.tile([U, V], (4, 4))]),
    "nv21": np.concatenate([np.full((8, 8), Y), np.tile([V, U], (4, 4))]),
    "nv24": np.concatenate([np.full((8, 8), Y), np.tile([U, V], (16, 4))]),
}
YUV |= {"yuv422": YUV["uyvy"], "yuv422_yuy2": YUV["yuyv"]}


@pytest.mark.parametrize("encoding", YUV)
def test_luminance_and_chrominance(encoding: str) -> None:
    message = raw(YUV[encoding].astype(np.uint8), encoding)
    assert np.abs(decode_colour(message, "/i").astype(int) - COLOUR).max() <= 4
    message.width = 7
    with pytest.raises(ObservationError, match="multiples of"):
        decode_colour(message, "/i")
    message.width, message.data = 8, message.data[:-1]
    with pytest.raises(ObservationError, match="header is wrong"):
        decode_colour(message, "/i")


@pytest.mark.parametrize(("encoding", "channels"), [("8UC1", "g"), ("8UC3", "bgr"), ("8UC4", "bgra"), ("mono16", "g"),
                                                    ("rgb16", "rgb"), ("bgra16", "bgra")])  # fmt: skip
def test_matrices_and_sixteen_bits(encoding: str, channels: str) -> None:
    values = {"r": 200, "g": 120, "b": 40, "a": 255}
    pixels = np.tile([values[c] for c in channels], (8, 8, 1)).astype(np.uint8)
    wire = pixels.astype(np.uint16) << 8 if encoding.endswith("16") else pixels
    expected = [120] * 3 if channels == "g" else [200, 120, 40]
    np.testing.assert_array_equal(decode_colour(raw(wire, encoding), "/i")[3, 3], expected)


def compressed(form: str, picture: np.ndarray, suffix: str = ".png", head: bytes = b"") -> N:
    data = np.frombuffer(head + cv2.imencode(suffix, picture)[1].tobytes(), np.uint8)
    return N(header=HEADER, format=form, data=data)


def test_compressed_depth_is_no_picture_and_a_picture_no_depth() -> None:
    deep = np.where(np.arange(48).reshape(6, 8) % 2, 700, 1200).astype(np.uint16)
    for form in ("16UC1; png compressed ", "png"):
        with pytest.raises(ObservationError, match="kind depth_cloud with type sensor_msgs/msg/CompressedImage"):
            decode_compressed(compressed(form, deep), "/i")
        np.testing.assert_allclose(decode_depth(compressed(form, deep), "/d"), deep / 1000, rtol=1e-6)
    bright = compressed("16UC1; jpeg compressed ", np.full((8, 8), 255, np.uint8), ".jpg")
    with pytest.raises(ObservationError, match="kind depth_cloud"):
        decode_compressed(bright, "/i")
    with pytest.raises(ObservationError, match=r"16 bits.*as png, not as jpeg"):
        decode_depth(bright, "/d")


def rvl(depth: np.ndarray) -> bytes:
    """Depth uint16 as its inventor writes it, a number at a time."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            number, low = number >> 3, number & 7
            nibbles.append(low | 8 * (number > 0))
            if not number:
                return

    flat, at, before = depth.reshape(-1).astype(int).tolist(), 0, 0
    while at < len(flat):
        first = next((i for i in range(at, len(flat)) if flat[i]), len(flat))
        last = next((i for i in range(first, len(flat)) if not flat[i]), len(flat))
        put(first - at)
        put(last - first)
        for value in flat[first:last]:
            put((value - before) << 1 if value >= before else ((before - value) << 1) - 1)
            before = value
        at = last
    nibbles += [0] * (-len(nibbles) % 8)
    words = [sum(n << (28 - 4 * i) for i, n in enumerate(nibbles[k : k + 8])) for k in range(0, len(nibbles), 8)]
    return struct.pack("<II", *depth.shape[::-1]) + np.array(words, "<u4").tobytes()


@pytest.mark.parametrize("coding", ["png", "rvl"])
def test_compressed_depth_of_image_transport(coding: str) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(300, 5000, (11, 13)).astype(np.uint16) * (rng.random((11, 13)) > 0.3)
    deep = deep.astype(np.uint16)
    a, b = 10.0, -2.0
    head = struct.pack("<iff", 0, a, b)
    body = rvl(deep) if coding == "rvl" else cv2.imencode(".png", deep)[1].tobytes()
    data = np.frombuffer(head + body, np.uint8)
    whole = decode_depth(N(header=HEADER, format=f"16UC1; compressedDepth {coding}", data=data), "/d")
    np.testing.assert_allclose(whole, deep / 1000, rtol=1e-6)
    inverse = decode_depth(N(header=HEADER, format=f"32FC1; compressedDepth {coding}", data=data), "/d")
    np.testing.assert_allclose(inverse[deep > 0], (a / (deep[deep > 0] - b)), rtol=1e-5)
    assert np.isnan(inverse[deep == 0]).all()
    for cut in (3, 12, 19, len(data) - 30):
        with pytest.raises(ObservationError):
            decode_depth(N(header=HEADER, format=f"16UC1; compressedDepth {coding}", data=data[:cut]), "/d")


def test_a_pictures_size_is_read_before_it_is_made() -> None:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = PNG + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"IEND"
    with pytest.raises(ObservationError, match="30000 x 30000 pixels; max_pixels is 10000000"):
        decode_compressed(N(header=HEADER, format="png", data=np.frombuffer(bomb, np.uint8)), "/i")
    for suffix in (".png", ".jpg"):
        data = cv2.imencode(suffix, np.zeros((7, 9, 3), np.uint8))[1].reshape(-1)
        assert picture_size(data) == (9, 7)
        with pytest.raises(ObservationError, match="cannot be decoded"):
            decode_compressed(N(header=HEADER, format=suffix, data=data[: len(data) // 2]), "/i")
    with pytest.raises(ObservationError, match="4000000000 x 9 pixels"):
        decode_colour(N(header=HEADER, height=9, width=4_000_000_000, encoding="rgb8", is_bigendian=0, step=3,
                        data=b""), "/i")  # fmt: skip


@pytest.mark.parametrize("value", [0, 255])
def test_blank_pictures_and_other_sizes_are_told(value: int) -> None:
    obs = ImageObs(kind="image", topic="/i", resize=(8, 8), size=(16, 16))
    blank = image(rosbags_types, np.full((16, 16, 3), value, np.uint8), 0.0, "cam")
    with pytest.raises(ObservationError, match=r"shows nothing: its contrast is 0\.0"):
        image_frame(obs, {"/i": blank})
    assert image_frame(obs.model_copy(update={"min_contrast": 0.0}), {"/i": blank}).max() == value
    with pytest.raises(ObservationError, match=r"16 x 12; the contract's size \(height, width\) is \[16, 16\]"):
        image_frame(obs, {"/i": image(rosbags_types, np.zeros((12, 16, 3), np.uint8), 0.0, "cam")})


INFO = N(height=24, width=32, k=[40.0, 0, 15.5, 0, 40, 11.5, 0, 0, 1], d=[-0.35, 0.12, 0, 0, 0],
         distortion_model="plumb_bob", p=[32.0, 0, 15.5, 0, 0, 32, 11.5, 0, 0, 0, 1, 0])  # fmt: skip


@pytest.mark.parametrize(("topic", "rectified", "by_p"), [
    ("/camera/depth/image_rect", None, True), ("/depth_rect_raw", None, True), ("/depth/image", None, False),
    ("/direct/depth", None, False), ("/depth/image", True, True), ("/image_rect", False, False),
])  # fmt: skip
def test_rectified_depth_is_projected_by_p(topic: str, rectified: bool | None, by_p: bool) -> None:
    obs = DepthCloudObs(kind="depth_cloud", topic=topic, camera_info="/info", frame="cam", points=768,
                        rectified=rectified)  # fmt: skip
    depth = depth_image(rosbags_types, np.ones((24, 32), np.float32), 0.0, "cam", "16UC1")
    leftmost = cloud_frame(obs, {topic: depth, "/info": INFO})[:, 0].min()
    assert (abs(leftmost + 0.484375) < 1e-4) == by_p
    assert f"projected by {'P' if by_p else 'K and D'} (" in obs.remark


def test_depth_that_is_all_out_of_range_says_what_was_measured() -> None:
    with pytest.raises(ObservationError, match=r"measures 1000 to 1000 m; depth_range_m \[0.05, 10\].*depth_unit_m"):
        depth_points(np.full((24, 32), 1000, np.float32), INFO, (0.05, 10), "/d", "cam")
    with pytest.raises(ObservationError, match="expected 4, 5, 8, 12 or 14 numbers"):
        depth_points(np.ones((24, 32), np.float32), N(**{**vars(INFO), "d": [0.1] * 3}), (0, 9), "/d", "cam")


def cloud(columns: dict[str, np.ndarray], numbers: dict[str, int]) -> N:
    fields, offset = [], 0
    for name, values in columns.items():
        fields.append(N(name=name, offset=offset, datatype=numbers[name], count=1))
        offset += values.dtype.itemsize
    size = len(next(iter(columns.values())))
    parts = [np.ascontiguousarray(v).view(np.uint8).reshape(size, -1) for v in columns.values()]
    data = np.concatenate(parts, axis=1).reshape(-1)
    return N(header=HEADER, height=1, width=size, fields=fields, is_bigendian=False, point_step=offset,
             row_step=offset * size, data=data)  # fmt: skip


@pytest.mark.parametrize(("names", "kind", "scale"), [("rgb", "f4", 1), ("rgb", "f4", 1 / 255), ("rgb", "u1", 1),
                                                      ("bgr", "u4", 1), ("rgba", "u4", 1)])  # fmt: skip
def test_colours_of_every_layout_lie_between_0_and_1(names: str, kind: str, scale: float) -> None:
    xyz = {axis: np.arange(8, dtype=np.float32) for axis in "xyz"}
    if kind == "u4":
        word = 200 << 16 | 100 << 8 | 50 if names != "bgr" else 50 << 16 | 100 << 8 | 200
        extra = {names: np.full(8, word, np.uint32)}
    else:
        extra = {c: np.full(8, v * scale, kind) for c, v in zip("rgb", (200, 100, 50), strict=True)}
    numbers = dict.fromkeys("xyz", 7) | {name: {"f4": 7, "u1": 2, "u4": 6}[kind] for name in extra}
    points = decode_point_cloud(cloud({**xyz, **extra}, numbers), "/p", True)
    np.testing.assert_allclose(points.colour(np.arange(8)), np.tile(np.array([200, 100, 50]) / 255, (8, 1)), atol=1e-6)


def test_colours_that_are_none_are_refused() -> None:
    columns = {name: np.full(8, -1 if name == "g" else 2, np.float32) for name in "xyzrgb"}
    with pytest.raises(ObservationError, match=r"from -1 to 2; expected numbers of 0..1 or 0..255"):
        decode_point_cloud(cloud(columns, dict.fromkeys("xyzrgb", 7)), "/p", True).colour(np.arange(8))


def test_several_cameras_make_one_cloud() -> None:
    left, right = (np.random.default_rng(i).random((50, 3)).astype(np.float32) for i in (0, 1))
    rgb = [np.full((50, 3), c, np.uint8) for c in (255, 51)]
    obs = PointCloudObs(kind="point_cloud", topic="/left", frame="base", points=100, color=True, also=[
        {"topic": "/right", "transform": {"from_frame": "", "xyz": [5, 0, 0]}}])  # fmt: skip
    messages = {"/left": point_cloud2(rosbags_types, left, 0.0, "base", rgb[0]),
                "/right": point_cloud2(rosbags_types, right, 0.0, "", rgb[1])}  # fmt: skip
    frame = cloud_frame(obs, messages)
    assert obs.streams == tuple(obs.topics) == ("/left", "/right")
    np.testing.assert_allclose(frame[:50], np.column_stack([left, np.ones((50, 3))]), atol=1e-6)
    np.testing.assert_allclose(frame[50:], np.column_stack([right + [5, 0, 0], np.full((50, 3), 0.2)]), atol=1e-6)


@pytest.mark.parametrize("form", ["zstd", "zlib"])
def test_compressed_clouds(form: str) -> None:
    xyz = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    plain = point_cloud2(rosbags_types, xyz, 0.0, "base")
    data = bytes(plain.data)
    packed = zstandard.compress(data) if form == "zstd" else zlib.compress(data)
    fields: Any = {f: getattr(plain, f) for f in ("header", "height", "width", "fields", "is_bigendian", "point_step",
                                                  "row_step", "is_dense")}  # fmt: skip
    message = N(**fields, format=form, compressed_data=np.frombuffer(packed, np.uint8))
    np.testing.assert_array_equal(decode_point_cloud(message, "/p", False).y, xyz[:, 1])
    message.compressed_data = message.compressed_data[:-9]
    with pytest.raises(ObservationError, match="'/p'"):
        decode_point_cloud(message, "/p", False)
    message.width = message.row_step = 2**31
    with pytest.raises(ObservationError, match="MB when uncompressed; max_mb is 64"):
        decode_point_cloud(message, "/p", False)
    message.width, message.row_step, message.format = 50, 600, "draco"
    with pytest.raises(ObservationError, match="'draco', for which no decoder is here"):
        decode_point_cloud(message, "/p", False)


@pytest.mark.parametrize("far", [1.0, 1e3, 3e38])
def test_voxels_do_not_depend_on_order_or_on_a_far_point(far: float) -> None:
    rng = np.random.default_rng(0)
    near = rng.random((500, 3)).astype(np.float32)
    means = Voxels(*near.T, 0.1).means
    moved = Voxels(*np.concatenate([rng.permutation(near), [[far, 2, 2]]]).astype(np.float32).T, 0.1).means
    np.testing.assert_allclose(moved[moved[:, 1] < 1.5], means, atol=1e-6)


def test_blind_clouds_are_told() -> None:
    obs = PointCloudObs(kind="point_cloud", topic="/p", frame="base", points=200)
    few = np.full((600, 3), np.nan, np.float32)
    few[:6] = 1.0
    with pytest.raises(ObservationError, match=r"6 of 600 points measured on '/p' are numbers; min_finite is 0.02"):
        cloud_frame(obs, {"/p": point_cloud2(rosbags_types, few, 0.0, "base")})
    with pytest.raises(ObservationError, match="has 3 points after the crop; min_points is 4"):
        cloud_frame(obs, {"/p": point_cloud2(rosbags_types, few[:3], 0.0, "base")})
    empty = N(header=HEADER, height=1, width=0, fields=[N(name=a, offset=0, datatype=7) for a in "xyz"],
              is_bigendian=False, point_step=2**32 - 1, row_step=0, data=b"")  # fmt: skip
    with pytest.raises(ObservationError, match="no points at all"):
        cloud_frame(obs, {"/p": empty})
