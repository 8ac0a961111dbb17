"""The policy node's reports as messages: Plan, SolverStatus, DiagnosticArray. What to report is the node's matter."""

from __future__ import annotations

import array
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from difftop_ros.msg import Plan, SolverStatus
from difftop_ros.runtime.control import ControlReport
from difftop_ros.runtime.plan import TimedPlan
from difftop_ros.runtime.planner import Attempt

LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


def time_message(time_ns: int) -> Time:
    """builtin_interfaces/Time of `time_ns` [ns], 0 for times before zero."""
    sec, nanosec = divmod(max(time_ns, 0), 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def plan_message(plan: TimedPlan) -> Plan:
    """The Plan message of an accepted plan."""
    sec, nanosec = divmod(round(plan.step_s * 1e9), 1_000_000_000)
    message = Plan()
    message.header.stamp = time_message(plan.stamp_ns)
    message.sequence = plan.sequence
    message.joint_names = list(plan.names)
    message.mode = plan.mode
    message.step = Duration(sec=sec, nanosec=nanosec)
    message.horizon = len(plan.actions)
    message.targets = array.array("d", np.ascontiguousarray(plan.actions, dtype=np.float64).tobytes())
    message.predicted_cost = plan.predicted_cost
    return message


def status_message(
    attempt: Attempt | None, report: ControlReport, *, stamp_ns: int, state: str, hold_reason: str, plans: int
) -> SolverStatus:
    """What planner and control did last; fields of a planner that has not run are zero."""
    message = SolverStatus()
    message.header.stamp = time_message(stamp_ns)
    message.state = state
    if attempt is not None:
        message.sequence = attempt.sequence
        message.message = attempt.reason
        solution = attempt.solution
        if solution is not None:
            message.status = solution.status
            message.message = attempt.reason or solution.message
            message.iterations = max(solution.iterations, 0)
            message.initial_cost, message.final_cost = solution.initial_cost, solution.final_cost
            message.gradient_norm = solution.gradient_norm
            message.observe_ms, message.encode_ms = solution.observe_ms, solution.encode_ms
            message.solve_ms, message.observation_age_ms = solution.solve_ms, solution.age_ms
    for name in ("read", "select", "gate", "publish"):
        setattr(message, f"{name}_ms", report.step_ms[name])
    message.holding, message.hold_reason = bool(hold_reason), hold_reason
    message.ticks, message.ticks_lost = report.ticks, report.ticks_lost
    message.commands_published, message.plans = report.published, plans
    return message


def diagnostics_message(
    stamp_ns: int, name: str, hardware: str, level: str, sentence: str, values: Mapping[str, Any]
) -> DiagnosticArray:
    """One status; `level` is 'ok', 'warn' or 'error'. Numbers are shown with three significant decimals."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.3f}"
        return str(value)

    status = DiagnosticStatus(
        level=LEVELS[level], name=name, message=sentence, hardware_id=hardware,
        values=[KeyValue(key=key, value=text(value)) for key, value in values.items()],
    )  # fmt: skip
    message = DiagnosticArray(status=[status])
    message.header.stamp = time_message(stamp_ns)
    return message
