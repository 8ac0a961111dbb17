"""How far places are from known shapes and seen points, and the first touch of a swept motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from difftop_ros.contract.shapes import AnyShape, Box, Cylinder
from difftop_ros.space.body import Body

STEP_M = 0.015  # a sphere's way between two configurations that are looked at
MOST = 96  # configurations looked at in one sweep
NEARER_M = 1e-3  # by how much a motion must come nearer to what it is too near to already
SEEN = "a point of the cloud"


@dataclass(frozen=True)
class Touch:
    """A sphere of `link` comes within `distance` [m] (negative inside) of `what`, at `place` (3,) [m], `share` of the
    way along a path of K configurations (0 to K - 1)."""

    distance: float
    link: str
    what: str
    place: tuple[float, float, float]
    share: float

    def __str__(self) -> str:
        x, y, z = self.place
        depth = f"{1e3 * self.distance:.0f} mm from" if self.distance >= 0 else f"{-1e3 * self.distance:.0f} mm inside"
        return f"{self.link} would come {depth} {self.what} at ({x:.2f}, {y:.2f}, {z:.2f}) m"


class Scene:
    """Shapes and points that must not be touched. Immutable: another scene is another object."""

    def __init__(self, shapes: Sequence[AnyShape] = (), points: np.ndarray | None = None) -> None:
        """points: (n, 3) [m], finite."""
        self.shapes = tuple(shapes)
        self.names = tuple(f"'{shape.name}'" if shape.name else f"the {shape.kind}" for shape in shapes)
        self._tree = None if points is None or not len(points) else cKDTree(points)

    def __bool__(self) -> bool:
        return bool(self.shapes) or self._tree is not None

    def distance(self, places: np.ndarray, reach: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """Of places (P, 3): signed distance (P,) [m], inf beyond `reach` of all points, and index (P,) of what it is.

        The index is that of a shape, or len(shapes) for a seen point.
        """
        nearest, which = np.full(len(places), np.inf), np.zeros(len(places), int)
        for index, shape in enumerate(self.shapes):
            distance = shape_distance(shape, places)
            which = np.where(distance < nearest, index, which)
            nearest = np.minimum(nearest, distance)
        if self._tree is not None:
            distance = self._tree.query(places, distance_upper_bound=reach)[0]
            which = np.where(distance < nearest, len(self.shapes), which)
            nearest = np.minimum(nearest, distance)
        return nearest, which

    def name(self, index: int) -> str:
        """What `distance` calls so."""
        return self.names[index] if index < len(self.names) else SEEN


def shape_distance(shape: AnyShape, places: np.ndarray) -> np.ndarray:
    """Signed distance (P,) [m] of places (P, 3) to a shape's surface; negative inside."""
    if isinstance(shape, Box):
        turn = Rotation.from_quat(shape.quat_xyzw).as_matrix()
        beyond = np.abs((places - shape.centre) @ turn) - np.array(shape.size) / 2
    elif isinstance(shape, Cylinder):
        offset = places - shape.centre
        along = offset @ shape.axis
        across = np.linalg.norm(offset - along[:, None] * np.array(shape.axis), axis=1)
        beyond = np.stack([across - shape.radius, np.abs(along) - shape.length / 2], axis=1)
    else:
        return (places - shape.point) @ shape.normal
    return np.linalg.norm(np.maximum(beyond, 0.0), axis=1) + np.minimum(beyond.max(1), 0.0)


def first_touch(body: Body, scene: Scene, path: np.ndarray, margin: float) -> Touch | None:
    """The first place on the straight ways between configurations path (K, A) where a sphere comes within `margin` [m].

    The whole way is covered: between two configurations that are looked at a sphere counts larger by half its way. What
    is within the margin at the beginning may stay there or go away, and must not come nearer (by 1 mm; in passing, 2).
    """
    if not scene or len(path) < 2:
        return None
    fine, share, centres, slack = _swept(body, path)
    count = len(body.radii)
    reach = margin + float(body.radii.max() + slack.max()) + NEARER_M
    distance, which = (part.reshape(len(fine), count) for part in scene.distance(centres.reshape(-1, 3), reach))
    distance = distance - body.radii
    bad = (distance - slack < margin) & (distance < distance[0] - NEARER_M)
    if not bad.any():
        return None
    row = int(bad.any(1).argmax())
    sphere = int(np.where(bad[row], distance[row] - slack[row], np.inf).argmin())
    assert body.spheres is not None
    x, y, z = (float(value) for value in centres[row, sphere])
    what = scene.name(int(which[row, sphere]))
    return Touch(float(distance[row, sphere] - slack[row, sphere]), body.spheres.links[sphere], what, (x, y, z),
                 float(share[row]))  # fmt: skip


def _swept(body: Body, path: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Configurations (N, A) on the way, where on it (N,), their spheres (N, S, 3), half of each one's way (N, S)."""
    rough = body.centres(path)
    longest = np.linalg.norm(np.diff(rough, axis=0), axis=2).max(1)
    parts = np.maximum(np.ceil(longest / STEP_M), 1.0)
    parts = np.maximum(np.floor(parts * min(1.0, MOST / parts.sum())), 1.0)
    share = np.concatenate([[0.0], *(k + (np.arange(n) + 1) / n for k, n in enumerate(parts))])
    first = np.minimum(share.astype(int), len(path) - 2)
    fine = path[first] + (share - first)[:, None] * (path[first + 1] - path[first])
    centres = body.centres(fine)
    ways = 0.51 * np.linalg.norm(np.diff(centres, axis=0), axis=2)  # an arc is a little longer than its chord
    none = np.zeros((1, centres.shape[1]))
    slack = np.maximum(np.concatenate([none, ways]), np.concatenate([ways, none]))
    return fine, share, centres, slack
