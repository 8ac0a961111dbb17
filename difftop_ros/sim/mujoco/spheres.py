"""Collision spheres of a robot: its shapes, as MuJoCo reads them from MJCF or URDF, covered by spheres.

Capsules and cylinders get them along their axis, boxes one for each of their cells. The surface of any other shape is
sampled and the samples are split along their longest direction; each part's sphere holds all its samples. As long as
there are fewer than asked for, the worst fitting shape or part is divided further. Drawing them is film.py's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.base import load_model
from difftop_ros.sim.mujoco.camera import CameraRenderer

SAMPLES = 4000  # per shape; their gaps are below the centimetre on a robot's links
_KINDS = mujoco.mjtGeom


class _Covered(Protocol):
    """A shape, or a part of one, with the spheres that cover it.

    link: its link's name; protrusion: how far [m] its spheres stand out beyond the shape's thinnest direction.
    """

    @property
    def link(self) -> str: ...

    @property
    def protrusion(self) -> float: ...

    def spheres(self) -> list[tuple[np.ndarray, float]]:
        """Centres (3,) in the link's frame and radii [m]."""
        ...

    def finer(self) -> Sequence[_Covered]:
        """The same, covered by more and smaller spheres."""
        ...


@dataclass(frozen=True, eq=False)
class _Part:
    """Samples (n, 3) of a shape's surface in its link's frame, and half the shape's thinnest extent [m]."""

    link: str
    points: np.ndarray
    thin: float

    @property
    def protrusion(self) -> float:
        """See _Covered."""
        return _sphere(self.points)[1] - self.thin

    def spheres(self) -> list[tuple[np.ndarray, float]]:
        """See _Covered."""
        return [_sphere(self.points)]

    def finer(self) -> list[_Part]:
        """See _Covered."""
        _, axes, low, high = _box(self.points)
        first = self.points @ axes[0] < (low[0] + high[0]) / 2
        return [_Part(self.link, self.points[half], self.thin) for half in (first, ~first)]


@dataclass(frozen=True, eq=False)
class _Long:
    """A capsule or cylinder: centre (3,), axis (3,), radius and half length [m], covered by `count` along its axis."""

    link: str
    centre: np.ndarray
    axis: np.ndarray
    radius: float
    half: float
    round_ends: bool
    count: int = 1

    def _reach(self) -> float:
        """Half the way [m] along the axis for which one sphere stands; a capsule's ends have one of their own."""
        if not self.round_ends:
            return self.half / self.count
        return self.half / (self.count - 1) if self.count > 1 else 0.0

    def _size(self) -> float:
        if self.round_ends and self.count == 1:
            return self.radius + self.half
        return float(np.hypot(self.radius, self._reach()))

    @property
    def protrusion(self) -> float:
        """See _Covered."""
        return self._size() - self.radius

    def spheres(self) -> list[tuple[np.ndarray, float]]:
        """See _Covered."""
        most = self.half if self.round_ends and self.count > 1 else (1 - 1 / self.count) * self.half
        places = np.linspace(-most, most, self.count)
        return [(self.centre + place * self.axis, self._size()) for place in places]

    def finer(self) -> list[_Long]:
        """See _Covered."""
        return [replace(self, count=self.count + 1)]


@dataclass(frozen=True, eq=False)
class _Cells:
    """A box: centre (3,), axes (3, 3) in rows, half sizes (3,) [m], one sphere around each of its `counts` cells."""

    link: str
    centre: np.ndarray
    axes: np.ndarray
    halves: np.ndarray
    counts: tuple[int, int, int] = (1, 1, 1)

    @property
    def protrusion(self) -> float:
        """See _Covered."""
        cell = self.halves / self.counts
        return float(np.linalg.norm(cell) - cell.min())

    def spheres(self) -> list[tuple[np.ndarray, float]]:
        """See _Covered."""
        ways = [(1 - 1 / n) * np.linspace(-half, half, n) if n > 1 else np.zeros(1)
                for n, half in zip(self.counts, self.halves, strict=True)]  # fmt: skip
        grid = np.stack(np.meshgrid(*ways, indexing="ij"), axis=-1).reshape(-1, 3)
        size = float(np.linalg.norm(self.halves / self.counts))
        return [(self.centre + place @ self.axes, size) for place in grid]

    def finer(self) -> list[_Cells]:
        """See _Covered."""
        longest = int((self.halves / self.counts).argmax())
        x, y, z = (n + (axis == longest) for axis, n in enumerate(self.counts))
        return [replace(self, counts=(x, y, z))]


def cover(path: str | Path, count: int = 48, skip: tuple[str, ...] = ()) -> dict[str, list[list[float]]]:
    """Link name -> rows [x, y, z, radius] [m] in the link's frame, at most `count` spheres in all, one or more a shape.

    Links that no joint moves are left out, and those in `skip`. Raises SimError for a description that cannot be read,
    has no shapes, or has more of them than `count`.
    """
    model = load_model(path)
    rng = np.random.default_rng(0)
    parts: list[_Covered] = []
    solid = [g for g in range(model.ngeom) if model.geom_contype[g] or model.geom_conaffinity[g]]
    for geom in solid or range(model.ngeom):
        body = model.geom_bodyid[geom]
        link = model.body(body).name
        if link not in skip and model.body_weldid[body] and model.geom_type[geom] != _KINDS.mjGEOM_PLANE:
            parts.append(_covered(model, geom, link, rng))
    if not 0 < len(parts) <= count:
        raise SimError(f"{path} has {len(parts)} shapes; expected between 1 and the {count} spheres asked for")
    coarse = list(parts)  # those that may still be divided
    while coarse:
        worst = max(coarse, key=lambda part: part.protrusion)
        coarse.remove(worst)
        finer = worst.finer()
        if sum(len(part.spheres()) for part in [*parts, *finer]) - len(worst.spheres()) <= count:
            parts.remove(worst)
            parts += finer
            coarse += finer
    spheres: dict[str, list[list[float]]] = {}
    for part in sorted(parts, key=lambda part: part.link):
        for centre, radius in part.spheres():
            spheres.setdefault(part.link, []).append([round(float(value), 4) for value in (*centre, radius)])
    return spheres


def _covered(model: mujoco.MjModel, geom: int, link: str, rng: np.random.Generator) -> _Covered:
    """A shape with as few spheres as can be."""
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, model.geom_quat[geom])
    turn = flat.reshape(3, 3)
    place, size, kind = model.geom_pos[geom].copy(), model.geom_size[geom].copy(), model.geom_type[geom]
    if kind in (_KINDS.mjGEOM_CAPSULE, _KINDS.mjGEOM_CYLINDER):
        return _Long(link, place, turn[:, 2].copy(), size[0], size[1], kind == _KINDS.mjGEOM_CAPSULE)
    if kind == _KINDS.mjGEOM_BOX:
        return _Cells(link, place, turn.T.copy(), size)
    points = _surface(model, geom, rng) @ turn.T + place
    _, _, low, high = _box(points)
    return _Part(link, points, float((high - low)[2]) / 2)


def _surface(model: mujoco.MjModel, geom: int, rng: np.random.Generator) -> np.ndarray:
    """Points (n, 3) on a shape's surface, in its own frame."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == _KINDS.mjGEOM_MESH:
        return _mesh_surface(model, model.geom_dataid[geom], rng)
    direction = rng.normal(size=(SAMPLES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    if kind in (_KINDS.mjGEOM_SPHERE, _KINDS.mjGEOM_ELLIPSOID):
        return direction * (size if kind == _KINDS.mjGEOM_ELLIPSOID else size[0])
    raise SimError(f"a shape of type {_KINDS(kind).name} cannot be covered by spheres; use a primitive or a mesh")


def _mesh_surface(model: mujoco.MjModel, mesh: int, rng: np.random.Generator) -> np.ndarray:
    vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
    faces = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
    corners = vertices[faces].astype(np.float64)
    edges = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    chosen = rng.choice(len(faces), SAMPLES, p=area / area.sum())
    share = rng.random((SAMPLES, 2))
    share = np.where(share.sum(1, keepdims=True) > 1, 1 - share, share)
    return corners[chosen, 0] + np.einsum("nk,nkd->nd", share, edges[chosen])


def _box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre (3,), axes (3, 3) longest first, and the ends along them (3,) of the box around `points`."""
    _, axes = np.linalg.eigh(np.cov(points.T))
    axes = axes.T
    low, high = (points @ axes.T).min(0), (points @ axes.T).max(0)
    order = np.argsort(low - high)
    axes, low, high = axes[order], low[order], high[order]
    return (low + high) / 2 @ axes, axes, low, high


def _sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """A sphere around `points`: its centre is that of the box."""
    centre = _box(points)[0]
    return centre, float(np.linalg.norm(points - centre, axis=1).max())


def picture(path: str | Path, spheres: dict[str, list[list[float]]], width: int = 800, height: int = 600) -> np.ndarray:
    """The robot in its rest pose with its spheres over it, uint8 (height, width, 3) RGB, to be looked at.

    Raises SimError for a link that the description does not have, and where nothing can be drawn.
    """
    spec = mujoco.MjSpec.from_file(str(path))
    bodies = {body.name: body for body in spec.bodies}
    for link, rows in spheres.items():
        if link not in bodies:
            raise SimError(f"{path} has no link '{link}'; it has {sorted(bodies)}")
        for x, y, z, radius in rows:
            bodies[link].add_geom(
                type=_KINDS.mjGEOM_SPHERE, pos=[x, y, z], size=[radius, 0, 0], rgba=[0.1, 0.4, 0.9, 0.35],
                contype=0, conaffinity=0, mass=0,
            )  # fmt: skip
    stat = spec.compile().stat
    back = np.array([0.6, -0.7, 0.4])
    right = np.cross([0, 0, 1], back)
    spec.worldbody.add_camera(
        name="spheres", pos=stat.center + 1.2 * stat.extent * back, fovy=45, xyaxes=[*right, *np.cross(back, right)]
    )
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.worldbody.add_light(pos=stat.center + [0, 0, 2 * stat.extent], dir=[0.2, 0.3, -1])
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = CameraRenderer(model, width, height)
    try:
        return renderer.render(data, "spheres")[0]
    finally:
        renderer.close()
