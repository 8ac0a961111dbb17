"""What every simulated world and expert offers, whoever makes its physics. Worlds are found by name in __init__.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from difftop_ros.contract import Observation
from difftop_ros.sim.errors import SimError

Mode = Literal["position", "velocity"]
Snapshot = Mapping[str, np.ndarray]  # flat float64 arrays: all that a later picture needs, for the maker alone
SIMULATED = (
    "joint_state",
    "tool_pose",
    "image",
    "point_cloud",
    "depth_cloud",
)  # kinds of observation that a world can make


class WorldTask(Protocol):
    """name: as `make_world` takes it; max_seconds: an episode's longest duration [s]."""

    @property
    def name(self) -> str:
        """As `make_world` takes it."""
        ...

    @property
    def max_seconds(self) -> float:
        """An episode's longest duration [s]."""
        ...


class SimRenderer(Protocol):
    """Draws snapshots of a world's past moments. Made, used and closed in one thread, which need not be the world's."""

    def render(self, snapshot: Snapshot, camera: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colour uint8 (h, w, 3), depth float32 (h, w) [m] and world_from_optical (4, 4) at the snapshot's moment."""
        ...

    def close(self) -> None:
        """Frees what drawing holds; may be called twice."""
        ...


class SimWorld(Protocol):
    """A robot with a task: reset, step, look. The same seed and the same commands give bit-identical states.

    takes: what `step` takes, 'position' targets [rad | m] or 'velocity' values; width, height: of pictures [px];
    joint_names: commanded joints; cameras: by name.
    """

    takes: Mode
    width: int
    height: int
    joint_names: tuple[str, ...]
    cameras: tuple[str, ...]

    @property
    def task(self) -> WorldTask:
        """What is to be done in it."""
        ...

    @property
    def step_s(self) -> float | None:
        """Duration of the smallest step [s]; None if any will do."""
        ...

    @property
    def time(self) -> float:
        """Simulated seconds since the reset."""
        ...

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end (n,) of what `step` takes; infinite where nothing is set."""
        ...

    def reset(self, seed: int) -> None:
        """Starts the episode of `seed`."""
        ...

    def step(self, command: np.ndarray, duration: float) -> None:
        """Simulates `duration` seconds under `command` (n,) float64; SimError for a wrong size or one not finite."""
        ...

    def joint_state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, velocity and effort of joint_names, float64 (n,) each."""
        ...

    def render(self, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """Colour uint8 (h, w, 3) RGB and depth float32 (h, w) [m]. SimError: unknown camera, or nothing can draw."""
        ...

    def intrinsics(self, camera: str) -> np.ndarray:
        """K (3, 3) float64 [px]."""
        ...

    def camera_pose(self, camera: str) -> np.ndarray:
        """world_from_optical (4, 4) float64 [m], REP-103: x right, y down, z forward."""
        ...

    def success(self) -> bool:
        """Whether the task is done."""
        ...

    def reward(self) -> float:
        """Dense reward of the present moment: finite, higher nearer to success. Its scale is the task's."""
        ...

    def snapshot(self) -> Snapshot:
        """The present moment as copies, for `make_renderer`'s renderer; the physics can go on."""
        ...

    def make_renderer(self) -> SimRenderer:
        """Draws this world's snapshots at its picture size; to be called in the thread that will draw.

        Raises SimError where nothing can draw.
        """
        ...

    def close(self) -> None:
        """Frees the renderer; may be called twice."""
        ...


@runtime_checkable
class HasBodies(Protocol):
    """What a world may offer besides: its loose bodies, by name. Poses (7,): x, y, z [m], quaternion x, y, z, w."""

    def bodies(self) -> dict[str, np.ndarray]:
        """Where each is, float64 (7,) in the world's frame."""
        ...

    def place(self, name: str, pose: np.ndarray) -> None:
        """Puts one at rest at `pose` (7,). SimError for a name that is none, or for what is no pose."""
        ...


@runtime_checkable
class Mirror(Protocol):
    """What a world may offer besides: to be put into the state that another simulation of the robot is in."""

    def mirror(self, position: np.ndarray, velocity: np.ndarray) -> None:
        """Takes over the joints' positions and velocities (n,), in the order of joint_names."""
        ...


def checked_pose(name: str, known: Mapping[str, Any], pose: np.ndarray) -> np.ndarray:
    """`pose` (7,) float64 with a unit quaternion. SimError as `HasBodies.place`."""
    values = np.asarray(pose, np.float64)
    if name not in known:
        raise SimError(f"there is no loose body '{name}'; there are {sorted(known)}")
    length = float(np.linalg.norm(values[3:])) if values.shape == (7,) and np.isfinite(values).all() else 0.0
    if length < 1e-6:
        raise SimError(f"the pose {values.tolist()} is none; expected x, y, z [m] and a quaternion x, y, z, w")
    return np.concatenate([values[:3], values[3:] / length])


class SimExpert(Protocol):
    """A scripted expert that sees its world's whole state. step_s: `act` is to be called this often [s]."""

    step_s: float

    def act(self) -> np.ndarray:
        """The next command (n,) float64, as the world's `step` takes it."""
        ...


class Simulator(Protocol):
    """Makes worlds of one suite of tasks, and their experts: a module or an object with these two functions."""

    def make_world(self, task: str, model_path: Any = None, **options: Any) -> SimWorld:
        """A world with `task`, its full name. Options: width, height [px], seed, disturbance, varied_starts, obstacles.

        obstacles are solid shapes (contract/shapes.py) in the robot's base frame.
        """
        ...

    def make_expert(self, world: Any) -> SimExpert:
        """The scripted expert of a world of this suite; SimError if its task has none."""
        ...


def require_mode(world: SimWorld, mode: str) -> bool:
    """Whether commands of the contract's `mode` go into `step` as they are (else they are made into positions first).

    Raises SimError for a mode that the world cannot serve.
    """
    if world.takes == "velocity" and mode != "velocity":
        raise SimError(
            f"the arm of task '{world.task.name}' takes velocities; set command.mode to velocity, not {mode}"
        )
    return world.takes == mode


def require_made(key: str, observation: Observation) -> None:
    """Raises SimError for an observation whose kind no simulated world makes."""
    if observation.kind not in SIMULATED:
        raise SimError(
            f"observation '{key}' is of kind '{observation.kind}', which the simulation does not make; it makes "
            f"{list(SIMULATED)}: leave it out of the contract for simulation"
        )
