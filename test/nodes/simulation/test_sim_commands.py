"""What command messages mean to the simulated robot, without ROS: modes, interpolation, time-outs, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import load_contract
from difftop_ros.messages.commands import array_to_command
from difftop_ros.messages.types import rosbags_types
from difftop_ros.nodes.simulation.bridge.commands import CommandTracker
from difftop_ros.nodes.simulation.bridge.loop import is_due
from difftop_ros.paths import share_path

TYPES = {
    "joint_state": "sensor_msgs/msg/JointState",
    "trajectory": "trajectory_msgs/msg/JointTrajectory",
    "array": "std_msgs/msg/Float64MultiArray",
}
DT = 0.01


def make_tracker(kind: str = "joint_state", mode: str = "position", joints: int = 3) -> Any:
    contract = load_contract(share_path("config/panda_table.yaml"))
    limits = tuple(j.model_copy(update={"step": 0.1}) for j in contract.command.joints[:joints])
    command = contract.command.model_copy(update={"type": TYPES[kind], "mode": mode, "joints": limits})
    tracker = CommandTracker(contract.model_copy(update={"command": command}), [2, 0, 1][:joints], timeout_s=0.1)
    tracker.begin(np.zeros(4), time_ns=5_000_000_000)
    return tracker, command.joint_names


def message(
    tracker_names: Any, kind: Any, values: Any, mode: str = "position", time_s: float = 6.0, period_s: float = 0.05
) -> Any:
    """A command of the joints named, in that order; a trajectory's point lies `period_s` ahead."""
    contract = load_contract(share_path("config/panda_table.yaml"))
    limits = {j.name: j for j in contract.command.joints}
    joints = tuple(limits[name] for name in tracker_names)
    command = contract.command.model_copy(update={"type": TYPES[kind], "mode": mode, "joints": joints})
    contract = contract.model_copy(update={"command": command, "control_rate_hz": 1 / period_s})
    return array_to_command(contract, np.asarray(values, float), round(time_s * 1e9), rosbags_types)


@pytest.mark.parametrize("kind", ["joint_state", "array"])
def test_a_position_applies_at_once_to_its_own_joints(kind: str) -> None:
    tracker, names = make_tracker(kind)
    assert tracker.offer(message(names, kind, [0.1, 0.2, 0.3])) is None
    np.testing.assert_array_equal(tracker.targets(DT, np.zeros(4)), [0.2, 0.3, 0.1, 0.0])


def test_names_may_come_in_any_order() -> None:
    tracker, names = make_tracker()
    tracker.offer(message(names[::-1], "joint_state", [0.3, 0.2, 0.1]))
    np.testing.assert_array_equal(tracker.targets(DT, np.zeros(4)), [0.2, 0.3, 0.1, 0.0])


def test_a_trajectory_is_followed_by_time_from_start() -> None:
    tracker, names = make_tracker("trajectory")
    command = message(names, "trajectory", [1.0, 0.0, 0.0], period_s=0.1)
    late = message(names, "trajectory", [3.0, 0.0, 0.0], period_s=0.2)
    command.points += late.points
    assert tracker.offer(command) is None
    path = [tracker.targets(0.05, np.zeros(4))[2] for _ in range(6)]
    np.testing.assert_allclose(path, [0.5, 1.0, 2.0, 3.0, 3.0, 3.0], atol=1e-9)


def test_velocities_run_until_the_time_out() -> None:
    tracker, names = make_tracker(mode="velocity")
    tracker.offer(message(names, "joint_state", [0.5, 0, 0], "velocity"))
    path = [tracker.targets(DT, np.zeros(4))[2] for _ in range(20)]
    assert path[9] == pytest.approx(0.05) and path[-1] == pytest.approx(0.05)


def test_a_blocked_arm_does_not_wind_up() -> None:
    tracker, names = make_tracker(mode="velocity")
    for _ in range(100):
        tracker.offer(message(names, "joint_state", [2.0, 0, 0], "velocity"))
        target = tracker.targets(DT, np.zeros(4))[2]
    assert target == pytest.approx(0.15)


def test_increments_add_up_however_they_arrive() -> None:
    tracker, names = make_tracker(mode="delta_position")
    for _ in range(2):
        tracker.offer(message(names, "joint_state", [0.01, 0, 0]))
    assert tracker.targets(DT, np.zeros(4))[2] == pytest.approx(0.02)
    assert tracker.targets(DT, np.zeros(4))[2] == pytest.approx(0.02)


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda m: m.position.__setitem__(1, np.nan), "not finite"),
        (lambda m: setattr(m, "position", m.position[:2]), "2 position values"),
        (lambda m: m.name.__setitem__(0, "wrist_9"), "lacks 'panda_joint1'"),
        (lambda m: setattr(m.header.stamp, "sec", 3), "before the episode began"),
    ],
)
def test_what_is_ignored_is_counted_and_moves_nothing(change: Any, words: str) -> None:
    tracker, names = make_tracker()
    bad = message(names, "joint_state", [0.1, 0.2, 0.3])
    change(bad)
    assert words in tracker.offer(bad)
    assert (tracker.accepted, tracker.ignored) == (0, 1) and words in tracker.last_reason
    assert not tracker.targets(DT, np.zeros(4)).any()


@pytest.mark.parametrize("times", [[0.1, 0.1], [0.2, 0.1]])
def test_a_trajectory_whose_times_do_not_increase_is_ignored(times: Any) -> None:
    tracker, names = make_tracker("trajectory")
    command = message(names, "trajectory", [1.0, 0.0, 0.0], period_s=times[0])
    command.points += message(names, "trajectory", [3.0, 0.0, 0.0], period_s=times[1]).points
    assert "increase" in tracker.offer(command)


def test_rates_fall_due_on_an_even_grid() -> None:
    for rate, expected in ((20.0, 200), (30.0, 300), (100.0, 1000), (7.0, 70)):
        assert sum(is_due(tick, 10_000_000, rate) for tick in range(1, 1001)) == expected
    due = [tick for tick in range(101) if is_due(tick, 10_000_000, 20.0)]
    assert due == list(range(0, 101, 5))
