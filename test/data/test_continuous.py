"""Joints that turn without end: readings that wrap around at pi count on, in bags and live alike; else refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.data import DatasetError, EpisodeDataset, ingest
from difftop_ros.errors import UserError
from difftop_ros.messages.pipeline import ObservationPipeline
from difftop_ros.runtime.joints import JointJudge

STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
CONTRACT = """
name: turntable
rate_hz: 10
control_rate_hz: 50
command:
  topic: /command
  type: std_msgs/msg/Float64MultiArray
  joints:
    - {name: rail, unit: m, position: [-20, 20], velocity: 9}
    - {name: table, position: [-50, 50], velocity: 9, continuous: true}
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [table, rail], max_age_ms: 100}
  wheel: {kind: joint_state, topic: /wheel, joints: [wheel], continuous: [wheel], max_age_ms: 100}
"""
TIMES = 100 + np.arange(300) / 50


def wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def angle(t: float, speed: float) -> float:
    return 2.6 + speed * (t - 100)


def recording(kit: Any, speed: float) -> list[Any]:
    """The table turns, the wheel turns backwards; the rail jumps by a turn's length, which is nothing to it."""
    entries = []
    for t in TIMES.tolist():
        rail = 2 * np.pi * (t >= 103)
        state = kit.joint_state(kit.types, ["rail", "table"], t, np.array([rail, wrapped(angle(t, speed))]))
        wheel = kit.joint_state(kit.types, ["wheel"], t, np.array([wrapped(angle(t, -speed))]))
        order = kit.types(ARRAY)()
        order.data = np.array([rail, wrapped(angle(t + 0.1, speed))])
        now = round(t * 1e9)
        entries += [
            ("/joint_states", STATE, now, state),
            ("/wheel", STATE, now, wheel),
            ("/command", ARRAY, now, order),
        ]
    return entries


@pytest.mark.parametrize("speed", [0.3, 8.0])
def test_turns_are_counted_in_bags_and_live_alike(tmp_path: Path, kit: SimpleNamespace, speed: float) -> None:
    contract, entries = parse_contract(CONTRACT), recording(kit, speed)
    ingest([kit.write_bag(tmp_path / "bag", entries)], contract, tmp_path / "data")
    episode = EpisodeDataset(tmp_path / "data")[0]
    at = TIMES[0] + np.arange(episode.steps) / 10
    frames = episode["joints"][:]
    np.testing.assert_allclose(frames[:, 0], angle(at, speed), atol=1e-4)
    np.testing.assert_allclose(episode["wheel"][:, 0], angle(at, -speed), atol=1e-4)
    assert np.abs(episode["action"][:, 1] - angle(at + 0.18, speed)).max() < 0.02 * speed + 1e-4
    np.testing.assert_allclose(np.unique(frames[:, 1]), [0, 2 * np.pi], atol=1e-5)

    judge, pipeline, latest = JointJudge(contract), ObservationPipeline(contract), {}
    for topic, _, stamp, message in entries:
        if topic == "/joint_states":
            assert judge.take(topic, message, stamp).ok
        latest[topic] = (stamp, message)
        # The planner sees one in ten, and is told the turns by who saw all.
        if topic == "/command" and round(stamp / 2e7) % 5 == 0:
            pipeline.turns.last.update(judge.turns.last)
            seen = pipeline.observe(latest, stamp).frames
            step = round((stamp / 1e9 - TIMES[0]) * 10)
            assert seen["joints"][0] == pytest.approx(judge.position[1], abs=1e-4)
            np.testing.assert_allclose(seen["joints"], frames[step], atol=1e-4)
            np.testing.assert_allclose(seen["wheel"], episode["wheel"][step], atol=1e-4)


def test_a_command_half_a_turn_or_more_away_is_the_near_one(tmp_path: Path, kit: SimpleNamespace) -> None:
    entries = recording(kit, 0.3)
    for topic, _, _, message in entries:
        if topic == "/command":
            message.data = message.data + np.array([0, 4 * np.pi])
    ingest([kit.write_bag(tmp_path / "bag", entries)], parse_contract(CONTRACT), tmp_path / "data")
    episode = EpisodeDataset(tmp_path / "data")[0]
    assert np.abs(episode["action"][:, 1] - episode["joints"][:, 0]).max() < 0.1


def test_without_the_word_wrap_around_is_refused(tmp_path: Path, kit: SimpleNamespace) -> None:
    contract = parse_contract(CONTRACT.replace(", continuous: true", ""))
    with pytest.raises(
        DatasetError, match=r"'table' on '/joint_states' jumps by a whole turn 1 times.*continuous: true"
    ):
        ingest([kit.write_bag(tmp_path / "bag", recording(kit, 0.3))], contract, tmp_path / "data")


def test_what_can_be_continuous() -> None:
    trained = parse_contract(CONTRACT)
    assert trained.continuous == {"table", "wheel"}
    with pytest.raises(UserError, match="'rail' is continuous and in m; only angles"):
        parse_contract(CONTRACT.replace("velocity: 9}", "velocity: 9, continuous: true}"))
    with pytest.raises(UserError, match=r"continuous names \['disc'\]"):
        parse_contract(CONTRACT.replace("[wheel], max", "[disc], max"))
    other: Contract = parse_contract(CONTRACT.replace(", continuous: true", ""))
    assert "continuous joints are ['wheel'], the policy was trained with ['table', 'wheel']" in other.incompatibilities(
        trained
    )
