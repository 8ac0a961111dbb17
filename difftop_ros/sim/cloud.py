"""Depth pictures into organised clouds, vectorised. Cropping and sampling belong to the observation pipeline."""

from __future__ import annotations

import numpy as np


class DepthProjector:
    """Turns depth pictures of one camera into points; the rays are computed once."""

    def __init__(self, K: np.ndarray, width: int, height: int) -> None:
        """K (3, 3) [px] intrinsics of a picture of width x height pixels, without distortion."""
        u = (np.arange(width, dtype=np.float64) - K[0, 2]) / K[0, 0]
        v = (np.arange(height, dtype=np.float64) - K[1, 2]) / K[1, 1]
        self._u = u.astype(np.float32)[None, :]
        self._v = v.astype(np.float32)[:, None]

    def points(self, depth: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Organised xyz float32 (h, w, 3) [m] in the optical frame from depth float32 (h, w) [m] along the axis."""
        if out is None:
            out = np.empty((*depth.shape, 3), np.float32)
        np.multiply(depth, self._u, out=out[..., 0])
        np.multiply(depth, self._v, out=out[..., 1])
        out[..., 2] = depth
        return out


def depth_to_cloud(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Organised xyz float32 (h, w, 3) [m] in the optical frame (REP-103) from depth (h, w) [m] and K (3, 3) [px]."""
    height, width = depth.shape
    return DepthProjector(K, width, height).points(np.asarray(depth, np.float32))


def transform_points(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) moved by the rigid pose (4, 4), in the points' dtype."""
    rotation = pose[:3, :3].astype(points.dtype)
    return points @ rotation.T + pose[:3, 3].astype(points.dtype)
