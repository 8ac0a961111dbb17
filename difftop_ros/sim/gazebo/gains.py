"""Gains with which a controller of forces stays calm under the physics step of Gazebo. Servos are describe.py's."""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np

from difftop_ros.sim.gazebo.describe import Description, Servo
from difftop_ros.sim.gazebo.sdf import STEP_S

_POSES = 64
# A damping force changes a joint's speed by this share of itself within one step: from 2 on it swings up.
_SHARE = 1.0


def calm_gains(description: Description, model: Any) -> dict[str, Servo]:
    """joint -> servo with the lag of the model's, damped as much as an explicit step of STEP_S allows.

    MuJoCo damps implicitly and its model has the rotors' inertia; a controller of forces in Gazebo has neither. What
    counts is the inertia that a joint's force meets, the smallest over poses of the whole range. Slides are fingers:
    they press rather than follow, so they are as stiff as twice the critical damping allows.
    """
    inertia = _inertias(description, model)
    gains = {}
    for servo in description.servos:
        joint = description.joints[servo.joint]
        damping = min(servo.damping, _SHARE * inertia[servo.joint] / STEP_S)
        whole = damping + joint.damping
        stiffness = whole * servo.stiffness / servo.damping
        if joint.kind == "prismatic":
            stiffness = max(stiffness, whole**2 / (16 * inertia[servo.joint]))
        gains[servo.joint] = Servo(servo.joint, min(stiffness, servo.stiffness), damping, servo.effort)
    return gains


def _inertias(description: Description, model: Any) -> dict[str, float]:
    """joint -> smallest inertia [kg m^2 | kg] that its force alone meets, without the rotors', over many poses."""
    bare = copy.copy(model)
    bare.dof_armature[:] = 0.0
    data, random = mujoco.MjData(bare), np.random.default_rng(0)
    names = [servo.joint for servo in description.servos]
    joints = [int(bare.joint(name).id) for name in names]
    dofs = bare.jnt_dofadr[joints]
    others = np.setdiff1d(np.arange(bare.nv), dofs)
    smallest = np.full(len(names), np.inf)
    for pose in range(_POSES):
        for name, joint in zip(names, joints, strict=True):
            described = description.joints[name]
            low, high = (described.lower, described.upper) if bare.jnt_limited[joint] else (-np.pi, np.pi)
            data.qpos[bare.jnt_qposadr[joint]] = random.uniform(low, high) if pose else described.home
        mujoco.mj_forward(bare, data)
        mass = np.zeros((bare.nv, bare.nv))
        mujoco.mj_fullM(bare, mass, data.qM)
        mass[others, :] = mass[:, others] = 0.0
        mass[others, others] = 1.0
        # all joints damp at once: the share of the worst mode of them is each one's
        inverse = np.linalg.inv(mass)[np.ix_(dofs, dofs)]
        alone = 1 / np.diag(inverse)
        worst = np.abs(np.linalg.eigvals(inverse * alone)).max()
        smallest = np.minimum(smallest, alone / worst)
    return dict(zip(names, smallest, strict=True))
