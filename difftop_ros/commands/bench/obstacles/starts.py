"""One start of the comparison with obstacles: run, judged by the physics, and kept as a row."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros import __version__
from difftop_ros.commands.bench.obstacles.arms import Begin
from difftop_ros.errors import UserError
from difftop_ros.learning.evaluate import evaluate
from difftop_ros.policies import Policy, load_policy
from difftop_ros.sim.film import Film, Take, write_gif
from difftop_ros.sim.interface import Snapshot
from difftop_ros.sim.mujoco.panda import PandaWorld
from difftop_ros.sim.placed import Placed
from difftop_ros.sim.robot import SimulatedRobot

KEY = ("model", "task", "obstacle", "arm", "replan_every", "seed")
RESULT = ("success", "contact", "first_contact", "first_contact_s", "nearest_mm", "steps", "plan_ms", "jerk", "note",
          "policy", "version", "machine", "date")  # fmt: skip
COLUMNS = (*KEY, *RESULT)
STILL_S, STILL = 4.0, 1e-3  # beyond the memory of what a camera saw; [rad | m]
_FILM_WIDTH, _FILM_BYTES = 400, 2_000_000


class Cell:
    """A trained policy in its contract's task."""

    def __init__(self, model: Path, replan_every: int, prepare: str = "none") -> None:
        """prepare: how solves are made ready; see Policy.prepare."""
        self.model, self.replan_every, self._prepare = model, replan_every, prepare

    @cached_property
    def policy(self) -> Policy:
        """Loaded and warm. Raises PolicyError."""
        policy = load_policy(self.model)
        if self._prepare != "none" and getattr(policy.net, "prepare", None) is not None:
            policy.prepare(self._prepare)
        policy.prepared = self._prepare
        policy.warm_up()
        return policy

    @property
    def task(self) -> str:
        """Raises UserError for a task that is not the demo arm's lift."""
        task = self.policy.contract.sim.task or "none"
        if task != "lift":
            raise UserError(f"{self.model} is of task '{task}'; obstacles are placed in the way of 'lift' alone")
        return task

    def key(self, obstacle: str, arm: str, seed: int) -> tuple[str, ...]:
        """What makes two rows the same start."""
        return (self.model.name, self.task, obstacle, arm, str(self.replan_every), str(seed))


def key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """As Cell.key."""
    return tuple(str(row[name]) for name in KEY)


def run_start(
    cell: Cell, begin: Begin, obstacle: str, arm: str, seed: int, placed: Placed | None, film: Path | None = None
) -> dict[str, Any]:
    """One episode of `seed`; its row. film: where to write a GIF of it.

    It ends as a failure at the first contact, and where arm and obstacle have stood still for STILL_S: with the same in
    view, and nothing left in memory, the next plan is the last one again.

    nearest_mm: smallest distance between arm and obstacle [mm]; plan_ms: median of a plan, encoding included; jerk:
    largest of a joint [rad/s^3], by third differences of its measured positions at the policy's rate.
    """
    robot = SimulatedRobot(cell.policy.contract, cell.task, obstacles=[placed.shape] if placed else [])
    world = robot.world
    assert isinstance(world, PandaWorld)  # Cell.task
    if placed and placed.course:
        world.obstacles.follow(0, placed.course)
    joints: list[np.ndarray] = []
    states: list[Snapshot] = []

    def watch(index: int, robot: SimulatedRobot) -> None:
        joints.append(world.joint_state()[0])
        if film:
            states.append(world.snapshot())

    try:
        acting = begin(lambda: world.obstacles.shapes)
        ended = Ended(world, cell.policy.contract.rate_hz)
        outcome = evaluate(acting, robot, [seed], replan_every=cell.replan_every, watch=watch, stop=ended).outcomes[0]
        touched = world.obstacles.touched
        first = next(iter(touched), None)
        if film:
            caption = f"{obstacle}, {arm}: {'contact' if first else 'no contact'}"
            _write(film, world, Take(caption, outcome.success, states), cell.policy.contract.rate_hz)
    finally:
        robot.close()
    return {
        **dict(zip(KEY, cell.key(obstacle, arm, seed), strict=True)),
        "success": int(outcome.success),
        "contact": int(bool(touched)),
        "first_contact": " - ".join(first) if first else "",
        "first_contact_s": round(touched[first], 3) if first else "",
        "nearest_mm": round(1e3 * world.obstacles.nearest_m, 1) if placed else "",
        "steps": outcome.steps,
        "plan_ms": round(float(np.median(outcome.plan_ms)), 2) if outcome.plan_ms else "",
        "jerk": round(largest_jerk(np.array(joints)[:, _hinges(cell, world)], cell.policy.contract.rate_hz), 1),
        "note": outcome.note,
        **made_by(cell),
    }


def made_by(cell: Cell) -> dict[str, str]:
    """The last columns of a row."""
    machine, today = platform.machine(), date.today().isoformat()
    return {"policy": cell.policy.config.policy, "version": __version__, "machine": machine, "date": today}


class Ended:
    """Why a start need not go on, asked once after every policy step; '' while it must."""

    def __init__(self, world: PandaWorld, rate_hz: float) -> None:
        self._world, self._most = world, round(STILL_S * rate_hz)
        self._since, self._steps = np.empty(0), 0

    def __call__(self, _: SimulatedRobot) -> str:
        """As evaluate's `stop`."""
        if self._world.obstacles.touched:
            return "touched"
        now = np.concatenate([self._world.joint_state()[0], self._world.data.mocap_pos.ravel()])
        if len(self._since) == len(now) and (np.abs(now - self._since) < STILL).all():
            self._steps += 1
        else:
            self._since, self._steps = now, 0
        return "stands still" if self._steps >= self._most else ""


def _hinges(cell: Cell, world: PandaWorld) -> list[int]:
    turning = {joint.name for joint in cell.policy.contract.command.joints if joint.unit == "rad"}
    return [index for index, name in enumerate(world.joint_names) if name in turning]


def largest_jerk(positions: np.ndarray, rate_hz: float) -> float:
    """Of positions (n, joints) [rad] at `rate_hz`; 0 for fewer than four."""
    return float(np.abs(np.diff(positions, 3, axis=0)).max(initial=0.0) * rate_hz**3)


def _write(path: Path, world: PandaWorld, take: Take, rate_hz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = PandaWorld(
        world.task.name, width=_FILM_WIDTH, height=3 * _FILM_WIDTH // 4, obstacles=world.obstacles.shapes
    )
    film = Film(shown, "overview")
    try:
        every = max(1, round(rate_hz / 10))
        thinned = Take(take.caption, take.success, take.states[::every])
        write_gif(path, list(film.frames([thinned], stay=10)), rate_hz / every, _FILM_WIDTH, _FILM_BYTES)
    finally:
        film.close()
        shown.close()


def sentence(row: Mapping[str, Any]) -> str:
    """One line for a person."""
    touch = f"touched {row['first_contact']} at {row['first_contact_s']} s" if row["first_contact"] else "no contact"
    return f"{row['obstacle']}, {row['arm']}, {row['seed']}: {'success' if row['success'] else 'failed'}, {touch}"
