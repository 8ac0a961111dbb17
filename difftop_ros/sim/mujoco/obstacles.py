"""Obstacles of a MuJoCo world: shapes made solid, moved, and watched. Where they stand is others' choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.contract.shapes import AnyShape, Box, Cylinder
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.placed import Course

Pair = tuple[str, str]  # a part of the robot, the obstacle it touches
FAR_M = 5.0  # beyond it no distance is told
PREFIX = "obstacle_"
_COLOUR = (0.93, 0.55, 0.10, 1.0)
_EVERY_BIT = 0x7FFFFFFF  # meets whatever meets anything
_KINDS = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
          "half_space": mujoco.mjtGeom.mjGEOM_PLANE}  # fmt: skip


def add_to(spec: Any, shapes: Sequence[AnyShape]) -> None:
    """Puts a solid mocap body for each shape into a mujoco.MjSpec, for `Obstacles` to find."""
    for index, shape in enumerate(shapes):
        position, turn = pose(shape)
        name = f"{PREFIX}{index}"
        body = spec.worldbody.add_body(name=name, mocap=True, pos=position, quat=turn)
        body.add_geom(name=name, type=_KINDS[shape.kind], size=size(shape), rgba=_COLOUR, contype=_EVERY_BIT,
                      conaffinity=_EVERY_BIT)  # fmt: skip
        for key in spec.keys:  # those that place mocap bodies must place all of them
            key.mpos = [*key.mpos, *position] if len(key.mpos) else key.mpos
            key.mquat = [*key.mquat, *turn] if len(key.mquat) else key.mquat


def pose(shape: AnyShape) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) [m] and quaternion (4,) w x y z of a shape's frame, whose z is its axis or normal."""
    if isinstance(shape, Box):
        x, y, z, w = shape.quat_xyzw
        return np.array(shape.centre), np.array([w, x, y, z])
    place, axis = (shape.centre, shape.axis) if isinstance(shape, Cylinder) else (shape.point, shape.normal)
    turn = Rotation.align_vectors([axis], [(0.0, 0.0, 1.0)])[0]
    return np.array(place), turn.as_quat(scalar_first=True)


def moved(shape: AnyShape, offset: np.ndarray) -> AnyShape:
    """The same shape, `offset` (3,) [m] further on."""
    key = "point" if shape.kind == "half_space" else "centre"
    return shape.model_copy(update={key: tuple(float(v) for v in place(shape) + offset)})


def place(shape: AnyShape) -> np.ndarray:
    """Where it is (3,) [m]."""
    return np.array(shape.point if shape.kind == "half_space" else shape.centre)


def size(shape: AnyShape) -> list[float]:
    """MuJoCo's three sizes [m]."""
    if isinstance(shape, Box):
        return [edge / 2 for edge in shape.size]
    return [shape.radius, shape.length / 2, 0.0] if isinstance(shape, Cylinder) else [0.0, 0.0, 0.05]


class Obstacles:
    """The obstacles of one world, in the order of its shapes; none is the usual case and costs nothing.

    The robot is whatever joints move in a tree that has an actuated joint. shapes: as they stand now; contacts: pairs
    that touched in the last `step`; touched: each pair since the reset with the time [s] it first did; nearest_m:
    smallest distance between robot and obstacles since the reset [m], negative where they overlapped, FAR_M at most.
    """

    def __init__(self, model: Any, data: Any, shapes: Sequence[AnyShape] = ()) -> None:
        """The model must have been made with `add_to` and the same shapes."""
        self._model, self._data = model, data
        self._home = list(shapes)
        self._courses: dict[int, Course] = {}
        self._geoms = [int(model.geom(f"{PREFIX}{i}").id) for i in range(len(shapes))]
        self._mocap = [int(model.body_mocapid[model.geom_bodyid[geom]]) for geom in self._geoms]
        self._robot = robot_geoms(model) if shapes else []
        self.forget()

    def __len__(self) -> int:
        return len(self._home)

    @property
    def courses(self) -> Mapping[int, Course]:
        """The obstacles that move, by index."""
        return self._courses

    def place(self, index: int, shape: AnyShape) -> None:
        """From now on the obstacle stands there, after a reset too. SimError for another kind or size than it has."""
        now = self._home[index]
        if shape.kind != now.kind or size(shape) != size(now):
            raise SimError(f"obstacle {index} is {now!r} and cannot become {shape!r}; make another world for it")
        self._home[index] = shape
        self.move(self._data.time)
        mujoco.mj_kinematics(self._model, self._data)

    def follow(self, index: int, course: Course) -> None:
        """The obstacle moves so in every episode, from where it is placed."""
        self._courses[index] = course

    def forget(self) -> None:
        """Begins an episode: every obstacle where it was placed, nothing touched."""
        self.contacts: list[Pair] = []
        self.touched: dict[Pair, float] = {}
        self.nearest_m = FAR_M
        self.move(0.0)

    def move(self, time: float) -> None:
        """Puts every obstacle to where it is at `time` [s]."""
        self.shapes = [
            moved(shape, self._courses[index].offset(time)) if index in self._courses else shape
            for index, shape in enumerate(self._home)
        ]
        for mocap, shape in zip(self._mocap, self.shapes, strict=True):
            self._data.mocap_pos[mocap], self._data.mocap_quat[mocap] = pose(shape)

    def simulate(self, steps: int) -> None:
        """Physics steps of the world, each of them watched. The bodies' poses are those before the last one."""
        if not self._home:
            mujoco.mj_step(self._model, self._data, nstep=steps)
            return
        if self._courses:
            self.move(self._data.time)
        for _ in range(steps):
            mujoco.mj_step(self._model, self._data)
            self._watch()
        self.nearest_m = min(self.nearest_m, self.distance())

    def distance(self) -> float:
        """Between robot and obstacles as they are now [m], negative where they overlap, FAR_M at most."""
        return min((nearest_m(self._model, self._data, self._robot, geom) for geom in self._geoms), default=FAR_M)

    def _watch(self) -> None:
        contact = self._data.contact
        for first, second in contact.geom[np.isin(contact.geom, self._geoms).any(axis=1) & (contact.dist <= 0)]:
            part, obstacle = (second, first) if first in self._geoms else (first, second)
            if part not in self._robot:
                continue
            shape = self._home[self._geoms.index(obstacle)]
            pair = (self._model.body(self._model.geom_bodyid[part]).name, shape.name or shape.kind)
            self.touched.setdefault(pair, float(self._data.time))
            if pair not in self.contacts:
                self.contacts.append(pair)


def robot_geoms(model: Any) -> list[int]:
    """Indices of the solid shapes of the bodies that an actuated robot's joints move."""
    joints = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
    driven = [model.jnt_bodyid[j] for j, kind in zip(model.actuator_trnid[:, 0], model.actuator_trntype, strict=True)
              if kind in joints]  # fmt: skip
    roots = {int(model.body_rootid[body]) for body in driven}
    return [
        geom
        for geom in range(model.ngeom)
        if model.body_rootid[model.geom_bodyid[geom]] in roots
        and model.body_weldid[model.geom_bodyid[geom]]
        and (model.geom_contype[geom] or model.geom_conaffinity[geom])
    ]


def nearest_m(model: Any, data: Any, geoms: Sequence[int], other: int) -> float:
    """Smallest distance [m] of `geoms` to the geom `other`, negative where they overlap, FAR_M at most."""
    distances = (mujoco.mj_geomDistance(model, data, geom, other, FAR_M, None) for geom in geoms)
    return min(distances, default=FAR_M)
