"""Point sources: PointCloud2 to planar points and back, depth pictures to points. Clouds for a policy: clouds.py.

Points travel as three arrays (x, y, z) because cropping axis by axis is several times faster than on (n, 3). They are
views of the message where it holds float32: what is cropped away is never copied, and colour is read only for the
points that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from difftop_ros.messages.cloud_transport import uncompressed
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.types import Types, byte_field, raw_bytes, stamped

_DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_FLOAT32 = 7


@dataclass(frozen=True)
class Points:
    """n points as measured: xyz float32 (n,) each [m], non-finite ones still there; `colour(index)` is (k, 3) 0..1.

    x, y, z may be views with strides, of memory that is not theirs: do not write into them.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    frame_id: str
    colour: Callable[[np.ndarray], np.ndarray] | None = None


def joined(parts: Sequence[Points]) -> Points:
    """The points of several cameras, all in the first one's frame, one camera after the other."""
    x, y, z = (np.concatenate([getattr(part, axis) for part in parts]) for axis in "xyz")
    first = np.cumsum([0, *(part.x.size for part in parts)])

    def colour(index: np.ndarray) -> np.ndarray:
        found = np.zeros((index.size, 3), np.float32)
        for number, part in enumerate(parts):
            mine = (index >= first[number]) & (index < first[number + 1])
            if part.colour is not None:
                found[mine] = part.colour(index[mine] - first[number])
        return found

    return Points(x, y, z, parts[0].frame_id, colour if parts[0].colour is not None else None)


def decode_point_cloud(message: Any, topic: str, colour: bool, max_mb: float = 64.0) -> Points:
    """Points of a PointCloud2 with any field order, datatype, endianness and padding, compressed or not.

    max_mb: what a compressed cloud may grow to. Raises ObservationError.
    """
    if hasattr(message, "compressed_data"):
        message = uncompressed(message, topic, max_mb)
    fields = {field.name: field for field in message.fields}
    lacking = [axis for axis in "xyz" if axis not in fields]
    if lacking:
        raise ObservationError(
            f"PointCloud2 on '{topic}' lacks the fields {lacking}; it has {list(fields)}: give the topic of a cloud "
            "with x, y and z"
        )
    wanted = ["x", "y", "z"] + (_colour_fields(fields, topic) if colour else [])
    table = _structured(message, {name: fields[name] for name in wanted}, topic)
    x, y, z = (table[axis].astype(np.float32, copy=False) for axis in "xyz")
    reader = _colour_reader(table, wanted[3:], topic) if colour else None
    return Points(x, y, z, message.header.frame_id, reader)


def _structured(message: Any, fields: dict[str, Any], topic: str) -> np.ndarray:
    """The cloud's buffer as a structured array (n,) with only `fields`; no copy unless rows are padded."""
    height, width = int(message.height), int(message.width)
    point_step, row_step = int(message.point_step), int(message.row_step)
    order = ">" if message.is_bigendian else "<"
    if not (height and width):
        return np.zeros(0, [(name, "f4") for name in fields])
    formats = []
    for name, field in fields.items():
        if field.datatype not in _DATATYPES:
            raise ObservationError(
                f"PointCloud2 on '{topic}' has field '{name}' of datatype {field.datatype}; expected 1 (INT8) to "
                "8 (FLOAT64): the publisher's header is wrong"
            )
        formats.append(order + _DATATYPES[field.datatype])
    offsets = [int(field.offset) for field in fields.values()]
    end = max(o + np.dtype(f).itemsize for o, f in zip(offsets, formats, strict=True))
    data = raw_bytes(message.data)
    # Many drivers leave row_step at 0 in unorganised clouds.
    row_step = row_step or width * point_step
    needed = row_step * (height - 1) + width * point_step
    if point_step < end or row_step < width * point_step or data.size < needed:
        raise ObservationError(
            f"PointCloud2 on '{topic}' is {width} x {height} with point_step {point_step}, row_step {row_step} and "
            f"{data.size} bytes; expected point_step >= {end} and {needed} bytes: the publisher's header is wrong"
        )
    dtype = np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": point_step})
    if row_step == width * point_step or height == 1:
        return data[: width * height * point_step].view(dtype)
    rows = np.lib.stride_tricks.as_strided(data, (height, width * point_step), (row_step, 1), writeable=False)
    return np.ascontiguousarray(rows).view(dtype).reshape(-1)


def _colour_fields(fields: dict[str, Any], topic: str) -> list[str]:
    for name in ("rgb", "rgba", "bgr", "bgra"):
        if name in fields:
            return [name]
    for names in (["r", "g", "b"], ["red", "green", "blue"]):
        if all(name in fields for name in names):
            return names
    raise ObservationError(
        f"PointCloud2 on '{topic}' has no colour; it has the fields {list(fields)} and the contract says color: true: "
        "set color to false, or publish a field 'rgb'"
    )


def _colour_reader(table: np.ndarray, names: list[str], topic: str) -> Callable[[np.ndarray], np.ndarray]:
    def packed(index: np.ndarray) -> np.ndarray:
        words = table[names[0]][index]
        if words.dtype.itemsize != 4:
            raise ObservationError(
                f"PointCloud2 on '{topic}' packs colour into {words.dtype}; expected FLOAT32 or UINT32 (0x00RRGGBB)"
            )
        # Byte order first, then the bits: a float's bits are the colour, its value means nothing.
        bits = words.astype(words.dtype.newbyteorder("=")).view(np.uint32)
        shifts = [16, 8, 0] if names[0].startswith("rgb") else [0, 8, 16]
        shifted = bits[:, None] >> np.array(shifts, np.uint32)
        return (shifted & 0xFF).astype(np.float32) * np.float32(1 / 255)

    def separate(index: np.ndarray) -> np.ndarray:
        columns = [table[name] for name in names]
        # One scale for the whole cloud: a dark part of it is no reason to read its numbers otherwise.
        top = max(float(np.max(column, initial=0.0, where=np.isfinite(column))) for column in columns)
        found = np.stack([column[index].astype(np.float32) for column in columns], axis=1)
        whole = columns[0].dtype.kind != "f"
        full = 65535.0 if whole and top > 255 else 255.0 if whole or top > 1.0 else 1.0
        if not np.isfinite(found).all() or found.min(initial=0.0) < 0 or top > full:
            raise ObservationError(
                f"PointCloud2 on '{topic}' has colours {names} from {found.min(initial=0.0):g} to {top:g}; expected "
                "numbers of 0..1 or 0..255"
            )
        return found * np.float32(1.0 / full)

    return packed if len(names) == 1 else separate


def depth_points(
    depth: np.ndarray,
    info: Any,
    near_far: tuple[float, float],
    topic: str,
    frame_id: str,
    rectified: bool = False,
    picture: np.ndarray | None = None,
) -> Points:
    """Points of `depth` float32 (h, w) [m] seen by the camera `info` describes; unmeasured pixels left out.

    rectified: projected by the CameraInfo's P, as the picture has no distortion any more; else by K and D.
    picture: uint8 (h, w, 3), the points' colours. Raises ObservationError for a CameraInfo that does not belong to the
    picture or cannot be used, and when nothing was measured within `near_far` [m].
    """
    if (int(info.height), int(info.width)) != depth.shape:
        raise ObservationError(
            f"depth Image on '{topic}' is {depth.shape[1]} x {depth.shape[0]}, its CameraInfo says {info.width} x "
            f"{info.height}; give the camera_info topic that belongs to the depth picture"
        )
    p, d = np.array(info.p if rectified else (), np.float64), tuple(map(float, info.d))
    by, k = "K", tuple(map(float, info.k))
    if rectified and p.any():
        by, k = "P", tuple(p.reshape(3, 4)[:, :3].reshape(-1).tolist())
    d = () if rectified or not any(d) else d
    if not (np.all(np.isfinite(k)) and k[0] > 0 and k[4] > 0):
        raise ObservationError(
            f"CameraInfo for '{topic}' has {by} = {list(k)}; expected positive focal lengths: calibrate the camera"
        )
    if d and info.distortion_model not in ("plumb_bob", "rational_polynomial"):
        raise ObservationError(
            f"CameraInfo for '{topic}' has distortion model {info.distortion_model!r}; expected 'plumb_bob' or "
            "'rational_polynomial': use the rectified depth topic"
        )
    if d and (len(d) not in (4, 5, 8, 12, 14) or not np.all(np.isfinite(d))):
        raise ObservationError(
            f"CameraInfo for '{topic}' has D = {list(d)}; expected 4, 5, 8, 12 or 14 numbers: calibrate the camera"
        )
    x_ray, y_ray = _rays(k, d, depth.shape)
    z = depth.reshape(-1)
    with np.errstate(invalid="ignore"):
        kept = np.flatnonzero((z >= near_far[0]) & (z <= near_far[1]))
    if not kept.size:
        measured = z[np.isfinite(z) & (z > 0)]
        span = f"{measured.min():g} to {measured.max():g} m" if measured.size else "nothing"
        raise ObservationError(
            f"depth on '{topic}' measures {span}; depth_range_m {list(near_far)} keeps none of it: correct it, or "
            "depth_unit_m if these are no metres"
        )
    z = z[kept]
    colour = None if picture is None else _picked(picture, kept)
    return Points(x_ray[kept] * z, y_ray[kept] * z, z, frame_id, colour)


def _picked(picture: np.ndarray, kept: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Colours 0..1 of the pixels `kept` of a picture uint8 (h, w, 3), by the points' index."""
    pixels = picture.reshape(-1, 3)
    return lambda index: pixels[kept[index]].astype(np.float32) / np.float32(255)


@lru_cache(maxsize=4)  # with a camera's rays kept, a frame costs three multiplications
def _rays(k: tuple[float, ...], d: tuple[float, ...], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """x / z and y / z of every pixel, float32 (h * w,) each."""
    if not d:
        x, y = ((np.arange(shape[1 - i]) - k[3 * i + 2]) / k[4 * i] for i in (0, 1))
        return np.tile(x.astype(np.float32), shape[0]), np.repeat(y.astype(np.float32), shape[1])
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    rays = cv2.undistortPoints(pixels, np.array(k).reshape(3, 3), np.array(d))[:, 0]
    return rays[:, 0].astype(np.float32), rays[:, 1].astype(np.float32)


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
    message = stamped(types, "sensor_msgs/msg/PointCloud2", time_s, frame)
    message.height, message.width = height, width
    message.fields = [_point_field(types, name, i * stride + padding) for i, name in enumerate(names)]
    message.is_bigendian = big_endian
    message.point_step, message.row_step = step, row_step
    message.data = byte_field(types, buffer)
    message.is_dense = bool(np.isfinite(xyz).all())
    return message


def _point_field(types: Types, name: str, offset: int) -> Any:
    field = types("sensor_msgs/msg/PointField")()
    field.name, field.offset, field.datatype, field.count = name, offset, _FLOAT32, 1
    return field


def _packed(rgb: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """Colours (..., 3) uint8 as float32 (h, w) whose bits are 0x00RRGGBB."""
    if rgb is None:
        raise ValueError("the field order names 'rgb' but no colours were given")
    wide = rgb.reshape(height, width, 3).astype(np.uint32)
    return ((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]).view(np.float32)
