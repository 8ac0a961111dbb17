"""ROS messages from numpy arrays, for the bridge and evaluation without ROS. Publishing and decoding live elsewhere.

Every function takes `types`: a callable from a type's name ('sensor_msgs/msg/Image') to its class. `ros_types` gives
rclpy's classes, `rosbags_types` those of a rosbags type store; both kinds are filled alike.
"""

from __future__ import annotations

import array
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Types = Callable[[str], Any]

_POINT_FLOAT32 = 7  # sensor_msgs/msg/PointField.FLOAT32
_COLOUR_ENCODINGS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2, None), "bgra8": (2, 1, 0, None)}


@functools.cache
def ros_types(name: str) -> Any:
    """rclpy's class of a message type, imported when first asked for."""
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


@functools.cache
def rosbags_types(name: str) -> Any:
    """A rosbags type store's class that can be filled like rclpy's: made empty, then assigned to."""
    from rosbags.typesys import Stores, get_typestore

    return functools.partial(_empty, get_typestore(Stores.ROS2_JAZZY), name)


def _empty(store: Any, name: str) -> Any:
    """A zero-initialised message of a rosbags type; its classes want every field at construction and are not frozen."""
    kind = store.types[name]
    values = [_default(store, definition) for _, definition in store.fielddefs[name][1]]
    return kind(*values)


def _default(store: Any, definition: tuple[Any, Any]) -> Any:
    from rosbags.interfaces import Nodetype

    node, detail = definition
    if node == Nodetype.BASE:
        return {"string": "", "bool": False}.get(detail[0], 0.0 if detail[0].startswith("float") else 0)
    if node == Nodetype.NAME:
        return _empty(store, detail)
    element, size = detail
    size = size if node == Nodetype.ARRAY else 0
    if element[0] == Nodetype.BASE and element[1][0] != "string":
        return np.zeros(size, element[1][0])
    return [_default(store, element) for _ in range(size)]


def stamp(types: Types, time_s: float) -> Any:
    """builtin_interfaces/msg/Time of `time_s` [s], rounded to nanoseconds."""
    message = types("builtin_interfaces/msg/Time")()
    message.sec, message.nanosec = divmod(round(time_s * 1e9), 1_000_000_000)
    return message


def image(types: Types, pixels: np.ndarray, time_s: float, frame: str, encoding: str = "rgb8") -> Any:
    """sensor_msgs/msg/Image from RGB uint8 (h, w, 3); `encoding` rgb8, bgr8, rgba8, bgra8 or mono8."""
    if encoding == "mono8":
        pixels = (pixels @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]
    elif encoding != "rgb8":
        if encoding not in _COLOUR_ENCODINGS:
            raise ValueError(f"encoding is '{encoding}'; expected one of {[*_COLOUR_ENCODINGS, 'mono8']}")
        opaque = np.full(pixels.shape[:2], 255, np.uint8)
        channels = [opaque if c is None else pixels[..., c] for c in _COLOUR_ENCODINGS[encoding]]
        pixels = np.stack(channels, axis=-1)
    return _raw_image(types, pixels, time_s, frame, encoding)


def depth_image(types: Types, depth: np.ndarray, time_s: float, frame: str, encoding: str = "32FC1") -> Any:
    """sensor_msgs/msg/Image from depth float32 (h, w) [m]: 32FC1 [m], or 16UC1 [mm] with 0 where it does not fit."""
    if encoding == "16UC1":
        millimetres = np.rint(depth * 1000.0)
        fits = (millimetres > 0) & (millimetres < 65536)  # false for NaN too
        pixels = np.where(fits, millimetres, 0).astype(np.uint16)
    elif encoding == "32FC1":
        pixels = np.asarray(depth, np.float32)
    else:
        raise ValueError(f"depth encoding is '{encoding}'; expected '32FC1' or '16UC1'")
    return _raw_image(types, pixels[..., None], time_s, frame, encoding)


def compressed_image(
    types: Types, pixels: np.ndarray, time_s: float, frame: str, form: str = "jpeg", quality: int = 90
) -> Any:
    """sensor_msgs/msg/CompressedImage from RGB uint8 (h, w, 3); `form` 'jpeg' (quality 1..100) or 'png'."""
    import cv2

    if form not in ("jpeg", "png"):
        raise ValueError(f"form is '{form}'; expected 'jpeg' or 'png'")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if form == "jpeg" else []
    done, encoded = cv2.imencode(f".{form}", np.ascontiguousarray(pixels[..., ::-1]), options)
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {pixels.shape} as {form}")
    message = _stamped(types, "sensor_msgs/msg/CompressedImage", time_s, frame)
    message.format = form
    message.data = _bytes(types, encoded)
    return message


def camera_info(types: Types, K: np.ndarray, width: int, height: int, time_s: float, frame: str) -> Any:
    """sensor_msgs/msg/CameraInfo of a pinhole camera K (3, 3) [px] without distortion."""
    message = _stamped(types, "sensor_msgs/msg/CameraInfo", time_s, frame)
    message.width, message.height = width, height
    message.distortion_model = "plumb_bob"
    message.d = _floats(types, np.zeros(5))
    message.k = np.asarray(K, np.float64).ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([K, np.zeros((3, 1))]).astype(np.float64).ravel()
    return message


def point_cloud2(
    types: Types,
    xyz: np.ndarray,
    time_s: float,
    frame: str,
    rgb: np.ndarray | None = None,
    *,
    order: Sequence[str] = ("x", "y", "z", "rgb"),
    padding: int = 0,
    row_padding: int = 0,
    big_endian: bool = False,
) -> Any:
    """sensor_msgs/msg/PointCloud2 from xyz float32 (..., 3) [m] and, if given, rgb uint8 (..., 3).

    (h, w, 3) makes an organised cloud, (n, 3) a flat one. Colour is packed as 0x00RRGGBB into a FLOAT32 field 'rgb'.
    `order` places the fields, `padding` adds bytes before each field, `row_padding` adds bytes at the end of each row,
    `big_endian` swaps bytes: drivers differ in all of these.
    """
    height, width = (1, xyz.shape[0]) if xyz.ndim == 2 else xyz.shape[:2]
    names = [n for n in order if n != "rgb" or rgb is not None]
    stride = 4 + padding
    step = stride * len(names)
    row_step = step * width + row_padding
    kind = ">f4" if big_endian else "<f4"
    if names == ["x", "y", "z", "rgb"] and not (padding or row_padding or big_endian):
        buffer = np.empty((height, width, 4), np.float32)
        buffer[..., :3] = xyz.reshape(height, width, 3)
        buffer[..., 3] = _packed(rgb, height, width)
    else:
        buffer = np.zeros((height, row_step), np.uint8)
        points = buffer[:, : step * width].reshape(height, width, step)
        values = dict(zip("xyz", np.moveaxis(xyz.reshape(height, width, 3), -1, 0), strict=True))
        if rgb is not None:
            values["rgb"] = _packed(rgb, height, width)
        for i, name in enumerate(names):
            start = i * stride + padding
            points[..., start : start + 4] = values[name].astype(kind)[..., None].view(np.uint8)
    message = _stamped(types, "sensor_msgs/msg/PointCloud2", time_s, frame)
    message.height, message.width = height, width
    message.fields = [_point_field(types, name, i * stride + padding) for i, name in enumerate(names)]
    message.is_bigendian = big_endian
    message.point_step, message.row_step = step, row_step
    message.data = _bytes(types, buffer)
    message.is_dense = bool(np.isfinite(xyz).all())
    return message


def joint_state(
    types: Types,
    names: Sequence[str],
    time_s: float,
    position: np.ndarray | None = None,
    velocity: np.ndarray | None = None,
    effort: np.ndarray | None = None,
) -> Any:
    """sensor_msgs/msg/JointState; each of position, velocity and effort (n,) may be absent."""
    message = _stamped(types, "sensor_msgs/msg/JointState", time_s, "")
    message.name = list(names)
    for field, values in (("position", position), ("velocity", velocity), ("effort", effort)):
        setattr(message, field, _floats(types, np.empty(0) if values is None else values))
    return message


def command(
    types: Types, kind: str, names: Sequence[str], values: np.ndarray, time_s: float, mode: str, period_s: float = 0.05
) -> Any:
    """A command message of type `kind` for `values` (n,): positions or increments, or velocities in mode 'velocity'.

    A JointTrajectory has one point, to be reached `period_s` [s] after the stamp.
    """
    velocities = mode == "velocity"
    if kind == "sensor_msgs/msg/JointState":
        field = {"velocity" if velocities else "position": values}
        return joint_state(types, names, time_s, **field)
    if kind == "std_msgs/msg/Float64MultiArray":
        message = types(kind)()
        message.data = _floats(types, values)
        return message
    if kind != "trajectory_msgs/msg/JointTrajectory":
        raise ValueError(f"command type is '{kind}'; expected a JointState, JointTrajectory or Float64MultiArray")
    message = _stamped(types, kind, time_s, "")
    message.joint_names = list(names)
    point = types("trajectory_msgs/msg/JointTrajectoryPoint")()
    empty = _floats(types, np.empty(0))
    point.positions = point.velocities = point.accelerations = point.effort = empty
    setattr(point, "velocities" if velocities else "positions", _floats(types, values))
    point.time_from_start = types("builtin_interfaces/msg/Duration")()
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(period_s * 1e9), 1_000_000_000)
    message.points = [point]
    return message


def _stamped(types: Types, kind: str, time_s: float, frame: str) -> Any:
    message = types(kind)()
    message.header.stamp = stamp(types, time_s)
    message.header.frame_id = frame
    return message


def _raw_image(types: Types, pixels: np.ndarray, time_s: float, frame: str, encoding: str) -> Any:
    message = _stamped(types, "sensor_msgs/msg/Image", time_s, frame)
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.is_bigendian = encoding, 0
    message.step = pixels.shape[1] * pixels.shape[2] * pixels.itemsize
    message.data = _bytes(types, pixels)
    return message


def _point_field(types: Types, name: str, offset: int) -> Any:
    field = types("sensor_msgs/msg/PointField")()
    field.name, field.offset, field.datatype, field.count = name, offset, _POINT_FLOAT32, 1
    return field


def _packed(rgb: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """Colours (..., 3) uint8 as float32 (h, w) whose bits are 0x00RRGGBB."""
    if rgb is None:
        raise ValueError("the field order names 'rgb' but no colours were given")
    wide = rgb.reshape(height, width, 3).astype(np.uint32)
    return ((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]).view(np.float32)


def _bytes(types: Types, values: np.ndarray) -> Any:
    """Bytes as the message class likes them: array.array for rclpy (a list or ndarray takes 100 times longer)."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if types is rosbags_types:
        return flat
    data = array.array("B")
    data.frombytes(flat.data)
    return data


def _floats(types: Types, values: np.ndarray) -> Any:
    flat = np.ascontiguousarray(values, np.float64)
    return flat if types is rosbags_types else array.array("d", flat.tobytes())
