"""Command messages out of arrays, for the three types of the contract. Whether one may be sent is the gate's matter."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np

from difftop_ros.contract import Contract

Types = Callable[[str], Any]


def array_to_command(contract: Contract, values: np.ndarray, stamp_ns: int, types: Types) -> Any:
    """The command message for `values` float64 (A,) in the contract's joint order and the mode's unit.

    types: ROS type name -> message class (rclpy's). A JointTrajectory has one point, to be reached one control period
    from now, and a zero header stamp, which a joint trajectory controller reads as 'start on arrival': with a stamp it
    would drop a point that reaches it late. Increments (delta_position) travel as positions.
    """
    command = contract.command
    numbers = array.array("d", np.asarray(values, dtype=np.float64).tobytes())
    message = types(command.type)()
    if command.type == "std_msgs/msg/Float64MultiArray":
        message.data = numbers
        return message
    if command.type == "sensor_msgs/msg/JointState":
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        message.name = command.joint_names
        if command.mode == "velocity":
            message.velocity = numbers
        else:
            message.position = numbers
        return message
    point = types("trajectory_msgs/msg/JointTrajectoryPoint")()
    if command.mode == "velocity":
        point.velocities = numbers
    else:
        point.positions = numbers
    period_ns = round(1e9 / contract.control_rate_hz)
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(period_ns, 1_000_000_000)
    message.joint_names = command.joint_names
    message.points = [point]
    return message
