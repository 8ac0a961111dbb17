"""Damped-least-squares inverse kinematics, one differential step at a time. What to aim at is the expert's business."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation


class DampedLeastSquares:
    """Joint velocities that move a site with a wanted twist, pulling spare freedom towards a rest pose."""

    def __init__(self, model: Any, site: int, joints: list[int], rest: np.ndarray, damping: float = 0.03) -> None:
        """joints: indices of the hinges to use; rest (n,) [rad]; damping trades accuracy for calm at singularities."""
        self._model, self._site = model, site
        self._dofs = np.asarray(model.jnt_dofadr)[joints]
        self._qpos = np.asarray(model.jnt_qposadr)[joints]
        self._rest, self._damping = rest, damping

    def jacobian(self, data: Any) -> np.ndarray:
        """Site Jacobian (6, n): linear rows [m/rad], then angular rows [rad/rad], in the world frame."""
        linear, angular = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        mujoco.mj_jacSite(self._model, data, linear, angular, self._site)
        return np.concatenate([linear, angular])[:, self._dofs]

    def velocity(self, data: Any, twist: np.ndarray, rest_gain: float = 0.5) -> np.ndarray:
        """Joint velocities (n,) [rad/s] for a twist (6,) [m/s, rad/s] of the site."""
        jacobian = self.jacobian(data)
        inner = np.linalg.solve(jacobian @ jacobian.T + self._damping**2 * np.eye(6), np.eye(6))
        pseudo = jacobian.T @ inner
        pull = rest_gain * (self._rest - data.qpos[self._qpos])
        return pseudo @ twist + pull - pseudo @ (jacobian @ pull)

    def twist(self, data: Any) -> np.ndarray:
        """The site's present twist (6,) [m/s, rad/s]."""
        return self.jacobian(data) @ data.qvel[self._dofs]


def rotation_error(wanted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Axis times angle (3,) [rad], in the world frame, that turns `actual` (3, 3) into `wanted` (3, 3)."""
    return Rotation.from_matrix(wanted @ actual.T).as_rotvec()


def hand_down(yaw: float) -> np.ndarray:
    """Rotation (3, 3) of a hand pointing down whose fingers open across direction `yaw` [rad] in the table's plane."""
    return Rotation.from_euler("ZX", [yaw, np.pi]).as_matrix()
