"""Encodings of raw pictures: how the bytes of a sensor_msgs/Image lie, and how colour of each becomes RGB.

OpenCV converts. Compressed pictures are compressed.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from difftop_ros.contract.base import MOST_PIXELS
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.types import raw_bytes


@dataclass(frozen=True)
class Encoding:
    """dtype and channels of a pixel; `rows` of data per two rows of the picture; (width, height) divide by `even`."""

    dtype: str
    channels: int
    to_rgb: Callable[[np.ndarray], np.ndarray] = np.ascontiguousarray
    rows: int = 2
    even: tuple[int, int] = (1, 1)


def _reordered(codes: dict[int, int], pixels: np.ndarray) -> np.ndarray:
    """By OpenCV's code for the number of channels; as they are where there is none."""
    pixels = eight_bits(pixels)
    code = codes.get(pixels.shape[2])
    return pixels if code is None else cv2.cvtColor(pixels, code)


def _converted(code: int, pixels: np.ndarray) -> np.ndarray:
    return eight_bits(cv2.cvtColor(pixels, code))


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Uint8 of uint8 or of the upper half of uint16."""
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _nv24(pixels: np.ndarray) -> np.ndarray:
    """Every pixel has its own colour; OpenCV knows one colour for two, which no frame of a policy shows."""
    height, width = pixels.shape[0] // 3, pixels.shape[1]
    chroma = pixels[height:].reshape(height, width // 2, 2, 2).mean(axis=2).astype(np.uint8)
    return cv2.cvtColor(
        np.stack([chroma.reshape(height, width), pixels[:height, :, 0]], axis=-1), cv2.COLOR_YUV2RGB_UYVY
    )


_RGB = partial(_reordered, {4: cv2.COLOR_RGBA2RGB})
_BGR = partial(_reordered, {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB})
_GREY = partial(_reordered, {1: cv2.COLOR_GRAY2RGB})
_UYVY = Encoding("u1", 2, partial(_converted, cv2.COLOR_YUV2RGB_UYVY), even=(2, 1))
_YUYV = Encoding("u1", 2, partial(_converted, cv2.COLOR_YUV2RGB_YUY2), even=(2, 1))
_MOSAIC = {
    "rggb": cv2.COLOR_BayerRGGB2RGB, "bggr": cv2.COLOR_BayerBGGR2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB, "grbg": cv2.COLOR_BayerGRBG2RGB,
}  # fmt: skip
COLOUR_ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding("u1", 3, _RGB), "rgba8": Encoding("u1", 4, _RGB), "bgr8": Encoding("u1", 3, _BGR),
    "bgra8": Encoding("u1", 4, _BGR), "mono8": Encoding("u1", 1, _GREY),
    "rgb16": Encoding("u2", 3, _RGB), "rgba16": Encoding("u2", 4, _RGB), "bgr16": Encoding("u2", 3, _BGR),
    "bgra16": Encoding("u2", 4, _BGR), "mono16": Encoding("u2", 1, _GREY),
    # Without a colour's name: OpenCV's matrices, whose order is blue, green, red.
    "8UC1": Encoding("u1", 1, _GREY), "8UC3": Encoding("u1", 3, _BGR), "8UC4": Encoding("u1", 4, _BGR),
    "uyvy": _UYVY, "yuv422": _UYVY, "yuyv": _YUYV, "yuv422_yuy2": _YUYV,
    "nv12": Encoding("u1", 1, partial(_converted, cv2.COLOR_YUV2RGB_NV12), rows=3, even=(2, 2)),
    "nv21": Encoding("u1", 1, partial(_converted, cv2.COLOR_YUV2RGB_NV21), rows=3, even=(2, 2)),
    "nv24": Encoding("u1", 1, _nv24, rows=6, even=(2, 1)),
} | {
    f"bayer_{order}{bits}": Encoding(f"u{bits // 8}", 1, partial(_converted, code), even=(2, 2))
    for order, code in _MOSAIC.items() for bits in (8, 16)
}  # fmt: skip
DEPTH_ENCODINGS = {"16UC1": Encoding("u2", 1), "mono16": Encoding("u2", 1), "32FC1": Encoding("f4", 1)}


def bounded(width: int, height: int, topic: str, most_pixels: int) -> None:
    """Raises ObservationError for a picture of more pixels than `most_pixels`; called before it is made."""
    if width * height > most_pixels:
        raise ObservationError(
            f"picture on '{topic}' says it has {width} x {height} pixels; max_pixels is {most_pixels}: raise it if the "
            "camera is that large"
        )


def image_array(
    message: Any, topic: str, encodings: dict[str, Encoding], remedy: str, most_pixels: int = MOST_PIXELS
) -> np.ndarray:
    """The picture as (rows, width, channels) in its own encoding and native byte order; row padding is left out.

    Raises ObservationError for an encoding not in `encodings`, for more pixels than `most_pixels`, for a size that the
    encoding cannot have, and when `data` is shorter than the header promises.
    """
    if message.encoding not in encodings:
        raise ObservationError(
            f"Image on '{topic}' has encoding {message.encoding!r:.40}; expected one of {sorted(encodings)}: {remedy}"
        )
    encoding = encodings[message.encoding]
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = int(message.height), int(message.width), int(message.step)
    bounded(width, height, topic, most_pixels)
    if width % encoding.even[0] or height % encoding.even[1]:
        raise ObservationError(
            f"Image on '{topic}' is {width} x {height} {message.encoding}; its width and height must be multiples of "
            f"{encoding.even}: the publisher's header is wrong"
        )
    row, rows = width * encoding.channels * dtype.itemsize, height * encoding.rows // 2
    data = raw_bytes(message.data)
    if height < 1 or width < 1 or step < row or data.size < step * (rows - 1) + row:
        raise ObservationError(
            f"Image on '{topic}' is {width} x {height} {message.encoding} with step {step} and {data.size} bytes; "
            f"expected a step of at least {row} and {row * rows} bytes or more: the publisher's header is wrong"
        )
    lines = np.lib.stride_tricks.as_strided(data, (rows, row), (step, 1), writeable=False)
    if step == row:
        lines = data[: rows * row].reshape(rows, row)
    pixels = np.ascontiguousarray(lines).view(dtype).reshape(rows, width, encoding.channels)
    return pixels if dtype.isnative else pixels.astype(dtype.newbyteorder("="))
