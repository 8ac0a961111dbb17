"""Pictures, colour and depth: sensor_msgs Image, CompressedImage and CameraInfo to arrays and back, crop and resize.

Messages are duck-typed: rclpy's (data is array.array) and rosbags' (data is numpy) both work, without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from difftop_ros.contract import ImageObs
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.types import Types, byte_field, float_field, raw_bytes, stamped

PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
# encoding -> (numpy type of a channel, channels)
COLOUR_ENCODINGS: dict[str, tuple[str, int]] = {
    "rgb8": ("u1", 3),
    "bgr8": ("u1", 3),
    "rgba8": ("u1", 4),
    "bgra8": ("u1", 4),
    "mono8": ("u1", 1),
}
_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2, None), "bgra8": (2, 1, 0, None)}
DEPTH_ENCODINGS: dict[str, tuple[str, int]] = {"16UC1": ("u2", 1), "mono16": ("u2", 1), "32FC1": ("f4", 1)}


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


def image_frame(obs: ImageObs, messages: Mapping[str, Any]) -> np.ndarray:
    """Uint8 (height, width, 3) RGB of the newest Image or CompressedImage. Raises ObservationError."""
    decode = decode_compressed if obs.type.endswith("CompressedImage") else decode_colour
    return process_image(decode(messages[obs.topic], obs.topic), obs)


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


def image(types: Types, pixels: np.ndarray, time_s: float, frame: str, encoding: str = "rgb8") -> Any:
    """sensor_msgs/msg/Image from RGB uint8 (h, w, 3); `encoding` rgb8, bgr8, rgba8, bgra8 or mono8."""
    if encoding == "mono8":
        pixels = (pixels @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]
    elif encoding != "rgb8":
        if encoding not in _CHANNELS:
            raise ValueError(f"encoding is '{encoding}'; expected one of {[*_CHANNELS, 'mono8']}")
        opaque = np.full(pixels.shape[:2], 255, np.uint8)
        channels = [opaque if c is None else pixels[..., c] for c in _CHANNELS[encoding]]
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
    message = stamped(types, "sensor_msgs/msg/CompressedImage", time_s, frame)
    message.format = form
    message.data = byte_field(types, encoded)
    return message


def camera_info(types: Types, K: np.ndarray, width: int, height: int, time_s: float, frame: str) -> Any:
    """sensor_msgs/msg/CameraInfo of a pinhole camera K (3, 3) [px] without distortion."""
    message = stamped(types, "sensor_msgs/msg/CameraInfo", time_s, frame)
    message.width, message.height = width, height
    message.distortion_model = "plumb_bob"
    message.d = float_field(types, np.zeros(5))
    message.k = np.asarray(K, np.float64).ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([K, np.zeros((3, 1))]).astype(np.float64).ravel()
    return message


def _raw_image(types: Types, pixels: np.ndarray, time_s: float, frame: str, encoding: str) -> Any:
    message = stamped(types, "sensor_msgs/msg/Image", time_s, frame)
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.is_bigendian = encoding, 0
    message.step = pixels.shape[1] * pixels.shape[2] * pixels.itemsize
    message.data = byte_field(types, pixels)
    return message
