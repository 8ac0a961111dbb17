"""Pictures, colour and depth: sensor_msgs Image, CompressedImage and CameraInfo to arrays and back, crop and resize.

Messages are duck-typed: rclpy's (data is array.array) and rosbags' (data is numpy) both work, without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from difftop_ros.contract import ImageObs
from difftop_ros.contract.base import MOST_PIXELS
from difftop_ros.messages.compressed import decode_compressed, decode_compressed_depth
from difftop_ros.messages.encodings import COLOUR_ENCODINGS, DEPTH_ENCODINGS, image_array
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.types import Types, byte_field, float_field, stamped

PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2, None), "bgra8": (2, 1, 0, None)}


def image_frame(obs: ImageObs, messages: Mapping[str, Any]) -> np.ndarray:
    """Uint8 (height, width, 3) RGB of the newest Image or CompressedImage.

    Raises ObservationError, also for a picture of another size than the contract's and for one that shows nothing.
    """
    picture = whole_image(messages[obs.topic], obs)
    if obs.size is not None and picture.shape[:2] != obs.size:
        raise ObservationError(
            f"picture on '{obs.topic}' is {picture.shape[1]} x {picture.shape[0]}; the contract's size (height, width) "
            f"is {list(obs.size)}: set the camera's mode or correct the contract"
        )
    frame = process_image(picture, obs)
    contrast = float(cv2.meanStdDev(frame.reshape(-1))[1][0, 0])
    if contrast < obs.min_contrast:
        raise ObservationError(
            f"picture on '{obs.topic}' shows nothing: its contrast is {contrast:.1f} of 255 levels, min_contrast "
            f"is {obs.min_contrast:g}: check lens, light and exposure"
        )
    return frame


def whole_image(message: Any, obs: ImageObs) -> np.ndarray:
    """Uint8 (height, width, 3) RGB of an observation's message as it came. Raises ObservationError."""
    decode = decode_compressed if obs.type == PICTURES[1] else decode_colour
    return decode(message, obs.topic, obs.max_pixels)


def decode_colour(message: Any, topic: str, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """RGB uint8 (height, width, 3) of an Image of any of COLOUR_ENCODINGS. Raises ObservationError."""
    remedy = "set the driver's encoding, or observe a depth picture as kind depth_cloud"
    pixels = image_array(message, topic, COLOUR_ENCODINGS, remedy, most_pixels)
    return COLOUR_ENCODINGS[message.encoding].to_rgb(pixels)


def decode_depth(message: Any, topic: str, unit_m: float | None = None, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Depth float32 (height, width) [m] of an Image or CompressedImage; 0 and NaN mean nothing was measured.

    unit_m: metres of one unit; None: 1 for 32FC1, .001 for 16UC1. Raises ObservationError.
    """
    if hasattr(message, "format"):
        pixels = decode_compressed_depth(message, topic, most_pixels)
    else:
        remedy = "give the topic of the depth picture"
        pixels = image_array(message, topic, DEPTH_ENCODINGS, remedy, most_pixels)[:, :, 0]
    unit = np.float32(unit_m or (0.001 if pixels.dtype == np.uint16 else 1.0))
    return pixels.astype(np.float32, copy=False) * unit


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
