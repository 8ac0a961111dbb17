"""The simulation's whole state as a message, /sim/state: enough to draw any camera later, at any size.

Published by the simulation's node at 25 Hz of simulated time while someone listens; a copy of some dozen numbers, so
watching costs the running simulation nothing. Ground truth: never an input of a policy. Drawing is sim/film.py's job.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np

from difftop_ros.errors import UserError
from difftop_ros.sim.interface import Snapshot

STATE_TOPIC = "sim/state"
STATE_TYPE = "std_msgs/msg/Float64MultiArray"
STATE_HZ = 25.0
_TIME = "time"


def state_message(types: Any, time_s: float, snapshot: Snapshot) -> Any:
    """A Float64MultiArray: time [s], then the snapshot's arrays, each a labelled dimension."""
    parts = {_TIME: np.array([time_s]), **snapshot}
    message = types(STATE_TYPE)()
    dimension = types("std_msgs/msg/MultiArrayDimension")
    message.layout.dim = [dimension(label=name, size=part.size, stride=1) for name, part in parts.items()]
    message.data = array.array("d", np.concatenate(list(parts.values())).astype(np.float64).tobytes())
    return message


def snapshot_of(message: Any) -> tuple[float, Snapshot]:
    """Time [s] of simulation and the state. Raises UserError for an array that is not a simulation's state."""
    sizes = {d.label: d.size for d in message.layout.dim}
    if next(iter(sizes), None) != _TIME or sizes[_TIME] != 1 or sum(sizes.values()) != len(message.data):
        raise UserError(
            f"{STATE_TOPIC} has {len(message.data)} numbers in the parts {sizes}; expected '{_TIME}' and a "
            "simulation's parts that add up: is it the simulation's?"
        )
    parts = np.split(np.array(message.data, np.float64), np.cumsum(list(sizes.values()))[:-1])
    snapshot = dict(zip(sizes, parts, strict=True))
    return float(snapshot.pop(_TIME)[0]), snapshot
