"""What a MuJoCo model says of a robot and its surroundings, as plain values: the source of SDF, URDF and USD.

Only what other formats have too: hinges and slides, boxes, cylinders, capsules, spheres and planes. Writing is done by
sdf.py, urdf.py and sim/isaac.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError

Kind = Literal["box", "cylinder", "capsule", "sphere", "plane"]
_KINDS: dict[int, Kind] = {
    mujoco.mjtGeom.mjGEOM_BOX: "box",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
    mujoco.mjtGeom.mjGEOM_SPHERE: "sphere",
    mujoco.mjtGeom.mjGEOM_PLANE: "plane",
}
# MuJoCo's and OpenGL's cameras look along -z with y up; Gazebo's look along x with z up.
GAZEBO_FROM_OPENGL = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class Pose:
    """xyz (3,) [m] and rotation (3, 3) of a thing in its parent."""

    xyz: np.ndarray
    rotation: np.ndarray

    @property
    def rpy(self) -> np.ndarray:
        """Roll, pitch, yaw (3,) [rad] about fixed axes, as SDF and URDF count them."""
        from scipy.spatial.transform import Rotation

        with warnings.catch_warnings():  # where two angles say the same, either will do
            warnings.simplefilter("ignore", UserWarning)
            return Rotation.from_matrix(self.rotation).as_euler("xyz")


@dataclass(frozen=True)
class Shape:
    """size: box, its edges (3,); cylinder and capsule, radius and length; sphere, radius; plane, half edges (2,) [m].

    solid: whether it collides; friction: sliding, as the pair's smaller one gives what MuJoCo's rule, the pair's
    larger one, gives; colour: RGBA 0..1.
    """

    name: str
    kind: Kind
    size: tuple[float, ...]
    pose: Pose
    colour: tuple[float, ...]
    solid: bool
    friction: float


@dataclass(frozen=True)
class Joint:
    """A hinge or slide about `axis` (3,) in the child's frame. Units [rad | m], per s; effort [N m | N]."""

    name: str
    kind: Literal["revolute", "continuous", "prismatic"]
    axis: np.ndarray
    lower: float
    upper: float
    damping: float
    effort: float
    home: float


@dataclass(frozen=True)
class Camera:
    """fovy: vertical angle of view [rad]; pose: in the body, looking along x with z up."""

    name: str
    fovy: float
    pose: Pose


@dataclass(frozen=True)
class Body:
    """mass [kg], centre of mass (3,) [m] and inertia (3, 3) [kg m^2] about it, in the body's axes.

    parent: '' for the world; weightless: whether something balances its weight.
    """

    name: str
    parent: str
    pose: Pose
    mass: float
    com: np.ndarray
    inertia: np.ndarray
    weightless: bool
    joint: Joint | None
    shapes: tuple[Shape, ...]
    cameras: tuple[Camera, ...]
    frames: dict[str, Pose]


@dataclass(frozen=True)
class Servo:
    """Position servo: effort = stiffness * (target - position) - damping * velocity, at most `effort`."""

    joint: str
    stiffness: float
    damping: float
    effort: float


@dataclass(frozen=True)
class Light:
    """A directional light: direction (3,) and colour 0..1."""

    direction: np.ndarray
    colour: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """robot: bodies, parents first; things: free bodies; surroundings: what is fixed; cameras: those that are fixed.

    ambient: colour 0..1 of light from everywhere. near_m, far_m: what cameras see [m].
    """

    name: str
    robot: tuple[Body, ...]
    things: tuple[Body, ...]
    surroundings: tuple[Shape, ...]
    cameras: tuple[Camera, ...]
    servos: tuple[Servo, ...]
    lights: tuple[Light, ...]
    ambient: tuple[float, ...]
    near_m: float
    far_m: float

    def body(self, name: str) -> Body:
        """The robot's body of that name. Raises KeyError."""
        return next(body for body in self.robot if body.name == name)

    @property
    def joints(self) -> dict[str, Joint]:
        """The robot's joints by name, from its base on."""
        return {body.joint.name: body.joint for body in self.robot if body.joint is not None}


def describe(model: Any, name: str, home: Mapping[str, float] | None = None) -> Description:
    """The parts of a compiled mujoco.MjModel with one robot; `home`: joint -> where it is to start [rad | m].

    Raises SimError for what other formats do not have.
    """
    free = [b for b in range(1, model.nbody) if _is_free(model, b)]
    moved = set(range(1, model.nbody)) - set(free)
    markers = {b for b in moved if model.body_mocapid[b] >= 0}
    robot = sorted(moved - markers)
    if not robot or all(model.body_jntnum[b] == 0 for b in robot):
        raise SimError(f"the model '{name}' has no robot: no body with a hinge or slide")
    extent = float(model.stat.extent)
    return Description(
        name,
        tuple(_body(model, b, home or {}) for b in robot),
        tuple(_body(model, b, {}) for b in free),
        tuple(_shape(model, g) for g in range(model.ngeom) if model.geom_bodyid[g] == 0),
        tuple(_camera(model, c) for c in range(model.ncam) if model.cam_bodyid[c] == 0),
        tuple(_servos(model)),
        tuple(
            Light(model.light_dir[i].copy(), tuple(float(v) for v in model.light_diffuse[i]))
            for i in range(model.nlight)
            if model.light_directional[i]
        ),
        tuple(float(v) for v in model.vis.headlight.ambient),
        float(model.vis.map.znear) * extent,
        float(model.vis.map.zfar) * extent,
    )


def _is_free(model: Any, body: int) -> bool:
    return bool(model.body_jntnum[body] and model.jnt_type[model.body_jntadr[body]] == mujoco.mjtJoint.mjJNT_FREE)


def _name(model: Any, kind: Any, index: int, what: str) -> str:
    return mujoco.mj_id2name(model, kind, index) or f"{what}_{index}"


def _matrix(quat: np.ndarray) -> np.ndarray:
    flat = np.empty(9)
    mujoco.mju_quat2Mat(flat, np.asarray(quat, np.float64))
    return flat.reshape(3, 3)


def _body(model: Any, index: int, home: Mapping[str, float]) -> Body:
    name = _name(model, mujoco.mjtObj.mjOBJ_BODY, index, "body")
    count = int(model.body_jntnum[index])
    free = _is_free(model, index)
    if count > 1:
        raise SimError(f"body '{name}' has {count} joints; give it one, and a body of its own to each other joint")
    parent = int(model.body_parentid[index])
    turn = _matrix(model.body_iquat[index])
    geoms = range(model.body_geomadr[index], model.body_geomadr[index] + model.body_geomnum[index])
    sites = [s for s in range(model.nsite) if model.site_bodyid[s] == index]
    return Body(
        name,
        _name(model, mujoco.mjtObj.mjOBJ_BODY, parent, "body") if parent else "",
        Pose(model.body_pos[index].copy(), _matrix(model.body_quat[index])),
        float(model.body_mass[index]),
        model.body_ipos[index].copy(),
        turn @ np.diag(model.body_inertia[index]) @ turn.T,
        bool(model.body_gravcomp[index] > 0.5),
        _joint(model, int(model.body_jntadr[index]), name, home) if count and not free else None,
        tuple(_shape(model, g) for g in geoms if model.geom_bodyid[g] == index),
        tuple(_camera(model, c) for c in range(model.ncam) if model.cam_bodyid[c] == index),
        {
            _name(model, mujoco.mjtObj.mjOBJ_SITE, s, "site"): Pose(
                model.site_pos[s].copy(), _matrix(model.site_quat[s])
            )
            for s in sites
        },
    )


def _joint(model: Any, index: int, body: str, home: Mapping[str, float]) -> Joint:
    name = _name(model, mujoco.mjtObj.mjOBJ_JOINT, index, "joint")
    if np.abs(model.jnt_pos[index]).max() > 1e-9:
        raise SimError(f"joint '{name}' does not lie in the origin of body '{body}'; move the body's frame there")
    slides = model.jnt_type[index] == mujoco.mjtJoint.mjJNT_SLIDE
    if not slides and model.jnt_type[index] != mujoco.mjtJoint.mjJNT_HINGE:
        raise SimError(f"joint '{name}' is neither a hinge nor a slide; only these have a counterpart elsewhere")
    limited = bool(model.jnt_limited[index])
    lower, upper = model.jnt_range[index] if limited else (-np.inf, np.inf)
    return Joint(
        name,
        "prismatic" if slides else "revolute" if limited else "continuous",
        model.jnt_axis[index].copy(),
        float(lower),
        float(upper),
        float(model.dof_damping[model.jnt_dofadr[index]]),
        max((s.effort for s in _servos(model) if s.joint == name), default=0.0),
        float(home.get(name, model.qpos0[model.jnt_qposadr[index]])),
    )


def _servos(model: Any) -> list[Servo]:
    """One servo for each joint; a tendon that couples joints drives each by its share of the tendon's length."""
    found = []
    for a in range(model.nu):
        stiffness, damping = -float(model.actuator_biasprm[a, 1]), -float(model.actuator_biasprm[a, 2])
        effort = float(model.actuator_forcerange[a, 1]) if model.actuator_forcelimited[a] else np.inf
        target = int(model.actuator_trnid[a, 0])
        if model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT:
            joints = {_name(model, mujoco.mjtObj.mjOBJ_JOINT, target, "joint"): 1.0}
        else:
            joints = _of_tendon(model, target)
        # all of a tendon's joints move alike, so each sees the length as so many times its own position
        share = sum(joints.values())
        found += [Servo(j, stiffness * share, damping * share, effort) for j in joints]
    return found


def _of_tendon(model: Any, tendon: int) -> dict[str, float]:
    first, count = int(model.tendon_adr[tendon]), int(model.tendon_num[tendon])
    if any(model.wrap_type[first : first + count] != mujoco.mjtWrap.mjWRAP_JOINT):
        raise SimError("a servo drives a tendon that is not a sum of joints; other formats have none")
    return {
        _name(model, mujoco.mjtObj.mjOBJ_JOINT, int(model.wrap_objid[w]), "joint"): float(model.wrap_prm[w])
        for w in range(first, first + count)
    }


def _camera(model: Any, index: int) -> Camera:
    pose = Pose(model.cam_pos[index].copy(), _matrix(model.cam_quat[index]) @ GAZEBO_FROM_OPENGL.T)
    name = _name(model, mujoco.mjtObj.mjOBJ_CAMERA, index, "camera")
    return Camera(name, float(np.deg2rad(model.cam_fovy[index])), pose)


def _shape(model: Any, index: int) -> Shape:
    kind = _KINDS.get(int(model.geom_type[index]))
    name = _name(model, mujoco.mjtObj.mjOBJ_GEOM, index, "shape")
    if kind is None:
        raise SimError(f"geom '{name}' is no box, cylinder, capsule, sphere or plane; draw it with those")
    a, b, c = (float(v) for v in model.geom_size[index])
    sizes: dict[Kind, tuple[float, ...]] = {
        "box": (2 * a, 2 * b, 2 * c),
        "cylinder": (a, 2 * b),
        "capsule": (a, 2 * b),
        "sphere": (a,),
        "plane": (a, b),
    }
    material = int(model.geom_matid[index])
    colour = model.mat_rgba[material] if material >= 0 else model.geom_rgba[index]
    solid = bool(model.geom_contype[index] or model.geom_conaffinity[index])
    return Shape(
        name,
        kind,
        sizes[kind],
        Pose(model.geom_pos[index].copy(), _matrix(model.geom_quat[index])),
        tuple(float(v) for v in colour),
        solid,
        _friction(model, index),
    )


def _friction(model: Any, geom: int) -> float:
    """The largest friction of what this geom meets on a moving body, or its own if that is larger.

    MuJoCo takes the larger friction of a pair, Gazebo's physics the smaller: with this number on free bodies the pairs
    of the scene have the same.
    """
    own = float(model.geom_friction[geom, 0])
    if not _is_free(model, int(model.geom_bodyid[geom])):
        return own
    meets = [
        float(model.geom_friction[g, 0])
        for g in range(model.ngeom)
        if model.geom_contype[g] & model.geom_conaffinity[geom] or model.geom_contype[geom] & model.geom_conaffinity[g]
    ]
    return max([own, *meets])
