"""The tasks: how an episode starts, how far it has come and what success is, whoever makes the physics.

What a task touches of a world is a `Scene`: sim/mujoco/scene.py and sim/drake/scene.py have one. Solving: the expert.
"""

from __future__ import annotations

from typing import Any, Protocol

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
SUCCESS_HOLD_S = 0.25  # a condition must hold this long without a break to count
START_OFFSET = 0.06  # largest random offset of each hinge at the start [rad]


class Scene(Protocol):
    """The named parts of a world that tasks use. cube_half: half the cube's edge [m], 0 where there is none."""

    cube_half: float

    def tcp(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of the tool's point, in the world."""
        ...

    def tcp_speed(self) -> float:
        """Speed of the tool's point [m/s]."""
        ...

    def cube(self) -> tuple[np.ndarray, float, float]:
        """The cube's position (3,) [m], its yaw [rad] within +-45 degrees (it is symmetric) and its speed [m/s]."""
        ...

    def target(self) -> np.ndarray:
        """The target's position (3,) [m]."""
        ...

    def place_target(self, position: Any) -> None:
        """Moves the target marker to position (3,) [m]."""
        ...

    def place_cube(self, position: Any, yaw: float) -> None:
        """Lays the cube at rest on the table at (x, y) [m], turned by yaw [rad]."""
        ...

    def touching_cube(self) -> set[int]:
        """Numbers of the moving bodies in contact with the cube (the static world is none)."""
        ...


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


class Held:
    """Whether a task's condition has held without a break for SUCCESS_HOLD_S of simulated time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self._since: float | None = None

    def watch(self, holds: bool, time_s: float) -> None:
        """The condition at `time_s` [s]."""
        if not holds:
            self._since = None
        elif self._since is None:
            self._since = time_s

    def success(self, time_s: float) -> bool:
        """Whether it held long enough at `time_s` [s]."""
        return self._since is not None and time_s - self._since >= SUCCESS_HOLD_S - 1e-9
