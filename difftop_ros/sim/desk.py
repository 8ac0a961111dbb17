"""A made-up desk with boxes as a depth camera sees it, at any size: data for benchmarks that need a plausible cloud.

Nothing moves and nothing is simulated. Lengths in metres; the world's z points up, the desk's top is at z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difftop_ros.sim.cloud import DepthProjector

FRAME, CAMERA_FRAME = "world", "desk_optical_frame"
CAMERA = (-0.35, 0.0, 0.75)  # position of the camera in the world [m]
QUAT_XYZW = (0.664463, -0.664463, 0.241845, -0.241845)  # of the optical frame: looking along +x and 50 degrees down
CROP = ((0.05, -0.5, 0.005), (0.95, 0.5, 0.5))  # the work space without the desk's top [m]
_BOXES = 12


@dataclass(frozen=True)
class Desk:
    """depth float32 (h, w) [m], NaN where nothing is measured; colour uint8 (h, w, 3); xyz float32 (h, w, 3) [m].

    xyz is in CAMERA_FRAME; K (3, 3) [px].
    """

    depth: np.ndarray
    colour: np.ndarray
    xyz: np.ndarray
    K: np.ndarray


def desk(width: int, height: int, seed: int = 0) -> Desk:
    """The desk in a picture of width x height pixels; 1 mm of noise, 3 % of the pixels not measured."""
    rng = np.random.default_rng(seed)
    focal = 0.9 * width
    K = np.array([[focal, 0.0, width / 2 - 0.5], [0.0, focal, height / 2 - 0.5], [0.0, 0.0, 1.0]])
    u, v = np.meshgrid((np.arange(width) - K[0, 2]) / focal, (np.arange(height) - K[1, 2]) / focal)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ _rotation().T
    shades = rng.uniform(40, 230, (_BOXES + 3, 3))
    depth, which = np.full(u.shape, np.inf), np.zeros(u.shape, int)
    for index, (low, high) in enumerate(_solids(rng)):
        near = _distance(rays, low, high)
        depth, which = np.minimum(depth, near), np.where(near < depth, index, which)
    depth += rng.normal(0.0, 0.001, depth.shape)
    depth[rng.random(depth.shape) < 0.03] = np.nan
    depth[~np.isfinite(depth)] = np.nan
    colour = np.clip(shades[which] + rng.normal(0, 6, (*u.shape, 3)), 0, 255).astype(np.uint8)
    measured = depth.astype(np.float32)
    return Desk(measured, colour, DepthProjector(K, width, height).points(measured), K)


def _rotation() -> np.ndarray:
    """world_from_optical (3, 3)."""
    x, y, z, w = QUAT_XYZW
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _solids(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Corners of the floor, the desk, a wall and the boxes."""
    found = [
        (np.array([-5.0, -5.0, -0.80]), np.array([5.0, 5.0, -0.75])),
        (np.array([0.0, -0.6, -0.04]), np.array([1.0, 0.6, 0.0])),
        (np.array([2.0, -5.0, -0.75]), np.array([2.1, 5.0, 3.0])),
    ]
    for _ in range(_BOXES):
        size = rng.uniform([0.04, 0.04, 0.03], [0.16, 0.16, 0.25])
        corner = np.array([rng.uniform(0.1, 0.8), rng.uniform(-0.45, 0.35), 0.0])
        found.append((corner, corner + size))
    return found


def _distance(rays: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where rays (h, w, 3) from the camera enter a box, in units of the rays; inf where they miss it."""
    with np.errstate(divide="ignore"):
        a, b = (low - CAMERA) / rays, (high - CAMERA) / rays
    enter, leave = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)
