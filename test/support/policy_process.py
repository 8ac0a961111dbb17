"""A policy node in a process of its own, as tests start, activate and watch it. The robot: test/nodes/conftest.py."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tools.patience import patience

NODE = "difftop_ros.nodes.policy.node"
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4


def start(spawn: Any, robot: Any, model: Any, *parameters: str, configure: bool = True) -> Any:
    """A policy node process, configured."""
    arguments = [part for p in (f"model:={model}", *parameters) for part in ("-p", p)]
    process = spawn(NODE, "--ros-args", *arguments)
    if configure:
        assert robot.transition(CONFIGURE), process.output()
    return process


def positions(robot: Any) -> np.ndarray:
    return np.array([c.position for _, c in list(robot.commands)])


def stamp(message: Any) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec / 1e9


def activate_when_ready(robot: Any) -> float:
    """Activate, again while streams come up; the system time just before the transition that worked."""
    end = time.monotonic() + patience(20)
    while time.monotonic() < end:
        before = time.time()
        if robot.transition(ACTIVATE):
            return before
        time.sleep(0.1)
    pytest.fail(f"never active: {robot.sentences()[-3:]}")
