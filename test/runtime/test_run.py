"""A whole run without ROS: streams in, commands out, what it refuses, and that it ends with a farewell at rest."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.errors import UserError
from difftop_ros.plan_result import PlanResult
from difftop_ros.runtime.clock import SystemTime
from difftop_ros.runtime.joints import JointReader
from difftop_ros.runtime.plan import TimedPlan
from difftop_ros.runtime.run import Run, RunSettings
from difftop_ros.runtime.streams import Request, StreamBuffers
from difftop_ros.runtime.worker import PolicyFacts
from difftop_ros.safety.checks import DEFAULT_CHECKS

TOPIC = "/joints"
SETTINGS: dict[str, Any] = {
    "deadline_ms": 20.0, "planner_rate_hz": 0.0, "sync_ms": 100.0, "blend_ms": 50.0, "lookahead_ms": 0.0,
    "checks": DEFAULT_CHECKS, "max_plan_age_ms": 2000.0, "max_plan_excess": 0.0, "max_novelty": 3.0,
    "max_outside": 0.5, "tracking_s": 60.0,
    "resume_after_frames": 1, "max_failures": 3, "failure_window_s": 10.0, "max_overruns": 50,
}  # fmt: skip
CONTRACT = """
name: two
rate_hz: 20
control_rate_hz: 50
command:
  topic: /command
  type: std_msgs/msg/Float64MultiArray
  mode: {mode}
  joints:
    - {{name: a, position: [-2, 2], velocity: 1.0, acceleration: 20.0}}
    - {{name: b, position: [-2, 2], velocity: 1.0, acceleration: 20.0}}
observations:
  state: {{kind: joint_state, topic: /joints, joints: [a, b], max_age_ms: 5000}}
"""


class Worker:
    """A policy that always wants the same; `act(request)` may raise instead."""

    def __init__(self, contract: Contract, want: float) -> None:
        self.facts = PolicyFacts(1, 4, contract)
        self.want = want
        self.fault = ""
        self.novelty, self.outside = -1.0, 0.0

    def reset(self) -> None: ...

    def observe(self, request: Request) -> None:
        if self.fault:
            raise UserError(self.fault)

    def solve(self, request: Request, warm_start: np.ndarray | None, deadline_ms: float | None) -> PlanResult:
        self.observe(request)
        assert deadline_ms == 20.0
        seen = {
            "outside": self.outside,
            "novelty": self.novelty,
            "novelty_of": "camera colours",
            "stamp_ns": request.times_ns[-1],
        }
        return PlanResult(np.full((4, 2), self.want), "CONVERGED", solve_ms=1.0, **seen)


class Outlet:
    """Keeps what is sent, in order, and by which way."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, np.ndarray]] = []

    def send(self, values: np.ndarray) -> None:
        self.sent.append(("send", values.copy()))

    def farewell(self, values: np.ndarray) -> str:
        self.sent.append(("farewell", values.copy()))
        return "nobody heard it"


class Robot:
    """Streams of two joints that stand at (0.1, -0.1), and a run made on demand."""

    def __init__(self) -> None:
        self.position = np.array([0.1, -0.1])
        self.results: list[tuple[PlanResult, TimedPlan | None]] = []
        self.outlet = Outlet()
        self._ended = threading.Event()
        self.streams: StreamBuffers | None = None
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def push(self, streams: StreamBuffers) -> None:
        now = time.time_ns()
        streams.push(TOPIC, b"\x00\x01\x00\x00" + struct.pack("<iI", *divmod(now, 1_000_000_000)), now)

    def _deserialize(self, raw: bytes, kind: str) -> Any:
        noise = 1e-7 * (time.monotonic_ns() % 10)  # without an encoder's last bits it would be taken for frozen
        return SimpleNamespace(name=["a", "b"], position=self.position + noise)

    def _publish(self) -> None:
        while not self._ended.wait(0.01):
            if self.streams is not None:
                self.push(self.streams)

    def make(self, mode: str = "velocity", want: float = 0.3, fault: str = "", **changes: Any) -> Run:
        contract = parse_contract(CONTRACT.format(mode=mode))
        streams = StreamBuffers({TOPIC: "sensor_msgs/msg/JointState"}, (), 1.0)
        self.push(streams)
        self.worker = Worker(contract, want)
        self.worker.fault = fault
        joints = JointReader(contract, streams, self._deserialize)
        worker: Any = self.worker
        settings = RunSettings(**{**SETTINGS, **changes})
        run = Run(
            contract, worker, SystemTime(), streams, joints, settings, self.outlet,
            lambda result, plan: self.results.append((result, plan)),
        )  # fmt: skip
        self.streams = streams
        return run

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5.0)


@pytest.fixture
def robot() -> Iterator[Robot]:
    double = Robot()
    yield double
    double.close()


@pytest.mark.parametrize("mode", ["velocity", "position"])
def test_a_run_moves_then_rests_and_its_farewell_is_the_last_word(mode: str, robot: Robot) -> None:
    run = robot.make(mode)
    run.start()
    robot.until(lambda: len(robot.outlet.sent) > 20)
    assert run.stop() == ["nobody heard it"]
    assert run.ended
    ways = [way for way, _ in robot.outlet.sent]
    values = np.array([v for _, v in robot.outlet.sent])
    assert ways == ["send"] * (len(ways) - 1) + ["farewell"]
    if mode == "velocity":
        assert values[:, 0].max() > 0.1
        np.testing.assert_array_equal(values[-2:], np.zeros((2, 2)))
        assert np.abs(np.diff(values, axis=0)).max() <= 20.0 / 50 + 1e-9, "slows down within its limits"
    else:
        assert values[0] == pytest.approx(robot.position, abs=1.0 / 50 + 1e-9)
        np.testing.assert_allclose(values[-1], values[-2])
    figures = run.figures()
    assert figures["solver_status"] == "CONVERGED" and figures["solve_ms"] == 1.0
    assert figures["plans"] == len([plan for _, plan in robot.results if plan is not None]) > 0
    assert [result.sequence for result, _ in robot.results] == list(range(1, len(robot.results) + 1))


def test_a_run_that_never_sent_anything_says_no_farewell(robot: Robot) -> None:
    run = robot.make()
    robot.worker.fault = "the camera is covered"
    run.start()
    robot.until(lambda: robot.results)
    assert run.stop() == []
    assert robot.outlet.sent == []
    result, plan = robot.results[0]
    assert (result.refusal, result.status, plan) == ("the camera is covered", "", None)
    assert run.supervisor.reason == "the camera is covered"


@pytest.mark.parametrize(
    ("changes", "position", "words"),
    [
        ({"fault": "observation 'state' is stale"}, [0.0, 0.0], "observation 'state' is stale"),
        ({}, [2.5, 0.0], "joint 'a' is measured at 2.5"),
        ({}, [np.nan, 0.0], "not finite for ['a']"),
        ({"checks": [*DEFAULT_CHECKS, "nobody's"]}, [0.0, 0.0], "'nobody's', which no installed package offers"),
    ],
)
def test_what_a_run_cannot_begin_with_is_a_sentence(
    changes: dict[str, Any], position: list[float], words: str, robot: Robot
) -> None:
    robot.position = np.array(position)
    with pytest.raises(UserError) as error:
        robot.make(**changes)
    assert words in str(error.value)


@pytest.mark.parametrize(("novelty", "most", "held"), [(3.5, 3.0, True), (2.5, 3.0, False), (50.0, 0.0, False)])
def test_an_observation_unlike_those_of_training_holds(novelty: float, most: float, held: bool, robot: Robot) -> None:
    run = robot.make(max_novelty=most)
    run.start()
    robot.until(lambda: run.planner.accepted)
    robot.worker.novelty = novelty
    robot.until(lambda: robot.results[-1][0].novelty == novelty)
    result, plan = robot.results[-1]
    robot.worker.novelty = 0.5
    sentence = (
        "the observation is not like those of training: novelty 3.5 of 'camera colours', max_novelty is 3; look at that"
        " sensor and the scene"
    )
    assert result.refusal == (sentence if held else "") and (plan is None) == held
    robot.until(lambda: robot.results[-1][0].novelty == 0.5 and not run.supervisor.holding)
    assert run.planner.refused == 0, "the plan is not to blame"
    run.stop()


def test_a_policy_that_asks_for_what_no_joint_can_do_is_refused_and_lesser_excess_is_counted(robot: Robot) -> None:
    run = robot.make()
    run.start()
    robot.until(lambda: run.planner.accepted)
    assert run.figures()["plans_clipped"] == 0
    robot.worker.outside = 0.2
    robot.until(lambda: run.figures()["plans_clipped"] > 2)
    assert not run.supervisor.holding
    robot.worker.outside = 1e9
    robot.until(lambda: run.supervisor.holding)
    assert run.supervisor.reason == (
        "the policy asks for 1e+09 times a joint's range outside its bounds, max_outside is 0.5; check the model, and "
        "that the contract is the one it was trained under"
    )
    robot.worker.outside = 0.0
    robot.until(lambda: not run.supervisor.holding)
    assert run.planner.refused > 0
    assert run.figures()["outside_worst"] == 1e9
    run.stop()


def test_frequent_holds_are_a_failure_of_the_run(robot: Robot) -> None:
    run = robot.make(max_failures=2)
    run.start()
    robot.until(lambda: robot.outlet.sent)
    holds = [lambda: run.supervisor.holding, lambda: not run.supervisor.holding, lambda: run.supervisor.holding]
    for fault, reached in zip(("covered", "", "covered again"), holds, strict=True):
        robot.worker.fault = fault
        robot.until(reached)
    assert run.failure == "held 2 times within 10 s, the last time because covered again"
    run.stop()
    assert robot.outlet.sent[-1][0] == "farewell"
    np.testing.assert_array_equal(robot.outlet.sent[-1][1], np.zeros(2))
