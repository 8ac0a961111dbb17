"""A contact sheet of a bag: a row of pictures per camera or cloud topic, evenly spaced. For people, not policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from difftop_ros.data.bags.reader import Bag
from difftop_ros.data.errors import BagError
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.images import DEPTH_ENCODINGS, PICTURES, decode_colour, decode_compressed, decode_depth
from difftop_ros.messages.points import decode_point_cloud

DRAWABLE = (*PICTURES, "sensor_msgs/msg/PointCloud2")
HEIGHT = 120  # of one picture [px]


def write_strip(bag: Bag, path: Path, columns: int = 8, below: Sequence[np.ndarray] = ()) -> int:
    """Write the sheet as PNG (or what the name ends in); returns the number of rows. Raises BagError.

    below: further rows, uint8 (h, w, 3) RGB, under the pictures.
    """
    topics = [topic for topic, info in sorted(bag.topics.items()) if info.type in DRAWABLE and info.count]
    if not topics and not below:
        raise BagError(f"bag '{bag.path}' has no picture and no cloud to draw; it has {sorted(bag.topics)}")
    picks = {t: np.linspace(0, bag.topics[t].count - 1, columns).astype(int).tolist() for t in topics}
    cells: dict[str, dict[int, np.ndarray]] = {topic: {} for topic in topics}
    seen = dict.fromkeys(topics, -1)
    for topic, _, raw in bag.messages(topics):
        seen[topic] += 1
        if seen[topic] in picks[topic]:
            cells[topic][seen[topic]] = _cell(bag.deserialize(raw, topic), topic, bag.topics[topic].type)
    rows = [_row(topic, [cells[topic][i] for i in picks[topic]]) for topic in topics] + list(below)
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(padded), cv2.COLOR_RGB2BGR)):
        raise BagError(f"'{path}' cannot be written; give a writable path ending in .png or .jpg")
    return len(rows)


def _row(topic: str, pictures: list[np.ndarray]) -> np.ndarray:
    title = np.zeros((18, sum(p.shape[1] for p in pictures), 3), np.uint8)
    cv2.putText(title, topic, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([title, np.concatenate(pictures, axis=1)])


def _cell(message: Any, topic: str, kind: str) -> np.ndarray:
    """RGB uint8 (HEIGHT, w, 3); a grey cell for a message that cannot be decoded."""
    try:
        picture = _picture(message, topic, kind)
    except ObservationError:
        picture = np.full((HEIGHT, HEIGHT, 3), 90, np.uint8)
    width = max(1, round(picture.shape[1] * HEIGHT / picture.shape[0]))
    return cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA)


def _picture(message: Any, topic: str, kind: str) -> np.ndarray:
    if kind.endswith("PointCloud2"):
        return _cloud_picture(message, topic)
    if kind.endswith("CompressedImage"):
        return decode_compressed(message, topic)
    if message.encoding in DEPTH_ENCODINGS:
        depth = decode_depth(message, topic)
        near = np.where(np.isfinite(depth) & (depth > 0), depth, np.inf)
        shade = np.clip(255 * (1 - near / 2.5), 0, 255).astype(np.uint8)
        return cv2.cvtColor(cv2.applyColorMap(shade, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return decode_colour(message, topic)


def _cloud_picture(message: Any, topic: str, size: int = HEIGHT) -> np.ndarray:
    """As the camera sees it when in an optical frame, else a parallel view from the side (x right, z up)."""
    coloured = any(field.name in ("rgb", "rgba") for field in message.fields)
    points = decode_point_cloud(message, topic, coloured)
    optical = "optical" in points.frame_id
    right, down, depth = (points.x, points.y, points.z) if optical else (points.x, -points.z, points.y)
    with np.errstate(invalid="ignore", divide="ignore"):
        if optical:
            right, down = right / depth, down / depth
        kept = np.flatnonzero(np.isfinite(points.x + points.y + points.z) & (np.abs(right) < 5))
    sheet = np.zeros((size, size, 3), np.uint8)
    if not kept.size:
        return sheet
    kept = kept[np.argsort(-depth[kept], kind="stable")]  # far ones first, near ones over them
    plane = np.stack([right[kept], down[kept]], axis=1)
    low, high = np.percentile(plane, [1, 99], axis=0)
    scale = (size - 1) / max(float((high - low).max()), 1e-6)
    pixels = np.clip((plane - (low + high) / 2) * scale + size / 2, 0, size - 1).astype(int)
    colours = points.colour(kept) * 255 if points.colour else np.full((kept.size, 3), 220)
    sheet[pixels[:, 1], pixels[:, 0]] = colours.astype(np.uint8)
    return sheet
