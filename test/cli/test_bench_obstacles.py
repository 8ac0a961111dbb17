"""The comparison with obstacles in the way: who acts where, what is done twice (nothing), and its table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_policies import small_config

from difftop_ros.cli import main
from difftop_ros.commands.arguments import OBSTACLES
from difftop_ros.commands.bench.obstacles import arms, report, starts
from difftop_ros.contract import load_contract
from difftop_ros.contract.shapes import SHAPES, AnyShape
from difftop_ros.paths import share_path
from difftop_ros.policies import DifftopNet, Policy, load_policy
from difftop_ros.sim.mujoco.in_the_way import KINDS
from difftop_ros.sim.mujoco.panda import PandaWorld


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small policy that sees joints alone and has half a second."""
    contract = load_contract(share_path("config/panda_table.yaml"))
    sim = contract.sim.model_copy(update={"task": "lift", "width": 64, "height": 48, "cameras": {}})
    episode = contract.episode.model_copy(update={"max_seconds": 0.5})
    observations = {"joints": contract.observations["joints"]}
    contract = contract.model_copy(update={"sim": sim, "episode": episode, "observations": observations})
    torch.manual_seed(0)
    net = DifftopNet(contract, small_config({"horizon": 4, "features": 32, "latent": 4, "cost_outputs": 8}))
    net.scaler.fit(np.full(net.shape, -0.1), np.full(net.shape, 0.1))
    return Policy(net, contract, torch.device("cpu")).save(tmp_path / "small")


@pytest.fixture
def bench(model: Path, tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """bench('--starts', '2') -> the rows there are then."""

    def command(*words: str) -> list[dict[str, str]]:
        table = tmp_path / "rows.csv"
        place = ["--models", str(model), "--csv", str(table), "--places", str(tmp_path / "places")]
        assert main(["bench", "obstacles", *place, *words]) == 0
        return list(csv.DictReader(table.open()))

    return command


def test_starts_are_paired_resumed_and_filmed(
    bench: Callable[..., list[dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made: list[Policy] = []
    seen: list[AnyShape] = []

    def watching(policy: Policy) -> arms.Begin:
        made.append(policy)
        return lambda shapes_now: Watching(policy, shapes_now)

    class Watching(Policy):
        def __init__(self, policy: Policy, shapes_now: arms.ShapesNow) -> None:
            super().__init__(policy.net, policy.contract, policy.device)
            self._shapes_now = shapes_now

        def act(self, *args: Any, **options: Any) -> Any:
            seen.extend(self._shapes_now())
            return super().act(*args, **options)

    first = bench("--obstacles", "none", "moving_post", "--starts", "2", "--arms", "nothing", "--film",
                  str(tmp_path / "films"))  # fmt: skip
    turn = [("none", "nothing"), ("moving_post", "nothing")]
    assert [(row["obstacle"], row["arm"]) for row in first] == turn * 2
    assert all(row["nearest_mm"] == "" and row["contact"] == "0" for row in first[::2])
    assert all(float(row["nearest_mm"]) < 1000 and row["steps"] == "10" for row in first[1::2])
    assert {path.name for path in (tmp_path / "films").iterdir()} == {
        "small_none_nothing.gif", "small_moving_post_nothing.gif"}  # fmt: skip
    monkeypatch.setitem(arms.ARMS, "watching", watching)
    both = bench("--obstacles", "moving_post", "--starts", "2", "--arms", "nothing", "watching")
    assert both[:4] == first, "what has a row is not done again"
    assert [row["seed"] for row in both[4:]] == [row["seed"] for row in first[1::2]] and len(made) == 1
    same = ("success", "contact", "first_contact", "first_contact_s", "nearest_mm", "jerk")
    assert [[row[name] for name in same] for row in both[4:]] == [[row[name] for name in same] for row in first[1::2]]
    places = [shape.centre[1] for shape in seen if shape.kind == "cylinder"]
    assert len(places) == 20 and len({*places[:10]}) == 10, "an arm is told where the obstacle is now"
    assert "| small | lift | moving_post | watching | 2 |" in capsys.readouterr().out


@pytest.mark.parametrize("arm", ["limits, kept", "limits, clamped"])
def test_slower_joints_are_slower_in_every_plan(model: Path, arm: str) -> None:
    policy = load_policy(model)
    policy.net.scaler.fit(np.full(policy.net.shape, -0.5), np.full(policy.net.shape, 0.5))
    acting = arms.ARMS[arm](policy)(tuple)
    step = arms.SLOW * np.array([joint.velocity for joint in policy.contract.command.joints]) / policy.contract.rate_hz
    acting.reset()
    place = np.array([0.0, -0.6, 0.0, -2.2, 0.0, 1.6, 0.8, 0.08])
    for _ in range(3):
        plan = acting.act({"joints": place[None].astype(np.float32)}).actions
        assert (np.abs(np.diff(np.vstack([place, plan]), axis=0)) <= step + 1e-6).all()
        place = plan[0]


def test_the_base_alone_acts_without_a_solve(model: Path) -> None:
    policy = load_policy(model)
    frames = {"joints": np.zeros((1, 8), np.float32)}
    base = arms.ARMS["base"](policy)(tuple).act(frames)
    np.testing.assert_array_equal(base.actions, policy.act(frames, iterations=0).actions)
    assert base.iterations == 0


def test_a_start_ends_where_nothing_moves_any_more() -> None:
    world = PandaWorld(
        "lift", obstacles=SHAPES.validate_python([{"kind": "box", "centre": [2, 0, 1], "size": [1, 1, 1]}])
    )
    ended, rest = starts.Ended(world, 20.0), world.joint_state()[0]
    said = []
    for step in range(100):
        world.step(rest + 0.1 * (step < 5), 0.05)
        said.append(ended(None))  # type: ignore[arg-type]
    assert said[80] == "" and "stands still" in said[90:], said
    world.obstacles.touched[("hand", "box")] = 1.0
    assert ended(None) == "touched"  # type: ignore[arg-type]


def test_kinds_on_the_command_line_are_those_that_can_be_placed() -> None:
    assert ("none", *KINDS) == OBSTACLES


def row(arm: str, seed: int, success: int, contact: int) -> dict[str, str]:
    values = dict.fromkeys(starts.COLUMNS, "1") | {"arm": arm, "seed": seed, "success": success, "contact": contact}
    return {name: str(value) for name, value in values.items()}


def test_the_table_counts_starts_that_all_arms_have() -> None:
    rows = [row("nothing", seed, 0, seed % 2) for seed in range(6)] + [
        row("costs", seed, seed % 2, 0) for seed in range(4)
    ]
    found = next(iter(report.paired(rows).values()))
    assert {arm: len(mine) for arm, mine in found.items()} == {"nothing": 4, "costs": 4}
    nothing, costs, *together = (line for line in report.markdown(rows).splitlines() if line.startswith("| 1 "))
    assert "| nothing | 4 | 0 (0–49) | 50 (15–85) |" in nothing
    assert "| costs | 4 | 50 (15–85) | 0 (0–49) |" in costs
    assert [line.replace(report.IN_THE_WAY, "1") for line in together] == [nothing, costs]


def test_jerk_is_the_third_difference() -> None:
    time = np.arange(10) / 20
    positions = np.stack([2 * time**3, 5 * time**2], axis=1)
    assert starts.largest_jerk(positions, 20.0) == pytest.approx(12.0)
    assert starts.largest_jerk(positions[:3], 20.0) == 0.0
