"""The world of config/gazebo, simulated by Drake: the same scene, gains and cameras that Gazebo gets. No ROS here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.messages.coupling import gather, sent_names, spread
from difftop_ros.paths import share_path
from difftop_ros.sim.drake.read import read_world
from difftop_ros.sim.drake.scene import DrakeScene
from difftop_ros.sim.drake.stage import STEP_S, DrakeRenderer, Stage, intrinsics
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.interface import Mode, Snapshot, checked_pose
from difftop_ros.sim.tasks import START_OFFSET, Held, make_task

WORLD = "config/gazebo/panda_table.sdf"
SUITE = "drake"
# One command opens both fingers; MuJoCo's model has a tendon for that.
_GRIPPER = {"panda_gripper": {"panda_finger_joint1": 0.5, "panda_finger_joint2": 0.5}}
_CHUNK_S = 0.01


class DrakeWorld:
    """One world, as `interface.SimWorld`. The same seed and commands give the same states on one machine.

    joint_names: the controller's joints, the fingers as one opening [m]; others [rad].
    """

    takes: Mode = "position"
    step_s: float | None = None

    def __init__(
        self,
        task: str = "lift",
        model_path: str | os.PathLike[str] | None = None,
        width: int = 160,
        height: int = 120,
        seed: int = 0,
    ) -> None:
        """model_path: an SDF world with a JointTrajectoryController; None is the demo's. width, height [px].

        Raises SimError for an unknown task, an unreadable world, or one that lacks what the task needs.
        """
        self.task = make_task(task)
        self.width, self.height = int(width), int(height)
        self._sdf = read_world(Path(model_path) if model_path else share_path(WORLD))
        self._stage = Stage(self._sdf)
        driven = list(self._sdf.gains)
        fingers = all(part in driven for part in _GRIPPER["panda_gripper"])
        self._coupling = _GRIPPER if fingers else {}
        alone = [name for name in driven if not (fingers and name in _GRIPPER["panda_gripper"])]
        self.joint_names = (*alone, *self._coupling)
        self.cameras = tuple(self._sdf.cameras)
        self.scene = DrakeScene(self._stage, self.task)
        self.task.name = f"{SUITE}/{self.task.name}"  # as `make_world` takes it
        self._parts = sent_names(self.joint_names, self._coupling)
        plant, robot = self._stage.plant, self._stage.robot
        self._joints = [plant.GetJointByName(name, robot) for name in self._parts]
        self._places = [int(joint.position_start()) for joint in self._joints]
        self._speeds = [int(joint.velocity_start()) for joint in self._joints]
        actuators = [a.joint().name() for a in map(plant.get_joint_actuator, plant.GetJointActuatorIndices(robot))]
        self._order = [actuators.index(name) for name in self._parts]
        self._desired = plant.get_desired_state_input_port(robot)
        self._simulator = self._new_simulator()
        self._renderer: DrakeRenderer | None = None
        self._held = Held()
        self._start = self._owed_s = 0.0
        self.reset(seed)

    def _new_simulator(self) -> Any:
        from pydrake.systems.analysis import Simulator

        return Simulator(self._stage.diagram, self._stage.root)

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        return float(self._stage.root.get_time()) - self._start

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of each commanded joint (n,) [rad | m]; infinite where the world sets none."""
        ends = [
            [float(getattr(j, f"position_{side}_limits")()[0]) for j in self._joints] for side in ("lower", "upper")
        ]
        lower, upper = (gather(self.joint_names, np.array(end), self._coupling) for end in ends)
        return lower, upper

    def reset(self, seed: int) -> None:
        """Starts the episode of `seed`: the starts are those of the MuJoCo world."""
        random = np.random.default_rng(seed)
        plant, context, initial = self._stage.plant, self._stage.context, self._sdf.gains
        target = np.array([initial[name].initial for name in self._parts])
        for i, joint in enumerate(self._joints):
            if joint.type_name() == "revolute":
                target[i] += random.uniform(-START_OFFSET, START_OFFSET)
            elif self._coupling:
                target[i] = self.task.opening / 2
        positions = plant.GetPositions(context)
        positions[self._places] = target
        plant.SetPositions(context, positions)
        plant.SetVelocities(context, np.zeros(plant.num_velocities()))
        self.task.start(self.scene, random)
        self._aim(target)
        self._simulator.Initialize()
        self._advance(0.1)  # objects settle
        self._start = float(self._stage.root.get_time())
        self._owed_s = 0.0
        self._held.reset()

    def step(self, command: np.ndarray, duration: float) -> None:
        """Simulates `duration` seconds with position targets `command` (n,) float64 [rad | m] in joint_names order."""
        values, names = np.asarray(command, np.float64), self.joint_names
        if values.shape != (len(names),) or not np.isfinite(values).all():
            raise SimError(f"the command is {values.tolist()}; expected {len(names)} finite numbers for {list(names)}")
        self._aim(spread(names, np.clip(values, *self.limits), self._coupling))
        self._owed_s += duration
        while self._owed_s >= STEP_S - 1e-9:
            chunk = min(_CHUNK_S, STEP_S * np.floor(self._owed_s / STEP_S + 1e-6))
            self._advance(chunk)
            self._owed_s -= chunk
            self._held.watch(self.task.holds(self.scene), self.time)

    def _aim(self, targets: np.ndarray) -> None:
        desired = np.zeros(2 * len(self._order))
        desired[self._order] = targets
        self._desired.FixValue(self._stage.context, desired)

    def _advance(self, seconds: float) -> None:
        self._simulator.AdvanceTo(round((self._stage.root.get_time() + seconds) / STEP_S) * STEP_S)

    def joint_state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position [rad | m], velocity [1/s] and effort [N m | N] of joint_names, float64 (n,) each."""
        plant, context = self._stage.plant, self._stage.context
        position, velocity = plant.GetPositions(context)[self._places], plant.GetVelocities(context)[self._speeds]
        force = plant.get_net_actuation_output_port(self._stage.robot).Eval(context)[self._order]
        names, coupling = self.joint_names, self._coupling
        share = np.array([part for name in names for part in coupling.get(name, {name: 1.0}).values()])
        return (
            gather(names, position, coupling),
            gather(names, velocity, coupling),
            gather(names, force * share, coupling),
        )

    def render(self, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """Colour uint8 (h, w, 3) RGB and depth float32 (h, w) [m]. SimError: unknown camera, or nothing can draw."""
        if self._renderer is None:
            self._renderer = self.make_renderer()
        colour, depth, _ = self._renderer.render(self.snapshot(), camera)
        return colour, depth

    def intrinsics(self, camera: str) -> np.ndarray:
        """K (3, 3) float64 [px]."""
        return intrinsics(self._sdf.cameras[camera].fovy, self.width, self.height)

    def camera_pose(self, camera: str) -> np.ndarray:
        """world_from_optical (4, 4) float64 [m], REP-103: x right, y down, z forward."""
        return self._stage.pose(self._sdf, camera)

    def success(self) -> bool:
        """Whether the task's condition has held without a break for the last 0.25 s."""
        return self._held.success(self.time)

    def reward(self) -> float:
        """The task's progress, 0 to 1, and 1 more while `success()`."""
        return self.task.progress(self.scene) + self.success()

    def bodies(self) -> dict[str, np.ndarray]:
        """See `interface.HasBodies`."""
        found = {}
        for name, body in self._loose().items():
            pose = self._stage.plant.EvalBodyPoseInWorld(self._stage.context, body)
            quaternion = pose.rotation().ToQuaternion()
            found[name] = np.array([*pose.translation(), *quaternion.xyz(), quaternion.w()])
        return found

    def place(self, name: str, pose: np.ndarray) -> None:
        """See `interface.HasBodies`."""
        from pydrake.common.eigen_geometry import Quaternion
        from pydrake.math import RigidTransform
        from pydrake.multibody.math import SpatialVelocity

        loose = self._loose()
        values: Any = checked_pose(name, loose, pose)
        place, body = RigidTransform(Quaternion(values[[6, 3, 4, 5]]), values[:3]), loose[name]
        plant, context = self._stage.plant, self._stage.context
        plant.SetFreeBodyPose(context, body, place)
        plant.SetFreeBodySpatialVelocity(context=context, body=body, V_JpJc=SpatialVelocity.Zero())

    def _loose(self) -> dict[str, Any]:
        plant = self._stage.plant
        return {plant.get_body(index).name(): plant.get_body(index) for index in plant.GetFloatingBaseBodies()}

    def snapshot(self) -> Snapshot:
        """All positions (q,) of the present moment."""
        return {"positions": self._stage.plant.GetPositions(self._stage.context).copy()}

    def make_renderer(self) -> DrakeRenderer:
        """Draws this world's snapshots; to be called in the thread that will draw."""
        return DrakeRenderer(self._sdf, self.width, self.height)

    def close(self) -> None:
        """Frees the renderer; may be called twice."""
        self._renderer = None


def make_world(task: str, model_path: Any = None, **options: Any) -> DrakeWorld:
    """As `interface.Simulator`; 'drake/lift' is the task 'lift'. SimError for options that only MuJoCo's have."""
    mine = {name: options.pop(name) for name in ("width", "height", "seed") if name in options}
    others = {name: value for name, value in options.items() if np.size(value) and np.any(value)}
    if others:
        raise SimError(f"the engine drake has no {', '.join(others)}; leave it out, or use the engine mujoco")
    return DrakeWorld(task.removeprefix(f"{SUITE}/"), model_path, **mine)


def make_expert(world: Sequence[Any]) -> Any:
    """There is none. Raises SimError."""
    raise SimError("the engine drake has no scripted expert; record with the engine mujoco, or by hand")
