"""Compressed pictures: jpeg and png of colour and of depth, and image_transport's compressedDepth (png, rvl).

A picture's size is read from its header before anything is made of it: a few bytes may promise gigabytes.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np

from difftop_ros.contract.base import MOST_PIXELS
from difftop_ros.messages.encodings import COLOUR_ENCODINGS, DEPTH_ENCODINGS, bounded, eight_bits
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.types import raw_bytes

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_NO_SIZE = {0xC4, 0xC8, 0xCC}  # tables, in the range of the markers that begin a frame
DEPTH_HEADER = 12  # bytes of compressedDepth: format, then the two parameters of its quantisation
AS_DEPTH = "observe it as kind depth_cloud with type sensor_msgs/msg/CompressedImage"


def decode_compressed(message: Any, topic: str, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a jpeg or png CompressedImage of colour. Raises ObservationError."""
    encoding, _, transport = (part.strip() for part in str(message.format).partition(";"))
    if "compressedDepth" in message.format or encoding in ("16UC1", "32FC1"):
        raise ObservationError(f"CompressedImage on '{topic}' (format {message.format!r}) is depth: {AS_DEPTH}")
    mosaic = encoding.startswith("bayer_")
    picture = _decoded(raw_bytes(message.data), message, topic, most_pixels, cv2.IMREAD_UNCHANGED if mosaic else None)
    if picture.dtype != np.uint8:
        if encoding not in COLOUR_ENCODINGS:
            raise ObservationError(
                f"CompressedImage on '{topic}' (format {message.format!r}) has {picture.dtype} pixels; expected "
                f"8 bits: if it is depth, {AS_DEPTH}"
            )
        picture = eight_bits(picture)
    if mosaic and picture.ndim == 2:
        if encoding not in COLOUR_ENCODINGS or picture.shape[0] % 2 or picture.shape[1] % 2:
            raise ObservationError(
                f"CompressedImage on '{topic}' (format {message.format!r}, {picture.shape[1]} x {picture.shape[0]}) is "
                "no mosaic that is known; compress a picture in colour"
            )
        return COLOUR_ENCODINGS[encoding[:-1].removesuffix("1") + "8"].to_rgb(picture)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    # image_transport says so where it did not turn the channels round before compressing.
    turned = "compressed rgb" in transport
    return np.ascontiguousarray(picture[..., :3] if turned else picture[..., 2::-1])


def decode_compressed_depth(message: Any, topic: str, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Depth (height, width) as sent: uint16 (of 16UC1) or float32 (of 32FC1). Raises ObservationError."""
    encoding = str(message.format).partition(";")[0].strip()
    data = raw_bytes(message.data)
    if "compressedDepth" not in message.format:
        return _sixteen(_decoded(data, message, topic, most_pixels, cv2.IMREAD_UNCHANGED), message, topic)
    if data.size <= DEPTH_HEADER:
        raise ObservationError(f"CompressedImage on '{topic}' has {data.size} bytes, too few for compressedDepth")
    if encoding not in DEPTH_ENCODINGS:
        raise ObservationError(
            f"CompressedImage on '{topic}' has format {message.format!r}; expected depth of {sorted(DEPTH_ENCODINGS)}"
        )
    _, a, b = struct.unpack("<iff", data[:DEPTH_HEADER].tobytes())
    body = data[DEPTH_HEADER:]
    if "rvl" in message.format:
        values = _rvl(body, topic, most_pixels)
    else:
        values = _sixteen(_decoded(body, message, topic, most_pixels, cv2.IMREAD_UNCHANGED), message, topic)
    if encoding != "32FC1":
        return values
    with np.errstate(all="ignore"):
        depth = np.float32(a) / (values.astype(np.float32) - np.float32(b))
    return np.where(values > 0, depth, np.float32("nan")).astype(np.float32)


def _sixteen(picture: np.ndarray, message: Any, topic: str) -> np.ndarray:
    if picture.dtype != np.uint16 or picture.ndim != 2:
        raise ObservationError(
            f"CompressedImage on '{topic}' (format {message.format!r}) holds {picture.dtype} pixels of shape "
            f"{picture.shape}; depth needs one channel of 16 bits: let the driver compress it as png, not as jpeg"
        )
    return picture


def picture_size(data: np.ndarray) -> tuple[int, int] | None:
    """(width, height) [px] as the header of a png or jpeg says; None for anything else."""
    head = data[:64].tobytes()
    if head.startswith(PNG) and len(head) >= 24:
        return struct.unpack_from(">II", head, 16)
    at = 2 if head.startswith(JPEG) else data.size
    while at + 9 <= data.size:
        mark, kind = int(data[at]), int(data[at + 1])
        if mark != 0xFF:
            return None
        if kind == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= kind <= 0xCF and kind not in _NO_SIZE:
            height, width = struct.unpack_from(">HH", data[at + 5 : at + 9].tobytes())
            return width, height
        at += 2 + int(data[at + 2]) * 256 + int(data[at + 3])
    return None


def _decoded(data: np.ndarray, message: Any, topic: str, most_pixels: int, flags: int | None) -> np.ndarray:
    """The picture as OpenCV reads it, channels blue, green, red."""
    size = picture_size(data)
    picture = None
    if size is not None:
        bounded(*size, topic, most_pixels)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if flags is None else flags
        try:
            picture = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION * (flags != cv2.IMREAD_UNCHANGED))
        except cv2.error:
            picture = None
    whole = b"IEND" if data[:8].tobytes() == PNG else b"\xff\xd9"
    if picture is None or whole not in data[-4096:].tobytes():
        raise ObservationError(
            f"CompressedImage on '{topic}' (format {message.format!r}, {data.size} bytes) cannot be decoded; "
            "expected a whole jpeg or png picture: check the publisher's transport"
        )
    return picture


def _rvl(data: np.ndarray, topic: str, most_pixels: int) -> np.ndarray:
    """Uint16 (rows, columns) of RVL: zeros, count of values, their differences, again; numbers in 3 bits a nibble."""

    def broken(why: str) -> ObservationError:
        return ObservationError(f"CompressedImage on '{topic}' is no whole rvl picture ({why}); check its transport")

    if data.size < 8:
        raise broken(f"{data.size} bytes")
    columns, rows = struct.unpack("<II", data[:8].tobytes())
    bounded(columns, rows, topic, most_pixels)
    pixels = columns * rows
    words = data[8 : 8 + min((data.size - 8) // 4, pixels + 16) * 4].view("<u4")
    nibbles = ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).astype(np.int64).reshape(-1)
    ends = np.flatnonzero(nibbles < 8)
    if not ends.size:
        raise broken("no numbers")
    nibbles = nibbles[: ends[-1] + 1]
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(nibbles.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 7:
        raise broken("a number is too long")
    numbers = np.add.reduceat((nibbles & 7) << (3 * place), starts)
    differences, out = (numbers >> 1) ^ -(numbers & 1), np.zeros(pixels, np.int64)
    listed = numbers.tolist()
    at = done = 0
    where, which = [], []
    while done < pixels and at + 1 < len(listed):
        zeros, count = listed[at], listed[at + 1]
        if zeros + count == 0 or done + zeros + count > pixels or at + 2 + count > len(listed):
            raise broken("a run does not fit")
        where.append((done + zeros, count))
        which.append(at + 2)
        done, at = done + zeros + count, at + 2 + count
    if done < pixels:
        raise broken(f"{done} of {pixels} pixels")
    counts = np.array([count for _, count in where], np.int64)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = np.repeat(np.array(which, np.int64), counts) + within
    out[np.repeat(np.array([first for first, _ in where], np.int64), counts) + within] = np.cumsum(differences[taken])
    return out.astype(np.uint16).reshape(rows, columns)
