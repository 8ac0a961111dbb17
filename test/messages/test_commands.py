"""Commands of every type and mode: what is sent is read back, and an expert's message is a policy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import Contract
from difftop_ros.messages import ObservationError
from difftop_ros.messages.commands import array_to_command, command_to_array
from difftop_ros.messages.types import Types, rosbags_types

JOINT_STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
CASES = [
    (kind, mode)
    for kind in (JOINT_STATE, TRAJECTORY, ARRAY)
    for mode in ("position", "velocity", "delta_position")
    if (kind, mode) != (TRAJECTORY, "delta_position")
]


def commanding(contract: Contract, kind: str, mode: str = "position", control_rate_hz: float = 50) -> Contract:
    """The contract with another command type, mode and control rate."""
    command = contract.command.model_copy(update={"type": kind, "mode": mode})
    return contract.model_copy(update={"command": command, "control_rate_hz": control_rate_hz})


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_commands_of_every_type_and_mode(
    types: Types, through_wire: Callable[..., Any], contract: Contract, kind: str, mode: str
) -> None:
    wanted = commanding(contract, kind, mode)
    message = through_wire(types, array_to_command(wanted, np.array([0.25, -0.5]), 0, types), kind)
    np.testing.assert_array_equal(command_to_array(wanted, message), [0.25, -0.5])
    broken = array_to_command(wanted, np.array([0.25, np.nan]), 0, types)
    with pytest.raises(ObservationError, match=r"not finite for \['b'\]"):
        command_to_array(wanted, broken)


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_where_names_numbers_and_times_stand(
    types: Types, through_wire: Callable[..., Any], contract: Contract, kind: str, mode: str
) -> None:
    wanted, values = commanding(contract, kind, mode, 25), np.array([0.1, -0.2])
    back = through_wire(types, array_to_command(wanted, values, 5_000_000_007, types), kind)
    if kind == ARRAY:
        found = back.data
    elif kind == TRAJECTORY:
        point = back.points[0]
        assert list(back.joint_names) == ["a", "b"] and len(back.points) == 1
        assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 40_000_000)
        assert (back.header.stamp.sec, back.header.stamp.nanosec) == (0, 0)  # 'start on arrival'
        found, other = (point.velocities, point.positions)[:: 1 if mode == "velocity" else -1]
        assert not len(other)
    else:
        assert list(back.name) == ["a", "b"]
        assert (back.header.stamp.sec, back.header.stamp.nanosec) == (5, 7)
        found, other = (back.velocity, back.position)[:: 1 if mode == "velocity" else -1]
        assert not len(other)
    np.testing.assert_array_equal(np.asarray(found), values)


def test_a_trajectory_counts_by_its_first_point_ahead(contract: Contract) -> None:
    wanted = commanding(contract, TRAJECTORY, control_rate_hz=10)
    message = array_to_command(wanted, np.array([2.0, 1.0]), 0, rosbags_types)
    start = array_to_command(wanted, np.array([8.0, 9.0]), 0, rosbags_types).points[0]
    start.time_from_start.nanosec = 0
    message.joint_names = ["b", "a"]
    message.points = [start, *message.points]
    np.testing.assert_array_equal(command_to_array(wanted, message), [1.0, 2.0])
    message.points = [start]
    np.testing.assert_array_equal(command_to_array(wanted, message), [9.0, 8.0])


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_an_expert_and_a_policy_send_equal_messages(contract: Contract, kind: str, mode: str) -> None:
    """The two nodes' own code, to a publisher that keeps what it is given."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from types import SimpleNamespace

    from difftop_ros.nodes.simulation.bridge import expert as module
    from difftop_ros.nodes.topics import message_class

    sent: list[Any] = []
    wanted = commanding(contract, kind, mode)
    driver = module.ExpertDriver.__new__(module.ExpertDriver)
    values = np.array([0.25, -0.5])
    driver.__dict__.update(
        _contract=wanted, _columns=[0, 1], _direct=True, _publisher=SimpleNamespace(publish=sent.append),
        _expert=SimpleNamespace(act=lambda: values), _low=np.full(2, -1.0), _high=np.full(2, 1.0),
    )  # fmt: skip
    driver(5_000_000_007)
    assert sent == [array_to_command(wanted, values, 5_000_000_007, message_class)]
