"""Gains with which a controller of forces stays calm under the physics step of Gazebo. Servos are describe.py's."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from difftop_ros.sim.gazebo.describe import Description, Servo
from difftop_ros.sim.gazebo.sdf import STEP_S

_POSES = 64
# Damping changes a joint's speed by this share of itself within one step, at most: from 2 on it swings up.
_SHARE = 0.5


def calm_gains(description: Description, model: Any) -> dict[str, Servo]:
    """joint -> servo as the model's, as stiff as an explicit step of STEP_S allows, and with the same lag.

    MuJoCo damps implicitly and the model has rotors' inertia; Gazebo has neither. What counts is the inertia that a
    joint's force meets, the smallest over poses of the whole range.
    """
    inertia = _inertias(description, model)
    gains = {}
    for servo in description.servos:
        damping = min(servo.damping, _SHARE * inertia[servo.joint] / STEP_S)
        gains[servo.joint] = Servo(servo.joint, servo.stiffness * damping / servo.damping, damping, servo.effort)
    return gains


def _inertias(description: Description, model: Any) -> dict[str, float]:
    """joint -> smallest inertia [kg m^2 | kg] that its force alone meets, without the rotors', over many poses."""
    model, data = _without_rotors(model), mujoco.MjData(model)
    random = np.random.default_rng(0)
    names = [servo.joint for servo in description.servos]
    joints = [int(model.joint(name).id) for name in names]
    dofs = model.jnt_dofadr[joints]
    free = np.setdiff1d(np.arange(model.nv), dofs)
    smallest = np.full(len(names), np.inf)
    for pose in range(_POSES):
        for name, joint in zip(names, joints, strict=True):
            described = description.joints[name]
            low, high = (described.lower, described.upper) if model.jnt_limited[joint] else (-np.pi, np.pi)
            data.qpos[model.jnt_qposadr[joint]] = random.uniform(low, high) if pose else described.home
        mujoco.mj_forward(model, data)
        mass = np.zeros((model.nv, model.nv))
        mujoco.mj_fullM(model, mass, data.qM)
        mass[free, :] = mass[:, free] = 0.0
        mass[free, free] = 1.0
        # all joints damp at once: the share of the worst mode of them is each one's
        inverse = np.linalg.inv(mass)[np.ix_(dofs, dofs)]
        alone = 1 / np.diag(inverse)
        worst = np.abs(np.linalg.eigvals(inverse * alone)).max()
        smallest = np.minimum(smallest, alone / worst)
    return dict(zip(names, smallest, strict=True))


def _without_rotors(model: Any) -> Any:
    import copy

    bare = copy.copy(model)
    bare.dof_armature[:] = 0.0
    return bare
