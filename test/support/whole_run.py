"""A whole run without ROS for tests: a worker that wants the same always, joints that are published, commands kept."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.errors import UserError
from difftop_ros.plan_result import PlanResult, WarmStart
from difftop_ros.runtime.clock import SystemTime
from difftop_ros.runtime.joints import JointReader
from difftop_ros.runtime.plan import TimedPlan
from difftop_ros.runtime.run import Run, RunSettings
from difftop_ros.runtime.streams import Request, StreamBuffers
from difftop_ros.runtime.worker import PolicyFacts
from difftop_ros.safety.checks import DEFAULT_CHECKS
from tools.patience import patience

TOPIC = "/joints"
SETTINGS: dict[str, Any] = {
    "deadline_ms": 20.0, "planner_rate_hz": 0.0, "sync_ms": 100.0, "blend_ms": 50.0, "lookahead_ms": 0.0,
    "realtime_chunking": False, "delay_quantile": 0.75, "max_delay_steps": 4.0,
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

    def solve(self, request: Request, warm_start: WarmStart | None, deadline_ms: float | None) -> PlanResult:
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

    def beside(self, values: np.ndarray, holding: bool) -> None:
        pass

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

    def make(
        self, mode: str = "velocity", want: float = 0.3, fault: str = "", worker: Any = None, **changes: Any
    ) -> Run:
        """worker: made of the contract, in place of one that wants the same always."""
        contract = parse_contract(CONTRACT.format(mode=mode))
        streams = StreamBuffers({TOPIC: "sensor_msgs/msg/JointState"}, (), 1.0)
        self.push(streams)
        self.worker = Worker(contract, want)
        self.worker.fault = fault
        joints = JointReader(contract, streams, self._deserialize)
        worker = worker(contract) if worker else self.worker
        settings = RunSettings(**{**SETTINGS, **changes})
        run = Run(
            contract, worker, SystemTime(), streams, joints, settings, self.outlet,
            lambda result, plan: self.results.append((result, plan)),
        )  # fmt: skip
        self.streams = streams
        return run

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + patience(20)
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5.0)
