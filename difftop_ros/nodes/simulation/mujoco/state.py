"""The simulation's whole state as a message, /sim/state: enough to draw any camera later, at any size.

Published by the bridge at 25 Hz of simulated time while someone listens; a copy of some dozen numbers, so watching
costs the running simulation nothing. Ground truth: never an input of a policy. Drawing is sim/film.py's job.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np

from difftop_ros.errors import UserError
from difftop_ros.sim.mujoco.camera import Snapshot

STATE_TOPIC = "sim/state"
STATE_TYPE = "std_msgs/msg/Float64MultiArray"
STATE_HZ = 25.0
_PARTS = ("time", "qpos", "mocap_pos", "mocap_quat")


def state_message(types: Any, time_s: float, snapshot: Snapshot) -> Any:
    """A Float64MultiArray: time [s], then MuJoCo's qpos, mocap_pos and mocap_quat, each a labelled dimension."""
    parts = (np.array([time_s]), snapshot.qpos, snapshot.mocap_pos, snapshot.mocap_quat)
    message = types(STATE_TYPE)()
    dimension = types("std_msgs/msg/MultiArrayDimension")
    message.layout.dim = [dimension(label=n, size=p.size, stride=1) for n, p in zip(_PARTS, parts, strict=True)]
    message.data = array.array("d", np.concatenate([p.ravel() for p in parts]).astype(np.float64).tobytes())
    return message


def snapshot_of(message: Any) -> tuple[float, Snapshot]:
    """Time [s] of simulation and the state. Raises UserError for an array that is not a simulation's state."""
    sizes = {d.label: d.size for d in message.layout.dim}
    if tuple(sizes) != _PARTS or sum(sizes.values()) != len(message.data):
        raise UserError(f"{STATE_TOPIC} has the parts {sizes}; expected {list(_PARTS)}: is it the bridge's?")
    ends = np.cumsum([sizes[name] for name in _PARTS])[:-1]
    time_s, qpos, positions, quaternions = np.split(np.array(message.data, np.float64), ends)
    return float(time_s[0]), Snapshot(qpos, positions.reshape(-1, 3), quaternions.reshape(-1, 4))
