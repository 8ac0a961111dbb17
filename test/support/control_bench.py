"""A control loop whose time, joints and plans a test moves; no ROS."""

from __future__ import annotations

from typing import Any

import numpy as np

from difftop_ros.contract import Command
from difftop_ros.runtime.clock import Pacer, SystemTime, Tick
from difftop_ros.runtime.control import ControlLoop
from difftop_ros.runtime.joints import JointReading
from difftop_ros.runtime.plan import Continuation, PlanBuffer, TimedPlan
from difftop_ros.safety import CommandGate, GateSettings, HoldSupervisor, MotionLimits, MotionShaper, make_checks
from difftop_ros.safety.handover import HandOver

NAMES = ("a", "b")
S = 1_000_000_000
DT = 20_000_000


def command(mode: str = "position") -> Command:
    joints = [{"name": n, "position": [-2, 2], "velocity": 2.0, "acceleration": 40.0, "step": 0.1} for n in NAMES]
    return Command.model_validate({"topic": "/c", "type": "sensor_msgs/msg/JointState", "mode": mode, "joints": joints})


def plan(stamp_ns: int, actions: Any, mode: str = "position") -> TimedPlan:
    return TimedPlan(stamp_ns, 0.05, np.array(actions, dtype=float), NAMES, mode)


class Bench:
    """A control loop without thread: the test feeds joints and plans and moves the time tick by tick."""

    def __init__(self, mode: str = "position", **supervision: Any) -> None:
        self.now = 10 * S
        self.position, self.age_ms, self.fault = np.array([0.1, -0.1]), 5.0, ""
        self.sent: list[np.ndarray] = []
        settings = GateSettings(max_plan_age_ms=300, max_measured_age_ms=100, tracking_s=0.25)
        self.gate = CommandGate(MotionLimits.of(command(mode), 50), make_checks(settings))
        self.plans = PlanBuffer(0.1)
        self.hold = HoldSupervisor(**{"resume_after": 2, "max_failures": 5, "window_s": 10.0, **supervision})
        self.follow, self.intervened = True, False
        self.loop = ControlLoop(
            gate=self.gate, shaper=MotionShaper(self.gate.limits), supervisor=self.hold, plans=self.plans,
            continuation=Continuation(self.plans, 4, 0.05),
            pacer=Pacer(SystemTime(), 0.02), read_joints=self.read, publish=self.publish,
            handover=HandOver(self.gate.limits, lambda: self.intervened),
        )  # fmt: skip

    def read(self, _time_ns: int) -> JointReading:
        return JointReading(self.position.copy(), self.age_ms, self.fault)

    def publish(self, values: np.ndarray) -> None:
        self.sent.append(values.copy())
        if self.follow and self.gate.limits.mode == "position":
            self.position = values.copy()

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.now += DT
            self.loop.tick(Tick(self.now, 0.0, 0))

    def plan(self, target: list[float], mode: str = "position") -> None:
        self.plans.push(plan(self.now, [target] * 4, mode), self.now)
