"""What the tasks touch of a MuJoCo model, by its names. The tasks themselves are sim/tasks.py's."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError
from difftop_ros.sim.tasks import Task


class MujocoScene:
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
