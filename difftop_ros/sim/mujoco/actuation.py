"""Joint commands to MuJoCo's actuators and back, and disturbances of them. Modes and messages are the bridge's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError

_JOINT_TRANSMISSIONS = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
_SCALAR_JOINTS = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)


class Actuation:
    """The commanded joints of a model: every actuator must be a position servo on a joint or a tendon.

    A joint is named after the model's joint, or after the actuator where a tendon is driven (a coupled gripper).
    Positions are actuator lengths [rad | m], whatever the servo's control range is.
    """

    def __init__(self, model: Any) -> None:
        if model.nu == 0:
            raise SimError("the model has no actuator, so nothing can be commanded; add <position> actuators to it")
        self.names = tuple(self._name(model, i) for i in range(model.nu))
        lacking = [n for i, n in enumerate(self.names) if not self._is_position_servo(model, i)]
        if lacking:
            raise SimError(
                f"the actuators of {lacking} are no position servos; joint commands are positions, "
                "so drive these joints by <position kp=...> actuators"
            )
        if len(set(self.names)) != len(self.names):
            raise SimError(f"the actuated joints {list(self.names)} are not distinct; give each joint one actuator")
        # A servo's force is gain * ctrl + bias0 + bias1 * length, so it rests at -(gain * ctrl + bias0) / bias1.
        self._gain = model.actuator_gainprm[:, 0].copy()
        self._bias0 = model.actuator_biasprm[:, 0].copy()
        self._bias1 = model.actuator_biasprm[:, 1].copy()
        low = np.where(model.actuator_ctrllimited, model.actuator_ctrlrange[:, 0], -np.inf)
        high = np.where(model.actuator_ctrllimited, model.actuator_ctrlrange[:, 1], np.inf)
        ends = np.sort(np.stack([self._length(low), self._length(high)]), axis=0)
        self.lower, self.upper = ends[0], ends[1]

    def controls(self, positions: np.ndarray) -> np.ndarray:
        """MuJoCo's ctrl (n,) for target positions (n,) [rad | m]; targets beyond a range rest at its end."""
        targets = np.clip(positions, self.lower, self.upper)
        return -(self._bias1 * targets + self._bias0) / self._gain

    @staticmethod
    def state(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position [rad | m], velocity [1/s] and effort [N m | N] of each commanded joint, float64 (n,)."""
        return data.actuator_length.copy(), data.actuator_velocity.copy(), data.actuator_force.copy()

    @staticmethod
    def put(data: Any, position: np.ndarray, velocity: np.ndarray) -> None:
        """Put the commanded joints there (n,) [rad | m], [1/s]; a tendon's length is shared among its joints."""
        model = data.model
        for index, (place, speed) in enumerate(zip(position, velocity, strict=True)):
            target = model.actuator_trnid[index, 0]
            joints, shares = [target], np.ones(1)
            if model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_TENDON:
                wraps = slice(model.tendon_adr[target], model.tendon_adr[target] + model.tendon_num[target])
                joints, weights = model.wrap_objid[wraps], model.wrap_prm[wraps]
                shares = weights / float(weights @ weights)
            data.qpos[model.jnt_qposadr[joints]] = place * shares
            data.qvel[model.jnt_dofadr[joints]] = speed * shares

    def _length(self, ctrl: np.ndarray) -> np.ndarray:
        return -(self._gain * ctrl + self._bias0) / self._bias1

    @staticmethod
    def _name(model: Any, index: int) -> str:
        kind, target = model.actuator_trntype[index], model.actuator_trnid[index, 0]
        if kind in _JOINT_TRANSMISSIONS and model.jnt_type[target] in _SCALAR_JOINTS:
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, target)
        elif kind == mujoco.mjtTrn.mjTRN_TENDON:
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR, index)
        else:
            raise SimError(f"actuator {index} drives neither a hinge, a slide nor a tendon; remove it from the model")
        if not name:
            raise SimError(f"actuator {index} or its joint has no name; name it, for commands are matched by name")
        return name

    @staticmethod
    def _is_position_servo(model: Any, index: int) -> bool:
        return bool(
            model.actuator_biastype[index] == mujoco.mjtBias.mjBIAS_AFFINE
            and model.actuator_biasprm[index, 1] < 0
            and model.actuator_gainprm[index, 0] != 0
        )


class Disturbance:
    """Smooth random pushes of what the actuators receive, so that demonstrations hold recoveries (after DART).

    The recorded command stays what the demonstrator wanted; only the robot goes astray. Pushes of 0.4 s with amplitudes
    of standard deviation `std` [rad] on hinge joints alone, and 0.7 to 1.6 s of quiet between, so that tasks can end.
    """

    _PUSH_S = 0.4

    def __init__(self, std: float, joints: Sequence[bool]) -> None:
        if not np.isfinite(std) or std < 0:
            raise SimError(f"disturbance is {std}; it is a standard deviation [rad], zero or more")
        self._std = std * np.asarray(joints, float)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """A fresh, repeatable course of pushes."""
        self._random = np.random.default_rng([seed, 77])
        self._until_push = 0.0
        self._plan_next()

    def offsets(self, dt: float) -> np.ndarray:
        """Offsets (n,) [rad] after dt seconds more."""
        if not self._std.any():
            return self._std
        self._until_push -= dt
        if self._until_push < -self._PUSH_S:
            self._plan_next()
        if self._until_push > 0:
            return np.zeros_like(self._std)
        return self._amplitude * np.sin(np.pi * -self._until_push / self._PUSH_S) ** 2

    def _plan_next(self) -> None:
        self._until_push = self._random.uniform(0.7, 1.6)
        self._amplitude = self._std * self._random.standard_normal(self._std.shape)
