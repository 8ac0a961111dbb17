"""A robot double over real DDS and a small real policy, for tests of the policy node in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.faults.robot import RobotDouble, contract_text, save_policy


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small policy for `contract_text()`."""
    return save_policy(tmp_path_factory.mktemp("models") / "small", contract_text())


@pytest.fixture
def robot(ros_context: object) -> Iterator[Any]:
    """A running RobotDouble in the test's ROS domain."""
    double = RobotDouble(ros_context)
    yield double
    double.close()
