"""The guard: what would touch on its way to rest is refused, so that a hold never touches; its file, and bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from difftop_ros.contract import Contract, load_contract
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path
from difftop_ros.safety import CommandGate, GateSettings, MotionLimits, MotionShaper, Proposal, make_checks
from difftop_ros.safety.braking import stopping_way
from difftop_ros.safety.guard import Guard, GuardOptions, load_guard
from difftop_ros.sim.tasks import PANDA_HOME

HOME = np.array([*PANDA_HOME.values(), 0.08])
WALL = "shapes: [{name: wall, kind: half_space, point: [0.7, 0, 0], normal: [-1, 0, 0]}]"


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(share_path("config/panda_table.yaml"))


def guard_of(contract: Contract, **options: object) -> Guard:
    return Guard(GuardOptions.model_validate(options), contract)


def test_the_way_of_a_stop_ends_at_rest_where_the_shaper_ends(contract: Contract) -> None:
    limits = MotionLimits.of(contract.command, contract.control_rate_hz)
    shaper = MotionShaper(limits)
    shaper.reset(HOME)
    rng = np.random.default_rng(0)
    goal = rng.uniform(limits.lower, limits.upper)
    before = speed = np.zeros(limits.size)
    for _ in range(12):
        command = shaper.propose(goal, goal, HOME)
        before = shaper.speed
        shaper.commit(command)
        speed = shaper.speed
    way = stopping_way(command, speed, (speed - before) / limits.dt, limits.dt, limits.per_tick)
    while not shaper.at_rest:
        command = shaper.stop()
        shaper.commit(command)
    np.testing.assert_allclose(way[-1], command, atol=1e-4)
    np.testing.assert_array_less(np.abs(np.diff(way, axis=0)).max(0), 3.1 * limits.per_tick[0])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_no_command_and_no_hold_touches(contract: Contract, seed: int) -> None:
    """A planner that wants through a wall: commands pass the gate until the next could not be stopped any more."""
    guard = guard_of(contract, shapes=[{"name": "wall", "kind": "half_space", "point": [0.52, 0, 0],
                                        "normal": [-1, 0, 0]}], margin=0.01)  # fmt: skip
    limits = MotionLimits.of(contract.command, contract.control_rate_hz)
    gate = CommandGate(
        limits, make_checks(GateSettings(500.0, 100.0, 60.0, guard), ("finite", "joint names", "clearance"))
    )
    shaper = MotionShaper(limits)
    gate.reset(HOME)
    shaper.reset(HOME)
    start = guard.body.centres(HOME[None])[0][:, 0] + guard.body.radii
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(16):
        goal = np.clip(HOME + rng.normal(0, 0.6, limits.size), limits.lower, limits.upper)
        for _ in range(30):
            values = shaper.propose(goal, goal, HOME)
            verdict = gate.check(Proposal(limits.names, values, 0.0, HOME, 0.0))
            if not verdict.ok:
                refused += 1
                assert verdict.kind == "clearance" and "'wall'" in verdict.reason and "panda_" in verdict.reason
                values = shaper.stop()
                assert gate.check(Proposal(limits.names, values, None, HOME, 0.0)).ok
            gate.commit(values)
            shaper.commit(values)
            reach = guard.body.centres(values[None])[0][:, 0] + guard.body.radii
            assert (reach <= np.maximum(start, 0.52) + 1e-6).all()
    assert refused > 0


def test_points_seen_replace_those_before_and_shapes_stay(contract: Contract) -> None:
    guard = guard_of(
        contract, shapes=[{"name": "ceiling", "kind": "half_space", "point": [0, 0, 2], "normal": [0, 0, -1]}]
    )
    tool = guard.body.pose(HOME[None], "tcp")[0, :3, 3]
    turned = HOME.copy()
    turned[0] += 0.4
    path = np.array([HOME, turned])
    assert guard.along(path) == ""
    ahead = guard.body.pose(turned[None], "tcp")[0, :3, 3]
    guard.see(ahead[None])
    reason = guard.along(path)
    assert "point of the cloud" in reason and "mm" in reason and "margin is 5 mm" in reason
    guard.see(tool[None] + [0, 0, 0.8])
    assert guard.along(path) == ""
    assert "stands inside the box" in guard_of(
        contract, shapes=[{"kind": "box", "centre": tool.tolist(), "size": [0.1, 0.1, 0.3]}]
    ).contained(HOME)
    assert guard.contained(HOME) == ""


def test_the_file(contract: Contract, tmp_path: Path) -> None:
    path = tmp_path / "surroundings.yaml"
    path.write_text(WALL + "\ncloud: cloud\nabove: 0.07\nmargin: 0.01\n")
    cloudy = load_contract(share_path("models/panda_lift/contract.yaml"))
    guard = load_guard(path, cloudy)
    assert guard.options.margin == 0.01 and guard.scene.names == ("'wall'",) and guard.sight() is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected 'shapes:' or 'cloud:'"),
        ("margin: 0.1", "neither shapes nor a cloud"),
        (WALL + "\nmargin: -1", "'margin' is -1"),
        (WALL + "\nmargin: .nan", "'margin' is nan"),
        (WALL + "\nmagin: 1", "unknown key 'magin'"),
        (WALL + "\nlow: [0, 0, 0]\nhigh: [1, 0, 1]", "expected the first below the second"),
        (WALL + "\non_stale: perhaps", "'on_stale' is 'perhaps'"),
        ("cloud: camera", "'camera', which is no cloud"),
        ("shapes: [{kind: ball}]", "shapes.0"),
        ("shapes: [", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(contract: Contract, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "surroundings.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_guard(path, contract)
    assert says in str(caught.value) and "surroundings.yaml" in str(caught.value)


def test_a_contract_without_the_robots_model_says_what_to_add(contract: Contract, tmp_path: Path) -> None:
    path = tmp_path / "surroundings.yaml"
    path.write_text(WALL)
    for lacking, says in (("description", r"robot\.description"), ("spheres", r"robot\.spheres")):
        robot = contract.to_dict()["robot"]
        del robot[lacking]
        with pytest.raises(UserError, match=says):
            load_guard(path, Contract.model_validate({**contract.to_dict(), "robot": robot}))
