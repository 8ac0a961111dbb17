"""Trajectories of many points as commands: each step's action is what the controller was told for its end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.data import DatasetError, EpisodeDataset, ingest

STATE, TRAJECTORY = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
CONTRACT = """
name: planned
rate_hz: 10
control_rate_hz: 50
command:
  topic: /command
  type: trajectory_msgs/msg/JointTrajectory
  joints: [{name: a, position: [-9, 9], velocity: 2}, {name: b, position: [-9, 9], velocity: 2}]
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a, b], max_age_ms: 100}
"""


@pytest.fixture
def planned() -> Contract:
    return parse_contract(CONTRACT)


def trajectory(kit: Any, times: Any, values: Any, start_s: float = 0.0) -> Any:
    """Joint a goes through `values` at `times` [s] after the start; joint b, first in the message, stays at .5."""
    message = kit.types(TRAJECTORY)()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(start_s * 1e9), 10**9)
    message.joint_names, message.points = ["b", "a"], []
    for time_s, value in zip(times, values, strict=True):
        point = kit.types("trajectory_msgs/msg/JointTrajectoryPoint")()
        point.positions = np.array([0.5, value])
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(time_s * 1e9), 10**9)
        message.points.append(point)
    return message


def actions_of(tmp_path: Path, kit: Any, contract: Contract, plans: list[tuple[float, Any]], length: float = 6) -> Any:
    """Actions of joint a, whose step k begins k / 10 s after 100 s; plans: (received [s after 100 s], message)."""
    entries = []
    for t in (100 + np.arange(round(length * 50)) / 50).tolist():
        state = kit.joint_state(kit.types, ["a", "b"], t, np.array([0.1 * (t - 100), 0.5]))
        entries.append(("/joint_states", STATE, round(t * 1e9), state))
    entries += [("/command", TRAJECTORY, round((100 + at) * 1e9) + 1, plan) for at, plan in plans]
    bag = kit.write_bag(tmp_path / "bag", sorted(entries, key=lambda e: e[2]))
    ingest([bag], contract, tmp_path / "data")
    episode = EpisodeDataset(tmp_path / "data")[0]
    np.testing.assert_allclose(episode["action"][:, 1], 0.5)
    return episode["action"][:, 0]


@pytest.mark.parametrize("clock", ["header", "receive"])
def test_a_planners_trajectories_are_followed(tmp_path: Path, kit: Any, planned: Contract, clock: str) -> None:
    times = np.arange(21) / 10
    plans = [(start, trajectory(kit, times, start + times / 2)) for start in (0.0, 2.0, 4.0)]
    found = actions_of(tmp_path, kit, planned.model_copy(update={"clock": clock}), plans)
    ends = (np.arange(found.size) + 1) / 10
    assert found.size >= 59
    begin = 2 * np.floor((ends - 1e-9) / 2)
    np.testing.assert_allclose(found, begin + (ends - begin) / 2, atol=1e-6)


def test_between_far_points_it_is_interpolated_from_where_the_last_one_was(
    tmp_path: Path, kit: SimpleNamespace, planned: Contract
) -> None:
    plans = [(0.0, trajectory(kit, [0.0, 4.0], [0.0, 4.0])), (2.0, trajectory(kit, [1.0, 2.0], [0.0, 1.0]))]
    found = actions_of(tmp_path, kit, planned, plans)
    np.testing.assert_allclose(found[[0, 9, 19]], [0.1, 1.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(found[[24, 29, 34, 39]], [1.0, 0.0, 0.5, 1.0], atol=1e-6)
    assert found.size <= 42, "after the last trajectory's end nothing is commanded"


def test_a_trajectory_begins_at_its_stamp(tmp_path: Path, kit: SimpleNamespace, planned: Contract) -> None:
    first = trajectory(kit, [0.0, 3.0], [0.0, 3.0])
    later = trajectory(kit, [0.0, 1.0], [5.0, 6.0], start_s=102.0)
    found = actions_of(tmp_path, kit, planned, [(0.0, first), (1.2, later)])
    np.testing.assert_allclose(found[[11, 18, 20, 29]], [1.2, 1.9, 5.1, 6.0], atol=1e-6)


def test_plans_that_are_made_anew_all_the_time(tmp_path: Path, kit: SimpleNamespace, planned: Contract) -> None:
    plans = [(k / 10, trajectory(kit, [0.1, 0.2, 0.3], [k, 50 + k, 90 + k])) for k in range(40)]
    np.testing.assert_allclose(actions_of(tmp_path, kit, planned, plans)[:39], np.arange(39), atol=1e-6)


def test_trajectories_without_end_or_order_cost_no_memory(
    tmp_path: Path, kit: SimpleNamespace, planned: Contract
) -> None:
    endless = trajectory(kit, [0.0, 2e9], [0.0, 1.0])
    assert actions_of(tmp_path, kit, planned, [(0.0, endless)]).size >= 60
    (tmp_path / "other").mkdir()
    back = trajectory(kit, [1.0, 0.5], [0.0, 1.0])
    with pytest.raises(
        DatasetError, match=r"time_from_start \[1.0, 0.5\]; it must be zero or more and increase \(at 0.0"
    ):
        actions_of(tmp_path / "other", kit, planned, [(0.0, back)])
