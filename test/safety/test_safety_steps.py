"""A slice of the million ticks of `python -m benchmarks.safety_steps`, and that its oracle sees what breaks a limit."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.safety_steps import Oracle, run
from difftop_ros.contract import Command
from difftop_ros.safety import MotionLimits, MotionShaper


def test_no_reading_and_no_plan_makes_a_command_break_a_limit() -> None:
    _, moving, findings = run(5_000, seed=1)
    assert findings == []
    assert moving > 1_000


@pytest.mark.parametrize("mode", ["position", "velocity", "delta_position"])
def test_a_shaper_that_takes_too_much_is_noticed(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MotionShaper, "_command_for", lambda self, wanted, position: self._in_mode(1.01 * wanted))
    monkeypatch.setattr("benchmarks.safety_steps.MODES", (mode,))
    monkeypatch.setattr("benchmarks.safety_steps.make_checks", lambda settings: [])
    assert run(3_000, seed=2)[2]


def test_motion_on_a_false_reading_is_noticed() -> None:
    joints = [{"name": n, "position": [-1, 1], "velocity": 1.0, "acceleration": 10.0} for n in "abc"]
    kind = "sensor_msgs/msg/JointState"
    command = Command.model_validate({"topic": "/c", "type": kind, "mode": "velocity", "joints": joints})
    oracle = Oracle(MotionLimits.of(command, 50.0), np.zeros(3))
    for _ in range(30):
        oracle.see(np.full(3, 0.01), plausible=False)
    assert "speed on a false reading" in oracle.findings[0]
