"""Command messages out of arrays and back, for the three types of the contract. Whether one may be sent is the gate's.

One encoder for whoever commands, policy or expert, so that a recorded demonstration and a policy's own command mean the
same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.messages.coupling import gather, sent_names, spread
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.joints import by_name, finite, indices, joint_state
from difftop_ros.messages.types import NANO, Types, float_field

ARRAY = "std_msgs/msg/Float64MultiArray"
JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


def array_to_command(contract: Contract, values: np.ndarray, stamp_ns: int, types: Types) -> Any:
    """The command message for `values` float64 (A,) in the contract's joint order and the mode's unit.

    types: see types.py. A JointTrajectory has one point, to be reached one control period from now, and a zero header
    stamp, which a joint trajectory controller reads as 'start on arrival': with a stamp it would drop a point that
    reaches it late. Increments (delta_position) travel as positions.
    """
    command = contract.command
    field = "velocity" if command.mode == "velocity" else "position"
    names = sent_names(command.joint_names, command.coupling)
    values = spread(command.joint_names, values, command.coupling)
    if command.type == JOINT_STATE:
        message = joint_state(types, names, 0.0)
        setattr(message, field, float_field(types, values))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NANO)
        return message
    message = types(command.type)()
    if command.type == ARRAY:
        message.data = float_field(types, values)
        return message
    step_s = 1 / contract.control_rate_hz
    message.joint_names = names
    message.points = [_point(types, step_s, **{"velocities" if field == "velocity" else "positions": values})]
    return message


def trajectory(
    contract: Contract, positions: np.ndarray, velocities: np.ndarray, step_s: float, stamp_ns: int, types: Types
) -> Any:
    """A JointTrajectory of positions and velocities (K, A), its points `step_s` [s] apart, the first at its start.

    Because the first point lies at the start, a joint_trajectory_controller goes from point to point and never from
    where it measures the robot: one trajectory replaces another without a jump. Where clocks agree (clock: header) it
    is stamped, so that what is late on its way is taken up where it then is; else it starts on arrival.
    """
    command = contract.command
    message = types(TRAJECTORY)()
    if contract.clock == "header":
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NANO)
    message.joint_names = sent_names(command.joint_names, command.coupling)
    rows = [spread(command.joint_names, values, command.coupling) for values in (positions, velocities)]
    message.points = [
        _point(types, k * step_s, positions=position, velocities=velocity)
        for k, (position, velocity) in enumerate(zip(*rows, strict=True))
    ]
    return message


def _point(types: Types, time_s: float, **fields: np.ndarray) -> Any:
    point = types("trajectory_msgs/msg/JointTrajectoryPoint")()
    for name in ("positions", "velocities", "accelerations", "effort"):
        setattr(point, name, float_field(types, fields.get(name, np.empty(0))))
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(time_s * 1e9), NANO)
    return point


def command_to_array(contract: Contract, message: Any) -> np.ndarray:
    """The commanded action float64 (A,) in the contract's joint order and unit.

    A JointTrajectory counts by its first point with time_from_start > 0 (what the robot is to reach next), else by its
    last point. delta_position increments travel in JointState.position. Raises ObservationError.
    """
    command = contract.command
    where = f"{command.type.rsplit('/', 1)[-1]} on '{command.topic}'"
    field = "velocity" if command.mode == "velocity" else "position"
    names = sent_names(command.joint_names, command.coupling)
    if command.type == JOINT_STATE:
        return gather(command.joint_names, by_name(message, field, names, where), command.coupling)
    if command.type == TRAJECTORY:
        times, points = way_points(contract, message)
        return points[min(int(np.searchsorted(times, 0.0, side="right")), times.size - 1)]
    values = np.asarray(message.data, dtype=np.float64)
    if values.shape != (len(names),):
        raise ObservationError(
            f"{where} has {values.size} values; the contract expects {len(names)} in the order {names}: correct one of "
            "them"
        )
    return gather(command.joint_names, finite(values, names, field, where), command.coupling)


def way_points(contract: Contract, message: Any) -> tuple[np.ndarray, np.ndarray]:
    """When a JointTrajectory's points are to be reached, seconds after its start (n,), and their values (n, A).

    Raises ObservationError.
    """
    command = contract.command
    where, names = f"JointTrajectory on '{command.topic}'", sent_names(command.joint_names, command.coupling)
    field = "velocities" if command.mode == "velocity" else "positions"
    if not len(message.points):
        raise ObservationError(f"{where} has no points; expected at least one")
    index = indices(list(message.joint_names), names, where)
    times, rows = [], []
    for number, point in enumerate(message.points):
        row = np.asarray(getattr(point, field), np.float64)
        if row.size != len(message.joint_names):
            raise ObservationError(
                f"{where} has {row.size} {field} for {len(message.joint_names)} joint names in point {number}; the "
                f"contract's mode needs '{field}' for each"
            )
        rows.append(finite(row[index], names, field, where))
        times.append(point.time_from_start.sec + point.time_from_start.nanosec / NANO)
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise ObservationError(f"{where} has time_from_start {times}; it must be zero or more and increase")
    return np.array(times), gather(command.joint_names, np.array(rows), command.coupling)
