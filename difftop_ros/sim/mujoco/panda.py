"""The demo's arm, or any MuJoCo model with position servos, with a task. No ROS and no policy; time is simulated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from difftop_ros.contract.shapes import AnyShape
from difftop_ros.paths import share_path
from difftop_ros.sim.interface import Mode, SimExpert
from difftop_ros.sim.mujoco.actuation import Actuation, Disturbance
from difftop_ros.sim.mujoco.base import MujocoWorld, load_model
from difftop_ros.sim.mujoco.obstacles import Obstacles
from difftop_ros.sim.mujoco.scene import MujocoScene
from difftop_ros.sim.mujoco.starts import VariedStart
from difftop_ros.sim.tasks import PANDA_HOME, START_OFFSET, Held, make_task

SCENE = "models/panda_table/scene.xml"
_CHUNK_S = 0.01  # Disturbances and success are looked at this often.


class PandaWorld(MujocoWorld):
    """One world. The same seed and the same commands give bit-identical states.

    joint_names: commanded joints in actuator order; positions are [rad], openings of a gripper [m].
    """

    takes: Mode = "position"
    step_s: float | None = None

    def __init__(
        self,
        task: str = "reach",
        model_path: str | os.PathLike[str] | None = None,
        width: int = 160,
        height: int = 120,
        seed: int = 0,
        disturbance: float = 0.0,
        start_offset: float = START_OFFSET,
        varied_starts: float = 0.0,
        obstacles: Sequence[AnyShape] = (),
    ) -> None:
        """width, height of pictures [px]; disturbance: standard deviation of smooth offsets of what the servos receive
        [rad]; start_offset: largest random offset of each hinge joint at the start [rad]; varied_starts: share of
        episodes that begin as after a failed grasp, for demonstrations of what to do then (see VariedStart); obstacles:
        solid shapes in the world's frame, to be watched and moved by `self.obstacles`.

        Raises SimError for an unknown task, an unreadable model, or one that lacks what the task needs.
        """
        self.task = make_task(task)
        model = load_model(model_path or share_path(SCENE), obstacles)
        super().__init__(model, mujoco.MjData(model), width, height)
        self._actuation = Actuation(self.model)
        self.joint_names = self._actuation.names
        self.scene = MujocoScene(self.model, self.data, self.task)
        self.obstacles = Obstacles(self.model, self.data, obstacles)
        self._start_offset = float(start_offset)
        self._varied = VariedStart(self.model, self.scene, varied_starts)
        self._hinges = self._actuated_hinges()
        self._disturbance = Disturbance(disturbance, [joint >= 0 for joint in self._hinges])
        self._held = Held()
        self.reset(seed)

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        return float(self.data.time)

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of each commanded joint (n,) [rad | m]; infinite where the model sets none."""
        return self._actuation.lower.copy(), self._actuation.upper.copy()

    def reset(self, seed: int) -> None:
        """Starts the episode of `seed`: arm near home at rest, objects placed, time 0."""
        random = np.random.default_rng(seed)
        home = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_KEY, "home")
        if home >= 0:
            mujoco.mj_resetDataKeyframe(self.model, self.data, home)
        else:
            mujoco.mj_resetData(self.model, self.data)
            self._home_pose()
        for joint in self._hinges:
            if joint >= 0:
                address = self.model.jnt_qposadr[joint]
                self.data.qpos[address] += random.uniform(-self._start_offset, self._start_offset)
        self.obstacles.forget()
        self.task.start(self.scene, random)
        self._varied.apply(self.data, seed)
        mujoco.mj_forward(self.model, self.data)
        self.data.ctrl[:] = self._actuation.controls(self.data.actuator_length)
        mujoco.mj_step(self.model, self.data, nstep=round(0.1 / self.model.opt.timestep))  # objects settle
        self.data.time = 0.0
        self._owed_s = 0.0
        self._held.reset()
        self._disturbance.reset(seed)
        self._refresh()

    def step(self, command: np.ndarray, duration: float) -> None:
        """Simulates `duration` seconds with position targets `command` (n,) float64 [rad | m] in joint_names order.

        Targets beyond a joint's range rest at its end. Raises SimError for a wrong size or numbers that are not finite.
        """
        targets = self._checked(command)
        timestep = float(self.model.opt.timestep)
        steps = self._whole_steps(duration, timestep)
        chunk = max(1, round(_CHUNK_S / timestep))
        self.obstacles.contacts = []
        while steps > 0:
            count = min(chunk, steps)
            self.data.ctrl[:] = self._actuation.controls(targets + self._disturbance.offsets(count * timestep))
            self.obstacles.simulate(count)
            steps -= count
            self._held.watch(self.task.holds(self.scene), self.time)
        self._refresh()

    def joint_state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position [rad | m], velocity [1/s] and effort [N m | N] of joint_names, float64 (n,) each."""
        return self._actuation.state(self.data)

    def mirror(self, position: np.ndarray, velocity: np.ndarray) -> None:
        """See `interface.Mirror`."""
        self._actuation.put(self.data, position, velocity)
        self._refresh()

    def success(self) -> bool:
        """Whether the task's condition has held without a break for the last 0.25 s."""
        return self._held.success(self.time)

    def reward(self) -> float:
        """The task's progress, 0 to 1, and 1 more while `success()`."""
        return self.task.progress(self.scene) + self.success()

    def _refresh(self) -> None:
        """Poses and sensors of the present state: after mj_step they belong to the step before."""
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_fwdVelocity(self.model, self.data)

    def _home_pose(self) -> None:
        for name, angle in PANDA_HOME.items():
            joint = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name)
            if joint >= 0:
                self.data.qpos[self.model.jnt_qposadr[joint]] = angle
        for name in ("panda_finger_joint1", "panda_finger_joint2"):
            joint = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name)
            if joint >= 0:
                self.data.qpos[self.model.jnt_qposadr[joint]] = self.task.opening / 2

    def _actuated_hinges(self) -> list[int]:
        """For each actuator the index of the hinge it turns, or -1."""
        found = []
        for kind, target in zip(self.model.actuator_trntype, self.model.actuator_trnid[:, 0], strict=True):
            turns = kind == mujoco.mjtTrn.mjTRN_JOINT and self.model.jnt_type[target] == mujoco.mjtJoint.mjJNT_HINGE
            found.append(int(target) if turns else -1)
        return found


def make_world(task: str, model_path: str | os.PathLike[str] | None = None, **options: Any) -> PandaWorld:
    """As `interface.Simulator`."""
    return PandaWorld(task, model_path, **options)


def make_expert(world: PandaWorld) -> SimExpert:
    """As `interface.Simulator`."""
    from difftop_ros.sim.mujoco.expert import Expert

    return Expert(world)
