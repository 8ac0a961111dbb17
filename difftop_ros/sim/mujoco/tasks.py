"""The tasks: how an episode starts, how far it has come and what success is, by physics. Solving is the expert's."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError

# The shipped arm's start: hand down over the table's near side, where it hides no cube from the front camera.
PANDA_HOME = {
    "panda_joint1": 0.0,
    "panda_joint2": -0.4863,
    "panda_joint3": 0.0,
    "panda_joint4": -2.6347,
    "panda_joint5": 0.0,
    "panda_joint6": 2.1483,
    "panda_joint7": 0.7853981633974483,
}
# Centre of the cube's edge-to-edge start area and its half size [m]: 20 x 24 cm.
CUBE_CENTRE, CUBE_HALF_AREA = np.array([0.50, 0.0]), np.array([0.10, 0.12])
_LIFTED_M = 0.08  # of the cube's bottom over the table


class Task:
    """Base: no objects, never a success. `scene` gives access to the model's parts (see Scene)."""

    name = "none"
    uses_cube = False
    marker: str | None = None
    opening = 0.04  # of the gripper at the start [m]
    max_seconds = 10.0

    def start(self, scene: Scene, random: np.random.Generator) -> None:
        """Places the objects for a new episode."""

    def holds(self, scene: Scene) -> bool:
        """Whether the task's condition holds at this instant."""
        return False

    def progress(self, scene: Scene) -> float:
        """How far the task has come, 0 to 1: a dense reward."""
        return 0.0


class Reach(Task):
    """The point between the fingers comes within 4 cm of the ball's centre, and stays."""

    name, marker, max_seconds = "reach", "target_ball", 8.0

    def start(self, scene: Scene, random: np.random.Generator) -> None:
        scene.place_target(random.uniform([0.42, -0.14, 0.10], [0.60, 0.14, 0.18]))

    def holds(self, scene: Scene) -> bool:
        return bool(np.linalg.norm(scene.tcp()[0] - scene.target()) < 0.04 and scene.tcp_speed() < 0.05)

    def progress(self, scene: Scene) -> float:
        """Nearness of the tool's point to the ball."""
        return _nearness(scene.tcp()[0] - scene.target())


class Push(Task):
    """The cube is pushed over the table until its centre rests within 3 cm of the disc's."""

    name, uses_cube, marker, opening, max_seconds = "push", True, "target_disc", 0.0, 12.0

    def start(self, scene: Scene, random: np.random.Generator) -> None:
        # The disc lies farther from the arm than the cube, within 40 degrees of straight ahead: 10 to 16 cm away.
        cube = random.uniform([0.38, -0.12], [0.47, 0.12])
        angle, distance = random.uniform(-0.7, 0.7), random.uniform(0.10, 0.16)
        target = cube + distance * np.array([np.cos(angle), np.sin(angle)])
        scene.place_cube(cube, yaw=0.0)
        scene.place_target([target[0], np.clip(target[1], -0.16, 0.16), 0.0])

    def holds(self, scene: Scene) -> bool:
        position, _, speed = scene.cube()
        near = np.linalg.norm(position[:2] - scene.target()[:2]) < 0.03
        return bool(near and abs(position[2] - scene.cube_half) < 0.01 and speed < 0.02)

    def progress(self, scene: Scene) -> float:
        """0.3 for the tool's nearness to the cube, 0.7 for the cube's to the disc."""
        cube = scene.cube()[0]
        return 0.3 * _nearness(scene.tcp()[0] - cube) + 0.7 * _nearness(cube[:2] - scene.target()[:2])


class Lift(Task):
    """The cube is held by at least two parts of the gripper, its bottom 8 cm above the table. Yaw within 20 degrees."""

    name, uses_cube, opening, max_seconds = "lift", True, 0.08, 12.0

    def start(self, scene: Scene, random: np.random.Generator) -> None:
        area = random.uniform(-1, 1, 2) * CUBE_HALF_AREA
        scene.place_cube(CUBE_CENTRE + area, yaw=np.deg2rad(random.uniform(-20, 20)))

    def holds(self, scene: Scene) -> bool:
        position, _, _ = scene.cube()
        return bool(position[2] - scene.cube_half > _LIFTED_M and len(scene.touching_cube()) >= 2)

    def progress(self, scene: Scene) -> float:
        """0.3 for the tool's nearness to the cube, 0.2 for a grasp (two parts touch it), 0.5 for height in a grasp."""
        cube = scene.cube()[0]
        near = 0.3 * _nearness(scene.tcp()[0] - cube)
        if len(scene.touching_cube()) < 2:
            return near
        return near + 0.2 + 0.5 * float(np.clip((cube[2] - scene.cube_half) / _LIFTED_M, 0, 1))


def _nearness(offset: np.ndarray) -> float:
    """1 at no distance [m], 0.54 at 10 cm, towards 0 far away."""
    return float(1 - np.tanh(5 * np.linalg.norm(offset)))


_TASKS: dict[str, type[Task]] = {t.name: t for t in (Task, Reach, Push, Lift)}
TASK_NAMES = tuple(n for n in _TASKS if n != "none")


def make_task(name: str) -> Task:
    """The task called `name`; SimError naming the known ones."""
    if name not in _TASKS:
        raise SimError(f"task '{name}' is unknown; choose one of {list(_TASKS)}")
    return _TASKS[name]()


class Scene:
    """The named parts of a model that tasks and experts use: site 'tcp', free body 'cube', mocap body 'target'.

    SimError when the task needs a part that the model lacks. What a task does not use is taken out of sight and touch.
    """

    def __init__(self, model: Any, data: Any, task: Task) -> None:
        self.model, self.data = model, data
        self._tcp = self._find(mujoco.mjtObj.mjOBJ_SITE, "tcp")
        self._cube = self._find(mujoco.mjtObj.mjOBJ_BODY, "cube")
        target = self._find(mujoco.mjtObj.mjOBJ_BODY, "target")
        self._mocap = int(model.body_mocapid[target]) if target >= 0 else -1
        lacking = []
        if task.name != "none" and self._tcp < 0:
            lacking.append("a site 'tcp' between the fingers")
        if task.uses_cube and not self._free_cube():
            lacking.append("a body 'cube' with a free joint and one box geom")
        if task.marker and self._mocap < 0:
            lacking.append("a mocap body 'target'")
        if lacking:
            raise SimError(f"task '{task.name}' needs {', '.join(lacking)}; add it to the model or use task 'none'")
        self.cube_half = float(model.geom_size[model.body_geomadr[self._cube], 2]) if self._cube >= 0 else 0.0
        self._hide_unused(task, target)

    @property
    def tcp_site(self) -> int:
        """Index of the site between the fingers, -1 if there is none."""
        return self._tcp

    def tcp(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of the tool's point, in the world."""
        return self.data.site_xpos[self._tcp].copy(), self.data.site_xmat[self._tcp].reshape(3, 3).copy()

    def tcp_speed(self) -> float:
        """Speed of the tool's point [m/s]."""
        jacobian = np.zeros((3, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, jacobian, None, self._tcp)
        return float(np.linalg.norm(jacobian @ self.data.qvel))

    def cube(self) -> tuple[np.ndarray, float, float]:
        """The cube's position (3,) [m], its yaw [rad] within +-45 degrees (it is symmetric) and its speed [m/s]."""
        rotation = self.data.xmat[self._cube].reshape(3, 3)
        yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
        yaw = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
        start = self.model.jnt_dofadr[self.model.body_jntadr[self._cube]]
        return self.data.xpos[self._cube].copy(), float(yaw), float(np.linalg.norm(self.data.qvel[start : start + 3]))

    def target(self) -> np.ndarray:
        """The target's position (3,) [m]."""
        return self.data.mocap_pos[self._mocap].copy()

    def place_target(self, position: Any) -> None:
        """Moves the target marker to position (3,) [m]."""
        self.data.mocap_pos[self._mocap] = position

    def place_cube(self, position: Any, yaw: float) -> None:
        """Lays the cube at rest on the table at (x, y) [m], turned by yaw [rad]."""
        start = self.model.jnt_qposadr[self.model.body_jntadr[self._cube]]
        turn = np.empty(4)
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), yaw)
        self.data.qpos[start : start + 7] = [*position, self.cube_half, *turn]

    def touching_cube(self) -> set[int]:
        """Indices of the moving bodies in contact with the cube (the static world is none)."""
        bodies = set()
        for contact in self.data.contact:
            pair = [int(self.model.geom_bodyid[g]) for g in (contact.geom1, contact.geom2)]
            if self._cube in pair:
                bodies.update(pair)
        return {b for b in bodies if b != self._cube and self.model.body_weldid[b] != 0}

    def _find(self, kind: Any, name: str) -> int:
        return int(mujoco.mj_name2id(self.model, kind, name))

    def _free_cube(self) -> bool:
        if self._cube < 0 or self.model.body_jntnum[self._cube] != 1 or self.model.body_geomnum[self._cube] < 1:
            return False
        joint = self.model.body_jntadr[self._cube]
        return bool(self.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE)

    def _hide_unused(self, task: Task, target: int) -> None:
        """Group 5 is not drawn; an unused cube touches nothing and has no weight. 'none' leaves a model as it is."""
        if task.name == "none":
            return
        if self._cube >= 0 and not task.uses_cube:
            self._geoms(self._cube, group=5, solid=False)
            self.model.body_gravcomp[self._cube] = 1
        if target >= 0:
            first, count = self.model.body_geomadr[target], self.model.body_geomnum[target]
            for geom in range(first, first + count):
                name = mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_GEOM, geom) or ""
                self.model.geom_group[geom] = 0 if task.marker and name in ("", task.marker) else 5

    def _geoms(self, body: int, group: int, solid: bool) -> None:
        first = self.model.body_geomadr[body]
        for geom in range(first, first + self.model.body_geomnum[body]):
            self.model.geom_group[geom] = group
            if not solid:
                self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = 0
