"""JointState to frames and command messages to arrays, by joint name. Making commands is the policy node's job."""

from __future__ import annotations

from typing import Any

import numpy as np

from difftop_ros.contract import Contract, JointStateObs
from difftop_ros.messages.errors import ObservationError


def decode_joint_state(message: Any, obs: JointStateObs) -> np.ndarray:
    """Float32 (len(fields) * len(joints),), field-major, joints in the contract's order. Raises ObservationError."""
    columns = [_by_name(message, field, list(obs.joints), f"JointState on '{obs.topic}'") for field in obs.fields]
    return np.concatenate(columns).astype(np.float32)


def command_to_array(contract: Contract, message: Any) -> np.ndarray:
    """The commanded action float64 (A,) in the contract's joint order and unit.

    A JointTrajectory counts by its first point with time_from_start > 0 (what the robot is to reach next), else by its
    last point. delta_position increments travel in JointState.position. Raises ObservationError.
    """
    command = contract.command
    where = f"{command.type.rsplit('/', 1)[-1]} on '{command.topic}'"
    field = "velocity" if command.mode == "velocity" else "position"
    names = command.joint_names
    if command.type == "sensor_msgs/msg/JointState":
        return _by_name(message, field, names, where)
    if command.type == "trajectory_msgs/msg/JointTrajectory":
        return _from_trajectory(message, field, names, where)
    values = np.asarray(message.data, dtype=np.float64)
    if values.shape != (len(names),):
        raise ObservationError(
            f"{where} has {values.size} values; the contract expects {len(names)} in the order {names}"
        )
    return _finite(values, names, field, where)


def _from_trajectory(message: Any, field: str, names: list[str], where: str) -> np.ndarray:
    if not len(message.points):
        raise ObservationError(f"{where} has no points; expected at least one")
    ahead = [p for p in message.points if (p.time_from_start.sec, p.time_from_start.nanosec) > (0, 0)]
    point = ahead[0] if ahead else message.points[-1]
    values = np.asarray(point.positions if field == "position" else point.velocities, dtype=np.float64)
    index = _indices(list(message.joint_names), names, where)
    if values.size != len(message.joint_names):
        raise ObservationError(
            f"{where} has {values.size} {field} values for {len(message.joint_names)} joint names; the contract's mode "
            f"needs '{field}' for each"
        )
    return _finite(values[index], names, field, where)


def _by_name(message: Any, field: str, names: list[str], where: str) -> np.ndarray:
    present = list(message.name)
    index = _indices(present, names, where)
    values = np.asarray(getattr(message, field), dtype=np.float64)
    if values.size != len(present):
        raise ObservationError(
            f"{where} has {values.size} {field} values for {len(present)} names; the contract needs '{field}' for each"
        )
    return _finite(values[index], names, field, where)


def _indices(present: list[str], names: list[str], where: str) -> list[int]:
    lacking = [name for name in names if name not in present]
    if lacking:
        shown = ", ".join(f"'{name}'" for name in lacking)
        raise ObservationError(f"{where} lacks {shown}; the contract expects {len(names)} joints: {names}")
    return [present.index(name) for name in names]


def _finite(values: np.ndarray, names: list[str], field: str, where: str) -> np.ndarray:
    if not np.all(np.isfinite(values)):
        bad = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
        raise ObservationError(f"{where} has a {field} that is not finite for {bad}; expected numbers")
    return values
