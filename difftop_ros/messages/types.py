"""Message classes by type name, stamps and headers, buffers: what every file of this folder builds messages with.

Functions that make messages take `types`: a callable from a type's name ('sensor_msgs/msg/Image') to its class.
`ros_types` gives rclpy's classes, `rosbags_types` those of a rosbags type store; both kinds are filled alike.
"""

from __future__ import annotations

import array
import functools
import importlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

Types = Callable[[str], Any]
NANO = 1_000_000_000
HEADER_BYTES = 12  # CDR: four of encapsulation, then a header's stamp


@functools.cache
def ros_types(name: str) -> Any:
    """rclpy's class of a message, service or action type, imported when first asked for."""
    package, family, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.{family}"), kind)


@functools.cache
def rosbags_types(name: str) -> Any:
    """A rosbags type store's class that can be filled like rclpy's: made empty, then assigned to."""
    return functools.partial(_empty, _standard_types(), name)


# Messages of much data. rosbags gives views of the bytes, where rclpy's classes copy them twice.
LARGE = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/PointCloud2")


def read_large(raw: bytes | memoryview, kind: str) -> Any:
    """A message of a type in LARGE; its data are a view of the serialised bytes. Raises whatever wrong bytes cause."""
    return _standard_types().deserialize_cdr(memoryview(raw), kind)  # of bytes it would copy a slice


@functools.cache
def _standard_types() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


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
    message.sec, message.nanosec = divmod(round(time_s * 1e9), NANO)
    return message


def stamped(types: Types, kind: str, time_s: float, frame: str) -> Any:
    """An empty message of `kind` whose header has the stamp `time_s` [s] and the frame id."""
    message = types(kind)()
    message.header.stamp = stamp(types, time_s)
    message.header.frame_id = frame
    return message


def message_stamp(clock: str, message: Any, receive_ns: int) -> int:
    """Time of a message [ns]: its header stamp under clock 'header' (if it has a header), else when it was received."""
    header = getattr(message, "header", None)
    if clock == "receive" or header is None:
        return receive_ns
    return int(header.stamp.sec) * NANO + int(header.stamp.nanosec)


def header_stamp(raw: bytes) -> int:
    """Header stamp [ns] of a serialised message (CDR) whose first field is a std_msgs/Header."""
    seconds, nanoseconds = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    return seconds * NANO + nanoseconds


def raw_bytes(data: Any) -> np.ndarray:
    """View of a message's uint8[] field as uint8 (n,), without a copy where the buffer protocol is offered."""
    try:
        return np.frombuffer(data, dtype=np.uint8)
    except TypeError:
        return np.asarray(data, dtype=np.uint8)


def byte_field(types: Types, values: np.ndarray) -> Any:
    """Bytes as the message class likes them: array.array for rclpy (a list or ndarray takes 100 times longer)."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if types is rosbags_types:
        return flat
    data = array.array("B")
    data.frombytes(flat.data)
    return data


def float_field(types: Types, values: np.ndarray) -> Any:
    """Float64 numbers as the message class likes them."""
    flat = np.ascontiguousarray(values, np.float64)
    return flat if types is rosbags_types else array.array("d", flat.tobytes())
