"""Meta-World's 50 tasks behind our world interface, and its scripted policies as experts.

Its Sawyer follows a mocap body and has no joint commands: an action is how far the hand moves in a step and how hard
the gripper closes. The physics, the tasks and what counts as success are Meta-World's; drawing is camera.py's.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from difftop_ros.contract.shapes import AnyShape
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.interface import Mode
from difftop_ros.sim.mujoco import camera as cameras
from difftop_ros.sim.mujoco.actuation import Disturbance
from difftop_ros.sim.mujoco.base import MujocoWorld

PREFIX = "metaworld/"
JOINTS = ("hand_x", "hand_y", "hand_z", "gripper")
STEPS = 500  # Meta-World's horizon
_PLACED = (
    "body_pos",
    "body_quat",
    "site_pos",
    "geom_pos",
    "geom_rgba",
    "geom_size",
)  # what its tasks move in the model
# Nearer than Meta-World's corner2 and from the robot's side, as published point-cloud policies have it: handles, doors
# and drawers show their fronts, and a puck of 4 cm covers some pixels. Position, point looked at [m], view angle [deg].
_NEAR = {"corner2": ((0.65, 0.30, 0.75), (0.0, 0.70, 0.10), 46.0)}


@dataclass(frozen=True)
class MetaWorldTask:
    """One task of Meta-World; its horizon is 500 steps of 0.0125 s."""

    name: str
    max_seconds: float


def task_names() -> tuple[str, ...]:
    """All tasks as `make_world` takes them, 'metaworld/push-v3' and so on. SimError where metaworld is missing."""
    return tuple(PREFIX + name for name in sorted(_catalogue()))


def _catalogue() -> Any:
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ImportError as error:
        raise SimError(
            f"tasks '{PREFIX}…' need Meta-World, which is not installed ({error}): "
            "pip install -c constraints.txt -e '.[metaworld]'"
        ) from error
    return ALL_V3_ENVIRONMENTS


class MetaWorld(MujocoWorld):
    """One Meta-World task. The same seed and the same commands give bit-identical states.

    A command is Meta-World's action, each number in [-1, 1]: hand_x, hand_y, hand_z, the hand's velocity (1 is 0.8
    m/s), and gripper, the fingers' effort (1 closes, -1 opens). The joint state is the hand's position [m] and the
    opening between the fingers [m]: what a robot measures of itself, nothing of the objects.
    """

    takes: Mode = "velocity"
    joint_names: tuple[str, ...] = JOINTS

    def __init__(
        self,
        task: str,
        model_path: str | os.PathLike[str] | None = None,
        width: int = 128,
        height: int = 128,
        seed: int = 0,
        disturbance: float = 0.0,
        varied_starts: float = 0.0,
        obstacles: Sequence[AnyShape] = (),
    ) -> None:
        """width, height of pictures [px]; disturbance: standard deviation of smooth pushes of the hand, as a share of
        full speed.

        Raises SimError for an unknown task, without metaworld, and for what is the arm's: a model,
        varied starts, obstacles.
        """
        if obstacles:
            raise SimError(f"obstacles do not go with task '{task}'; the demo arm's tasks have them")
        if model_path or varied_starts:
            given = f"the model '{model_path}'" if model_path else f"varied_starts {varied_starts:g}"
            raise SimError(f"{given} does not go with task '{task}': Meta-World has models and starts of its own")
        self._env = _make_env(task)
        super().__init__(self._env.model, self._env.data, width, height)
        self.step_s = float(self.model.opt.timestep * self._env.frame_skip)
        self.task = MetaWorldTask(task, STEPS * self.step_s)
        _correct_cameras(self.model)
        self._placed = {name: getattr(self.model, name).copy() for name in _PLACED}
        self._disturbance = Disturbance(disturbance, [True, True, True, False])
        self.reset(seed)

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        return self._steps * self.step_s

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of each number of a command (4,)."""
        return -np.ones(4), np.ones(4)

    @property
    def full_state(self) -> np.ndarray:
        """Meta-World's own observation (39,) with objects and goal: for its scripted policies, not for learned ones."""
        return self._state

    def reset(self, seed: int) -> None:
        """Starts the episode of `seed`: objects and goal where it puts them, the hand at its start, time 0."""
        for name, values in self._placed.items():  # Meta-World leaves the last episode's there until it is half through
            getattr(self.model, name)[:] = values
        mujoco.mj_resetData(self.model, self.data)
        self._env.seed(seed)
        self._state, _ = self._env.reset()
        mujoco.mj_forward(self.model, self.data)
        self._steps, self._owed_s, self._done, self._reward = 0, 0.0, False, 0.0
        self._disturbance.reset(seed)
        self._before = self._measured()
        self._speed = np.zeros(4)

    def step(self, command: np.ndarray, duration: float) -> None:
        """Simulates `duration` seconds under `command` (4,) float64, in whole steps of 0.0125 s; what is over is kept
        for the next call. Numbers beyond [-1, 1] count as the end.

        Raises SimError for a wrong size or numbers that are not finite.
        """
        action = self._checked(command)
        for _ in range(self._whole_steps(duration, self.step_s)):
            self._env.curr_path_length = 0  # its horizon is for whoever counts the episode, not a reason to refuse
            pushed = np.clip(action + self._disturbance.offsets(self.step_s), -1, 1)
            self._state, reward, _, _, told = self._env.step(pushed)
            self._steps += 1
            self._done, self._reward = bool(told["success"]), float(reward)
            now = self._measured()
            self._speed, self._before = (now - self._before) / self.step_s, now

    def joint_state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position [m], velocity [m/s] over the last step and effort (not measured: zero) of JOINTS, float64 (4,)."""
        return self._before.copy(), self._speed.copy(), np.zeros(4)

    def success(self) -> bool:
        """Whether Meta-World calls the last step a success. No time of holding: published results count it so."""
        return self._done

    def reward(self) -> float:
        """Meta-World's own dense reward of the last step, about 0 to 10; 0 before the first."""
        return self._reward

    def _measured(self) -> np.ndarray:
        fingers = self.data.body("rightclaw").xpos - self.data.body("leftclaw").xpos
        return np.array([*self.data.body("hand").xpos, np.linalg.norm(fingers)])


class MetaWorldExpert:
    """Meta-World's scripted policy of the world's task. `act()` is to be called once for each step of 0.0125 s."""

    def __init__(self, world: MetaWorld) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        # It warns at each step that the environment clips; that is how its gains are meant.
        warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high", module=r"metaworld\.policies")
        policies: Any = ENV_POLICY_MAP
        self._world, self._policy = world, policies[world.task.name.removeprefix(PREFIX)]()
        self.step_s = world.step_s

    def act(self) -> np.ndarray:
        """The next command (4,) float64, each number in [-1, 1]."""
        return np.clip(np.asarray(self._policy.get_action(self._world.full_state), np.float64), -1, 1)


def _make_env(task: str) -> Any:
    """Meta-World's environment with the goal in its state and with objects and goal drawn from a seed."""
    known = _catalogue()
    name = task.removeprefix(PREFIX)
    if name not in known:
        near = difflib.get_close_matches(name, list(known), 3, 0.4) or sorted(known)[:3]
        meant = ", ".join(f"'{PREFIX}{n}'" for n in near)
        raise SimError(f"task '{task}' is unknown; did you mean one of {meant}? Meta-World has {len(known)} tasks")
    env = known[name]()
    env._partially_observable = False  # the scripted policies need the goal
    env.__dict__.pop("sawyer_observation_space", None)  # cached with the goal left out, and states are clipped to it
    env._freeze_rand_vec, env.seeded_rand_vec, env._set_task_called = False, True, True
    return env


def _correct_cameras(model: Any) -> None:
    """The corner cameras stand on their heads: turned by half about the view axis. The ones in _NEAR are moved, too."""
    half = np.array([0.0, 0.0, 0.0, 1.0])
    for name in cameras.camera_names(model):
        index = cameras.camera_id(model, name)
        if name.startswith("corner"):
            turned = np.zeros(4)
            mujoco.mju_mulQuat(turned, model.cam_quat[index], half)
            model.cam_quat[index] = turned
        if name in _NEAR:
            position, target, fovy = _NEAR[name]
            model.cam_pos[index], model.cam_fovy[index] = position, fovy
            model.cam_quat[index] = _looking(np.array(position), np.array(target))


def _looking(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Quaternion (4,) w first of a MuJoCo camera (it looks along -z, y up) at `position` that looks at `target` [m]."""
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    return quaternion


def make_world(task: str, model_path: str | os.PathLike[str] | None = None, **options: Any) -> MetaWorld:
    """As `interface.Simulator`."""
    return MetaWorld(task, model_path, **options)


def make_expert(world: MetaWorld) -> MetaWorldExpert:
    """As `interface.Simulator`."""
    return MetaWorldExpert(world)
