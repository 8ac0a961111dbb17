"""Command messages into joint targets over time: three message types, three modes. No ROS and no physics here."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError
from difftop_ros.messages.commands import TRAJECTORY, command_to_array, way_points

# A velocity command may not carry the target further than this from the measured position [rad | m]: an arm that is
# stopped by an obstacle must not jump once it is free.
_WIND_UP = 0.15


@dataclass(frozen=True)
class Waypoints:
    """Commanded values (n, A) for the times (n,) [s] after the command took effect."""

    times: np.ndarray
    values: np.ndarray


class CommandTracker:
    """Takes commands in from any thread (`offer`) and tells the joint targets at each tick (`targets`, one thread).

    What a command means: position, the target; velocity, its rate of change until the time-out; delta_position, an
    increment added once. Joints outside the contract keep the position they had at the reset. With direct=True the
    world itself takes velocities: `targets` are then the commanded ones, zero after the time-out and for other joints.
    """

    def __init__(self, contract: Contract, columns: list[int], timeout_s: float, direct: bool = False) -> None:
        """columns: for each of the contract's joints its place among the world's joints."""
        if contract.command.type == TRAJECTORY and contract.command.mode == "delta_position":
            raise UserError("command_type JointTrajectory cannot carry mode delta_position; use position or velocity")
        self._contract, self._columns = contract, np.asarray(columns)
        self._mode, self._timeout, self._direct = contract.command.mode, timeout_s, direct
        self._arrived: deque[Waypoints] = deque()
        self._lock = threading.Lock()
        self.new_command = threading.Event()
        self.accepted, self.ignored, self.last_reason = 0, 0, ""
        self._not_before_ns = 0
        self._active: Waypoints | None = None
        self._since = 0.0
        self._from = np.zeros(len(columns))
        self._targets = np.zeros(0)

    def begin(self, position: np.ndarray, time_ns: int) -> None:
        """Starts an episode at rest at `position` (n,); commands stamped before `time_ns` are refused from now on."""
        with self._lock:
            self._arrived.clear()
            self._not_before_ns = time_ns
            self.new_command.clear()
        self._active, self._targets = None, np.zeros_like(position) if self._direct else position.copy()

    def offer(self, message: Any) -> str | None:
        """Takes a command message in. Returns None, or in one sentence why it is ignored (and counts it)."""
        try:
            self._refuse_old(message)
            waypoints = self._decode(message)
        except ObservationError as error:
            with self._lock:
                self.ignored += 1
                self.last_reason = str(error)
            return str(error)
        with self._lock:
            self.accepted += 1
            self._arrived.append(waypoints)
            self.new_command.set()
        return None

    def targets(self, dt: float, measured: np.ndarray) -> np.ndarray:
        """What the world is to take (n,), position targets [rad | m] unless direct, for the tick of `dt` seconds that
        begins now."""
        with self._lock:
            self.new_command.clear()
            arrived = list(self._arrived)
            self._arrived.clear()
        for waypoints in arrived:
            if self._mode == "delta_position":
                self._targets[self._columns] += waypoints.values[-1]
            else:
                self._active, self._since = waypoints, 0.0
                self._from = self._targets[self._columns].copy()
        if self._active is not None:
            self._since += dt
            self._follow(self._active, dt, measured)
        return self._targets.copy()

    def _follow(self, active: Waypoints, dt: float, measured: np.ndarray) -> None:
        if self._mode == "position":
            times = np.concatenate([[0.0], active.times])
            values = np.vstack([self._from, active.values])
            self._targets[self._columns] = [np.interp(self._since, times, column) for column in values.T]
        elif self._since <= self._timeout + max(active.times[-1], 0.0) + 1e-9:
            index = min(int(np.searchsorted(active.times, self._since - 1e-9)), len(active.times) - 1)
            if self._direct:
                self._targets[self._columns] = active.values[index]
                return
            moved = self._targets[self._columns] + active.values[index] * dt
            centre = measured[self._columns]
            self._targets[self._columns] = np.clip(moved, centre - _WIND_UP, centre + _WIND_UP)
        elif self._direct:
            self._targets[:] = 0.0

    def _refuse_old(self, message: Any) -> None:
        header = getattr(message, "header", None)
        if header is None:
            return
        stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        if 0 < stamp < self._not_before_ns:
            raise ObservationError(
                f"the command is stamped {(self._not_before_ns - stamp) / 1e9:.3f} s before the episode began; "
                "send commands made after the reset"
            )

    def _decode(self, message: Any) -> Waypoints:
        if self._contract.command.type == TRAJECTORY:
            return Waypoints(*way_points(self._contract, message))
        # Time 0: the target applies at once, the servos' lag smooths it.
        return Waypoints(np.zeros(1), command_to_array(self._contract, message)[None])
