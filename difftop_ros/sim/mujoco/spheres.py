"""Collision spheres of a robot: its shapes, as MuJoCo reads them from MJCF or URDF, covered by spheres.

Every shape's surface is sampled and the samples are split, the worst fitting part first, along their longest direction,
until there are as many parts as asked for; each part's sphere holds all its samples. Drawing them is film.py's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.camera import CameraRenderer

SAMPLES = 4000  # per shape; their gaps are below the centimetre on a robot's links
_KINDS = mujoco.mjtGeom


@dataclass(frozen=True)
class _Part:
    """Samples (n, 3) of a shape's surface in its link's frame, and half the shape's thinnest extent [m]."""

    link: str
    points: np.ndarray
    thin: float

    @property
    def protrusion(self) -> float:
        """How far [m] the part's sphere stands out beyond the shape's thinnest direction."""
        return _sphere(self.points)[1] - self.thin


def cover(path: str | Path, count: int = 48, skip: tuple[str, ...] = ()) -> dict[str, list[list[float]]]:
    """Link name -> rows [x, y, z, radius] [m] in the link's frame, `count` spheres in all, at least one per shape.

    Links that no joint moves are left out, and those in `skip`. Raises SimError for a description that cannot be read,
    has no shapes, or has more of them than `count`.
    """
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise SimError(f"{path} cannot be read by MuJoCo: {' '.join(str(error).split())}") from None
    rng = np.random.default_rng(0)
    parts: list[_Part] = []
    solid = [g for g in range(model.ngeom) if model.geom_contype[g] or model.geom_conaffinity[g]]
    for geom in solid or range(model.ngeom):
        body = model.geom_bodyid[geom]
        link = model.body(body).name
        if link not in skip and model.body_weldid[body] and model.geom_type[geom] != _KINDS.mjGEOM_PLANE:
            turn = np.zeros(9)
            mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
            points = _surface(model, geom, rng) @ turn.reshape(3, 3).T + model.geom_pos[geom]
            _, _, low, high = _box(points)
            parts.append(_Part(link, points, float((high - low)[2]) / 2))
    if not 0 < len(parts) <= count:
        raise SimError(f"{path} has {len(parts)} shapes; expected between 1 and the {count} spheres asked for")
    while len(parts) < count:
        worst = parts.pop(max(range(len(parts)), key=lambda index: parts[index].protrusion))
        _, axes, low, high = _box(worst.points)
        first = worst.points @ axes[0] < (low[0] + high[0]) / 2
        parts += [_Part(worst.link, worst.points[half], worst.thin) for half in (first, ~first)]
    spheres: dict[str, list[list[float]]] = {}
    for part in sorted(parts, key=lambda part: part.link):
        centre, radius = _sphere(part.points)
        spheres.setdefault(part.link, []).append([round(float(value), 4) for value in (*centre, radius)])
    return spheres


def _surface(model: mujoco.MjModel, geom: int, rng: np.random.Generator) -> np.ndarray:
    """Points (n, 3) on a shape's surface, in its own frame."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == _KINDS.mjGEOM_MESH:
        return _mesh_surface(model, model.geom_dataid[geom], rng)
    direction = rng.normal(size=(SAMPLES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    if kind in (_KINDS.mjGEOM_SPHERE, _KINDS.mjGEOM_ELLIPSOID):
        return direction * (size if kind == _KINDS.mjGEOM_ELLIPSOID else size[0])
    along = rng.uniform(-size[1], size[1], SAMPLES)
    if kind == _KINDS.mjGEOM_CAPSULE:  # half of the samples on the caps, half between them
        caps = rng.random(SAMPLES) < 0.5
        ring = np.where(caps[:, None], direction, _unit_ring(direction) * (1, 1, 0)) * size[0]
        ring[:, 2] += np.where(caps, np.sign(direction[:, 2]) * size[1], along)
        return ring
    if kind == _KINDS.mjGEOM_CYLINDER:
        ends = rng.random(SAMPLES) < 0.5
        radius = np.where(ends, size[0] * np.sqrt(rng.random(SAMPLES)), size[0])
        ring = _unit_ring(direction) * radius[:, None]
        ring[:, 2] = np.where(ends, np.sign(direction[:, 2]) * size[1], along)
        return ring
    if kind == _KINDS.mjGEOM_BOX:
        points = rng.uniform(-1, 1, (SAMPLES, 3))
        face = rng.integers(0, 3, SAMPLES)
        points[np.arange(SAMPLES), face] = np.sign(points[np.arange(SAMPLES), face])
        return points * size
    raise SimError(f"a shape of type {_KINDS(kind).name} cannot be covered by spheres; use a primitive or a mesh")


def _unit_ring(direction: np.ndarray) -> np.ndarray:
    """Directions in the x-y plane."""
    flat = direction * (1, 1, 0)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


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
