"""Message classes of both libraries, the way over the wire and back, and a small contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.messages.types import Types, ros_types, rosbags_types

ROOT = Path(__file__).parents[2]
KINDS = ["rosbags", "ros"]

CONTRACT = """
name: two_joints
rate_hz: 10
control_rate_hz: 50
command:
  topic: /command
  type: sensor_msgs/msg/JointState
  joints:
    - {name: a, position: [-3, 3], velocity: 2, step: 0.5}
    - {name: b, position: [-3, 3], velocity: 2, step: 0.5}
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a, b]}
"""


@pytest.fixture
def contract() -> Contract:
    return parse_contract(CONTRACT)


@pytest.fixture(params=KINDS)
def types(request: pytest.FixtureRequest) -> Types:
    if request.param == "ros":
        pytest.importorskip("rclpy", reason="rclpy is not installed")
        return ros_types
    return rosbags_types


def _through_wire(types: Types, message: Any, kind: str) -> Any:
    """The message after CDR serialisation and back, by the library its class belongs to."""
    if types is ros_types:
        from rclpy.serialization import deserialize_message, serialize_message

        return deserialize_message(serialize_message(message), type(message))
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    return store.deserialize_cdr(store.serialize_cdr(message, kind), kind)


@pytest.fixture
def through_wire() -> Callable[..., Any]:
    """(types, message, kind) -> the message as it arrives."""
    return _through_wire


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
