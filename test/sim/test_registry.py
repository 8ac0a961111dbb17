"""Worlds by name: a simulator of one's own is registered or found as an entry point, with no edit of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros import sim
from difftop_ros.contract import load_contract
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path
from difftop_ros.sim.robot import SimulatedRobot

TOY = '''
"""A simulator without physics: joints go where they are told; success is to be near 1."""
import numpy as np

class Task:
    name, max_seconds = "toy/point", 1.0

class World:
    takes, width, height, cameras, step_s = "position", 8, 8, (), None
    task = Task()

    def __init__(self, names):
        self.joint_names = tuple(names)
        self.reset(0)

    limits = property(lambda self: (-np.ones(len(self.joint_names)), np.ones(len(self.joint_names))))

    def reset(self, seed):
        self.time, self.position = 0.0, np.random.default_rng(seed).uniform(-1, 0, len(self.joint_names))

    def step(self, command, duration):
        self.time, self.position = self.time + duration, np.array(command, float)

    def joint_state(self):
        return self.position.copy(), np.zeros_like(self.position), np.zeros_like(self.position)

    def reward(self):
        return -float(np.abs(self.position - 1).mean())

    def success(self):
        return self.reward() > -0.05

    def close(self):
        pass

class Expert:
    step_s = 0.05

    def __init__(self, world):
        self.world = world

    def act(self):
        return np.minimum(self.world.position + 0.2, 1.0)

NAMES = [f"panda_joint{i}" for i in range(1, 8)] + ["panda_gripper"]

def make_world(task, model_path=None, **options):
    return World(NAMES)

def make_expert(world):
    return Expert(world)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import importlib

    (tmp_path / "toy_simulator.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sim, "_REGISTERED", {})
    yield importlib.import_module("toy_simulator")
    sys.modules.pop("toy_simulator", None)


def test_a_registered_simulator_serves_contract_and_expert(toy: Any) -> None:
    sim.register("toy", toy)
    contract = load_contract(share_path("config/panda_table.yaml"))
    contract = contract.model_copy(update={"observations": {"joints": contract.observations["joints"]}})
    robot = SimulatedRobot(contract, "toy/point")
    expert = sim.make_expert(robot.world)
    robot.reset(4)
    rewards = [robot.world.reward()]
    while not robot.success() and robot.world.time < robot.world.task.max_seconds:
        robot.apply(expert.act(), 0.05)
        rewards.append(robot.world.reward())
    assert robot.success() and (np.diff(rewards) > 0).all()
    assert robot.observe()["joints"].shape == (8,)
    with pytest.raises(UserError, match="there already"):
        sim.register("toy", toy)
    with pytest.raises(UserError, match="without '/'"):
        sim.register("toy/two", toy)


def test_an_installed_package_is_found_by_its_entry_point(toy: Any, tmp_path: Path) -> None:
    info = tmp_path / "toy_simulator-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-simulator\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[difftop_ros.simulators]\ntoy = toy_simulator\n")
    assert "toy" in sim.suites()
    assert sim.make_world("toy/point").task.name == "toy/point"


def test_an_unknown_suite_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"suite 'moon'.*'metaworld'.*'panda'"):
        sim.make_world("moon/dust")
    with pytest.raises(UserError, match="suite 'moon'"):
        sim.require_simulator("moon/dust", "a trip")


def test_a_simulator_of_one_s_own_needs_no_mujoco(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sim.register("toy", toy)
    sim.require_simulator("toy/point", "a trip")
    with pytest.raises(UserError, match=r"a trip: .*'mujoco'.*\[sim\]"):
        sim.require_simulator("push", "a trip")


def test_only_the_worlds_themselves_know_mujoco() -> None:
    """Evaluation, environment and films load none of it: they ask for the interface alone."""
    code = (
        "import sys\nfrom difftop_ros.learning import evaluate, report, run\nfrom difftop_ros.sim import film, robot\n"
        "from difftop_ros.nodes.simulation import monitor, state\n"
        "assert not {'mujoco', 'difftop_ros.sim.mujoco'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_asking_for_suites_loads_no_simulator() -> None:
    code = (
        "import sys; from difftop_ros.sim import suites; assert 'panda' in suites()\n"
        "assert not {'mujoco', 'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
