"""Pictures: sensor_msgs Image and CompressedImage to arrays, crop and resize. Depth to points is depth.py's job.

Messages are duck-typed: rclpy's (data is array.array) and rosbags' (data is numpy) both work, without a copy.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from difftop_ros.contract import ImageObs
from difftop_ros.messages.errors import ObservationError

# encoding -> (numpy type of a channel, channels)
COLOUR_ENCODINGS: dict[str, tuple[str, int]] = {
    "rgb8": ("u1", 3),
    "bgr8": ("u1", 3),
    "rgba8": ("u1", 4),
    "bgra8": ("u1", 4),
    "mono8": ("u1", 1),
}
DEPTH_ENCODINGS: dict[str, tuple[str, int]] = {"16UC1": ("u2", 1), "mono16": ("u2", 1), "32FC1": ("f4", 1)}


def raw_bytes(data: Any) -> np.ndarray:
    """View of a message's uint8[] field as uint8 (n,), without a copy where the buffer protocol is offered."""
    try:
        return np.frombuffer(data, dtype=np.uint8)
    except TypeError:
        return np.asarray(data, dtype=np.uint8)


def image_array(message: Any, topic: str, encodings: dict[str, tuple[str, int]], remedy: str) -> np.ndarray:
    """The picture as (height, width, channels) in its own encoding and native byte order; row padding is left out.

    Raises ObservationError for an encoding not in `encodings`, and when `data` is shorter than the header promises.
    """
    if message.encoding not in encodings:
        raise ObservationError(
            f"Image on '{topic}' has encoding {message.encoding!r}; expected one of {sorted(encodings)}: {remedy}"
        )
    kind, channels = encodings[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * channels * dtype.itemsize
    data = raw_bytes(message.data)
    if height < 1 or width < 1 or step < row or data.size < step * (height - 1) + row:
        raise ObservationError(
            f"Image on '{topic}' is {width} x {height} {message.encoding} with step {step} and {data.size} bytes; "
            f"expected a step of at least {row} and {row * height} bytes or more: the publisher's header is wrong"
        )
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
    if step == row:
        rows = data[: height * row].reshape(height, row)
    pixels = np.ascontiguousarray(rows).view(dtype).reshape(height, width, channels)
    return pixels if dtype.isnative else pixels.astype(dtype.newbyteorder("="))


def decode_colour(message: Any, topic: str) -> np.ndarray:
    """RGB uint8 (height, width, 3) of an Image. Raises ObservationError."""
    pixels = image_array(
        message, topic, COLOUR_ENCODINGS, "set the driver's encoding, or observe a depth picture as kind depth_cloud"
    )
    if message.encoding == "mono8":
        return np.repeat(pixels, 3, axis=2)
    if message.encoding.startswith("bgr"):
        return np.ascontiguousarray(pixels[:, :, 2::-1])
    return np.ascontiguousarray(pixels[:, :, :3])


def decode_compressed(message: Any, topic: str) -> np.ndarray:
    """RGB uint8 (height, width, 3) of a jpeg or png CompressedImage. Raises ObservationError."""
    data = raw_bytes(message.data)
    picture = None
    if data.size:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ObservationError(
            f"CompressedImage on '{topic}' (format {message.format!r}, {data.size} bytes) cannot be decoded; "
            "expected a whole jpeg or png picture: check the publisher's transport"
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_depth(message: Any, topic: str) -> np.ndarray:
    """Depth float32 (height, width) [m] of a 32FC1 [m] or 16UC1 [mm] Image; 0 and NaN mean nothing was measured."""
    pixels = image_array(message, topic, DEPTH_ENCODINGS, "give the topic of the depth picture")[:, :, 0]
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) * np.float32(0.001)
    return pixels.astype(np.float32, copy=False)


def process_image(picture: np.ndarray, obs: ImageObs) -> np.ndarray:
    """Crop, then resize (area to shrink, linear to grow): uint8 (height, width, 3). Raises ObservationError."""
    if obs.crop:
        top, left, height, width = obs.crop
        if top + height > picture.shape[0] or left + width > picture.shape[1]:
            raise ObservationError(
                f"Image on '{obs.topic}' is {picture.shape[1]} x {picture.shape[0]}; crop (top, left, height, width) "
                f"= {list(obs.crop)} reaches outside: correct the crop or the camera's size"
            )
        picture = picture[top : top + height, left : left + width]
    height, width = obs.resize
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    shrinks = height <= picture.shape[0] and width <= picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
