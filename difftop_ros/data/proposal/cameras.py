"""Observations of the cameras that are shown: pictures as they are, clouds as remarks, since a cloud wants a crop."""

from __future__ import annotations

import re

from difftop_ros.data.proposal.offer import CLOUD, COMPRESSED, IMAGE, INFO, Shown

SIDE = 96  # [px], of the shorter side of a picture for the policy
_DEPTH = ("16UC1", "32FC1", "mono16")


def cameras(shown: Shown, rate_hz: float) -> list[str]:
    """Lines of YAML under `observations`."""
    colour = {t: m for t, m in shown.samples.items() if shown.kinds[t] in (IMAGE, COMPRESSED) and not _is_depth(t, m)}
    raw = {t for t in colour if shown.kinds[t] == IMAGE}
    thin = {t: m for t, m in colour.items() if t.removesuffix("/compressed") not in raw or t in raw}
    lines: list[str] = []
    for topic in sorted(thin):
        lines += _picture(shown, topic, rate_hz)
    for topic in sorted(t for t in shown.samples if shown.kinds[t] == CLOUD):
        frame = shown.samples[topic].header.frame_id
        lines += _remark(f"{_key(topic)}_cloud", [
            "kind: point_cloud", f"topic: {topic}", f"frame: {frame or 'camera'}", "points: 512",
            "crop: {min: [-0.5, -0.5, 0.0], max: [0.5, 0.5, 1.0]}   # the work space, in that frame [m]",
        ])  # fmt: skip
    for topic, message in sorted(shown.samples.items()):
        info = _info_of(shown, topic)
        if shown.kinds[topic] == IMAGE and _is_depth(topic, message) and info:
            lines += _remark(f"{_key(topic)}_cloud", [
                "kind: depth_cloud", f"topic: {topic}", f"camera_info: {info}",
                f"frame: {message.header.frame_id or 'camera'}", "points: 512",
                "crop: {min: [-0.5, -0.5, 0.0], max: [0.5, 0.5, 1.0]}   # the work space, in that frame [m]",
            ])  # fmt: skip
    return lines


def _is_depth(topic: str, message: object) -> bool:
    text = str(getattr(message, "encoding", "") or getattr(message, "format", ""))
    return text in _DEPTH or "compressedDepth" in text or "depth" in topic.lower().rsplit("/", 3)[-2:][0]


def _picture(shown: Shown, topic: str, rate_hz: float) -> list[str]:
    message, kind = shown.samples[topic], shown.kinds[topic]
    width, height = int(getattr(message, "width", 0)), int(getattr(message, "height", 0))
    scale = SIDE / min(width, height) if width and height else 0.0
    size = [max(8, round(height * scale)), max(8, round(width * scale))] if scale else [SIDE, SIDE]
    rate = shown.timings[topic].rate_hz
    return [
        f"  {_key(topic)}:",
        "    kind: image",
        f"    topic: {topic}",
        *([f"    type: {kind}"] if kind == COMPRESSED else []),
        f"    resize: [{size[0]}, {size[1]}]",
        f"    max_age_ms: {max(100, round(3000 / (rate or rate_hz), -1)):g}",
    ]


def _info_of(shown: Shown, topic: str) -> str:
    beside = f"{topic.rpartition('/')[0]}/camera_info"
    return beside if shown.kinds.get(beside) == INFO else ""


def _remark(key: str, rows: list[str]) -> list[str]:
    return [f"  # {key}:", *(f"  #   {row}" for row in rows)]


def _key(topic: str) -> str:
    """A short name for an observation, out of what tells the topic from others."""
    dull = {"image_raw", "image_rect", "image", "compressed", "color", "colour", "rgb", "depth", "points", "camera",
            "image_rect_raw", "aligned_depth_to_color", "cameras"}  # fmt: skip
    words = [word for word in topic.split("/") if word and word not in dull]
    key = re.sub(r"[^A-Za-z0-9_]", "_", "_".join(words[-2:]))
    return key if re.match(r"[A-Za-z]", key) else f"camera_{key}".rstrip("_")
