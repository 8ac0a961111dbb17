"""Starts of episodes as after a failed grasp, so that demonstrations show what to do then. Tasks are sim/tasks.py's."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.scene import MujocoScene

_LOW, _HIGH = np.array([0.34, -0.22, 0.09]), np.array([0.62, 0.22, 0.30])  # of the tool's point, over the table [m]
_SPREAD = np.array([0.5, 0.5, 0.1, 0.5, 0.1, 0.5, 0.3])  # largest offsets of the seven joints [rad]
_TRIES = 500


class VariedStart:
    """In a share of the episodes the tool starts anywhere over the table, hand down, the gripper closed or half open.

    A policy that closed beside the cube and went up empty-handed is there. What scripted demonstrations never show, a
    policy trained on them does not leave again. The same seed gives the same start.
    """

    def __init__(self, model: Any, scene: MujocoScene, share: float) -> None:
        """Raises SimError for a share outside 0..1, and for a model that is not the shipped arm."""
        if not 0.0 <= share <= 1.0:
            raise SimError(f"varied_starts is {share}; it is a share of the episodes, 0 to 1")
        self._model, self._scene, self._share = model, scene, share
        self._arm = self._addresses([f"panda_joint{i}" for i in range(1, 8)])
        self._fingers = self._addresses(["panda_finger_joint1", "panda_finger_joint2"])
        if share and (self._arm is None or self._fingers is None or scene.tcp_site < 0):
            raise SimError("varied_starts is for the demo's own arm; leave it at 0 with other models")

    def _addresses(self, names: list[str]) -> np.ndarray | None:
        joints = [mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in names]
        return self._model.jnt_qposadr[joints] if min(joints) >= 0 else None

    def apply(self, data: Any, seed: int) -> bool:
        """Changes the arm's and gripper's positions in `data` if this is one of the episodes; whether it did."""
        random = np.random.default_rng([seed, 78])
        if random.random() >= self._share:
            return False
        home = data.qpos[self._arm].copy()
        for _ in range(_TRIES):
            data.qpos[self._arm] = home + random.uniform(-_SPREAD, _SPREAD)
            mujoco.mj_kinematics(self._model, data)
            place, rotation = self._scene.tcp()
            if np.all(place > _LOW) and np.all(place < _HIGH) and abs(rotation[2, 2]) > 0.97:
                closed = random.random() < 0.6
                data.qpos[self._fingers] = 0.0 if closed else random.uniform(0.0, 0.04)
                return True
        data.qpos[self._arm] = home
        return False
