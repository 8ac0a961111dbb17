"""A policy node beside a /clock that stands, jumps and jitters, over real DDS; and that it keeps its source of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_process import activate_when_ready, start


class Clock:
    """Publishes /clock at 100 Hz; `running`, `ahead_s` and `jitter_s` spoil it."""

    def __init__(self, node: Any) -> None:
        from rosgraph_msgs.msg import Clock as Message

        self.running, self.ahead_s, self.jitter_s = True, 0.0, 0.0
        self._message, self._publisher = Message, node.create_publisher(Message, "/clock", 10)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rng, now = np.random.default_rng(0), 1000.0
        last = time.monotonic()
        while not self._ended.wait(0.01):
            passed, last = time.monotonic() - last, time.monotonic()
            now += passed if self.running else 0.0
            told = now + self.ahead_s + rng.uniform(-1, 1) * self.jitter_s
            message = self._message()
            message.clock.sec, message.clock.nanosec = divmod(round(told * 1e9), 1_000_000_000)
            self._publisher.publish(message)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5.0)


@pytest.fixture
def clock(robot: Any) -> Iterator[Clock]:
    from rclpy.parameter import Parameter

    robot.node.set_parameters([Parameter("use_sim_time", value=True)])
    made = Clock(robot.node)
    yield made
    made.close()


def test_a_clock_that_stands_jumps_or_jitters_is_named(small_model: Path, robot: Any, clock: Clock, spawn: Any) -> None:
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    start(spawn, robot, small_model, "use_sim_time:=true", "max_failures:=1000", "max_plan_age_ms:=3000.0")
    activate_when_ready(robot)
    robot.until(lambda: len(robot.commands) > 20, 30, "commands")

    changes = [Parameter("use_sim_time", value=False).to_parameter_msg()]
    answer = robot.call(SetParameters, "/difftop_policy/set_parameters", SetParameters.Request(parameters=changes))
    assert not answer.results[0].successful
    assert "clean up first, then set use_sim_time" in answer.results[0].reason

    clock.running = False
    robot.says("'/clock' stands at 1", 15)
    clock.running = True
    clock.ahead_s = 0.4
    robot.says("'/clock' jumped 0.4", 15)
    robot.until(lambda: "'/clock'" not in robot.sentences()[-1], 20, "the end of that warning")
    clock.jitter_s = 0.022
    robot.says("'/clock' jitters by", 15)
    clock.jitter_s = 0.0
    values = {v.key: v.value for v in robot.diagnostics[-1].status[0].values}
    assert int(values["clock_jumps"]) >= 1
    assert float(values["clock_jitter_ms"]) > 0

    other = Clock(robot.node)
    try:
        robot.says("holding: several publishers send '/clock'", 15)
    finally:
        other.close()
