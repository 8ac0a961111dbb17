"""Scripted experts: 20 Hz joint commands that solve the tasks, for demonstrations. Training lives elsewhere.

Each command depends on the present state alone (no hidden timers), so that a policy can learn it from what it observes:
a task's `aim` says where the tool should be, and one shared motion turns that into a command.
Run `python -m difftop_ros.sim.mujoco.expert --task lift --episodes 20` to measure an expert.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from difftop_ros.errors import UserError
from difftop_ros.sim import make_expert, make_world
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.interface import SimExpert, SimWorld
from difftop_ros.sim.mujoco.ik import DampedLeastSquares, hand_down, rotation_error
from difftop_ros.sim.tasks import PANDA_HOME, TASK_NAMES, Scene

if TYPE_CHECKING:
    from difftop_ros.sim.mujoco.panda import PandaWorld

STEP_S = 0.05  # An expert acts at 20 Hz.
_LEAD_S = 0.08  # How far ahead of the measured pose a command lies; the servos lag by 0.05 s.
_MAX_LEAD = 0.08  # [rad]
_SQUEEZE = 0.012  # Opening commanded below the measured one when closing [m].


@dataclass(frozen=True)
class Aim:
    """Where the tool should go: position (3,) [m], yaw [rad], speed limit [m/s], and the wanted gripper opening [m]."""

    position: np.ndarray
    yaw: float
    speed: float
    opening: float


class Expert:
    """The expert of `world`'s task. `act()` is to be called every 0.05 s of simulation time.

    Raises SimError for task 'none' and for models without the demo arm's joints.
    """

    step_s = STEP_S

    def __init__(self, world: PandaWorld) -> None:
        name = world.task.name
        if name not in _AIMS:
            raise SimError(f"task '{name}' has no scripted expert; choose one of {list(_AIMS)}")
        lacking = [j for j in (*PANDA_HOME, "panda_gripper") if j not in world.joint_names]
        if lacking:
            raise SimError(
                f"the scripted experts drive the demo arm and the model lacks {lacking}; record by hand instead"
            )
        self._world = world
        self._aim = _AIMS[name]
        self._arm = [world.joint_names.index(j) for j in PANDA_HOME]
        self._gripper = world.joint_names.index("panda_gripper")
        hinges = [int(world.model.joint(j).id) for j in PANDA_HOME]
        self._ik = DampedLeastSquares(world.model, world.scene.tcp_site, hinges, np.array(list(PANDA_HOME.values())))

    def act(self) -> np.ndarray:
        """The next command: position targets (n,) float64 [rad | m] in the world's joint order."""
        world = self._world
        position = world.joint_state()[0]
        aim = self._aim(world.scene, float(position[self._gripper]))
        lead = self._ik.velocity(world.data, self._twist(aim)) * _LEAD_S
        # Scaled as a whole: single clipped joints would bend the path.
        lead /= max(1.0, float(np.abs(lead).max()) / _MAX_LEAD)
        command = position.copy()
        command[self._arm] += lead
        opening = position[self._gripper]
        command[self._gripper] = np.clip(aim.opening, opening - _SQUEEZE, opening + 0.03)
        return np.clip(command, *world.limits)

    def _twist(self, aim: Aim) -> np.ndarray:
        """Proportional approach with limited speed and, from the measured twist on, limited acceleration."""
        position, rotation = self._world.scene.tcp()
        linear = _limited((aim.position - position) / 0.22, aim.speed)
        angular = _limited(rotation_error(hand_down(aim.yaw), rotation) / 0.22, 1.2)
        now = self._ik.twist(self._world.data)
        return np.concatenate([now[:3] + _limited(linear - now[:3], 0.09), now[3:] + _limited(angular - now[3:], 0.5)])


def aim_reach(scene: Scene, opening: float) -> Aim:
    """Straight to the ball."""
    return Aim(scene.target(), 0.0, 0.16, 0.04)


def aim_lift(scene: Scene, opening: float) -> Aim:
    """Over the cube, down a funnel onto it, close, up to a fixed pose."""
    cube, yaw, _ = scene.cube()
    tool, _ = scene.tcp()
    offset = cube - tool
    flat = float(np.linalg.norm(offset[:2]))
    within = flat < 0.012 and abs(offset[2]) < 0.012
    if within and opening < 2 * scene.cube_half + 0.003:
        return _carry(cube, yaw, tool)
    if within:
        return Aim(cube, yaw, 0.10, 0.0)
    height = 0.09 * _ramp(flat, 0.008, 0.035)
    return Aim(cube + [0, 0, height], yaw, 0.20, 0.08)


def _carry(cube: np.ndarray, yaw: float, tool: np.ndarray) -> Aim:
    """With the cube in hand: first up, then also towards one pose over the middle, and stay there."""
    rest = np.array([0.46, 0.0, 0.20])
    share = _ramp(float(tool[2]), 0.03, 0.12)
    goal = np.array([*(tool[:2] + share * (rest[:2] - tool[:2])), rest[2]])
    return Aim(goal, (1 - share) * yaw, 0.17, 0.0)


def aim_push(scene: Scene, opening: float) -> Aim:
    """Behind the cube as seen from the disc, down, then forward, steering by keeping behind."""
    cube, _, _ = scene.cube()
    tool, _ = scene.tcp()
    way = scene.target()[:2] - cube[:2]
    left = float(np.linalg.norm(way))
    ahead = way / max(left, 1e-6)
    yaw = float(np.clip(np.arctan2(ahead[1], ahead[0]), -0.8, 0.8))
    if left < 0.012:
        return Aim(tool, yaw, 0.02, 0.0)  # There: stay.
    side = np.array([-ahead[1], ahead[0]])
    back, across = float((cube[:2] - tool[:2]) @ ahead), float((tool[:2] - cube[:2]) @ side)
    low = 0.022
    behind = cube[:2] - 0.055 * ahead
    if back > 0.02 and abs(across) < 0.02 and tool[2] < 0.05:
        # Aiming short of the disc by the distance between tool and cube centre; the sideways part pulls back into line.
        goal = tool[:2] + ahead * min(left, 0.06) - 1.5 * across * side
        return Aim(np.array([*goal, low]), yaw, min(0.13, 0.03 + 1.2 * left), 0.0)
    flat = float(np.linalg.norm(behind - tool[:2]))
    height = low + 0.08 * _ramp(flat, 0.01, 0.04)
    return Aim(np.array([*behind, height]), yaw, 0.18, 0.0)


_AIMS: dict[str, Any] = {"reach": aim_reach, "push": aim_push, "lift": aim_lift}


def _ramp(value: float, low: float, high: float) -> float:
    """0 below low, 1 above high, linear between."""
    return float(np.clip((value - low) / (high - low), 0, 1))


def _limited(vector: np.ndarray, length: float) -> np.ndarray:
    return vector / max(1.0, float(np.linalg.norm(vector)) / length)


@dataclass(frozen=True)
class Trial:
    """One expert episode: whether it succeeded, its steps with 0.25 s of staying, the largest change of a command."""

    seed: int
    success: bool
    steps: int
    largest_change: float


def run_trial(world: SimWorld, expert: SimExpert, seed: int, stay_steps: int = 5) -> Trial:
    """One episode without rendering, ended `stay_steps` after the success or at the task's time limit."""
    world.reset(seed)
    before = world.joint_state()[0]
    largest, steps, stayed = 0.0, 0, 0
    while world.time < world.task.max_seconds and stayed < stay_steps:
        command = expert.act()
        largest = max(largest, float(np.abs(command - before)[: len(PANDA_HOME)].max()))
        before = command
        world.step(command, STEP_S)
        steps += 1
        stayed = stayed + 1 if world.success() else 0
    return Trial(seed, world.success(), steps, largest)


def main(arguments: list[str] | None = None) -> int:
    """Measures an expert: exit code 0 when at least 9 of 10 episodes succeed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--task", choices=TASK_NAMES, default="lift")
    parser.add_argument("--episodes", type=int, default=20, help="seeds 0 .. episodes-1")
    parser.add_argument("--disturbance", type=float, default=0.0, help="of the servos' targets, std [rad]")
    options = parser.parse_args(arguments)
    try:
        world = make_world(options.task, disturbance=options.disturbance)
        expert = make_expert(world)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    trials = [run_trial(world, expert, seed) for seed in range(options.episodes)]
    good = [t for t in trials if t.success]
    steps = [t.steps for t in good] or [0]
    print(
        f"{options.task}: {len(good)}/{len(trials)} succeeded; steps min/median/max "
        f"{min(steps)}/{int(np.median(steps))}/{max(steps)}; "
        f"largest change of a joint command per step {max(t.largest_change for t in trials):.3f} rad"
    )
    if len(good) < len(trials):
        print(f"failed seeds: {[t.seed for t in trials if not t.success]}")
    return 0 if len(good) >= 0.9 * len(trials) else 1


if __name__ == "__main__":
    sys.exit(main())
