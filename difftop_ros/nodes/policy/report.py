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
from difftop_ros.plan_result import PlanResult
from difftop_ros.runtime.control import ControlReport
from difftop_ros.runtime.plan import TimedPlan

LEVELS = {"ok": DiagnosticStatus.OK, "warn": DiagnosticStatus.WARN, "error": DiagnosticStatus.ERROR}


def time_message(time_ns: int) -> Time:
    """builtin_interfaces/Time of `time_ns` [ns], 0 for times before zero."""
    sec, nanosec = divmod(max(time_ns, 0), 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def plan_message(plan: TimedPlan) -> Plan:
    """The Plan message of an accepted plan."""
    sec, nanosec = divmod(round(plan.step_s * 1e9), 1_000_000_000)
    message = Plan()
    message.header.stamp = time_message(plan.start_ns)
    message.sequence = plan.sequence
    message.joint_names = list(plan.names)
    message.mode = plan.mode
    message.step = Duration(sec=sec, nanosec=nanosec)
    message.horizon = len(plan.actions)
    message.targets = array.array("d", np.ascontiguousarray(plan.actions, dtype=np.float64).tobytes())
    message.predicted_cost = plan.predicted_cost
    return message


def status_message(
    result: PlanResult, report: ControlReport, *, state: str, hold_reason: str, plans: int
) -> SolverStatus:
    """What planner (`result`: its last round) and control did last. Of a planner that has not run, fields are zero."""
    message = SolverStatus()
    message.header.stamp = time_message(result.stamp_ns)
    message.state = state
    message.sequence = result.sequence
    message.status = result.status
    message.message = result.refusal or result.message
    message.iterations = max(result.iterations, 0)
    message.initial_cost, message.final_cost = result.initial_cost, result.final_cost
    message.gradient_norm, message.novelty = result.gradient_norm, result.novelty
    message.term_names, message.term_costs = list(result.term_names), list(result.term_costs)
    message.clearance, message.clearance_between = result.clearance, result.clearance_between
    message.observe_ms, message.encode_ms = result.observe_ms, result.encode_ms
    message.solve_ms, message.observation_age_ms = result.solve_ms, result.age_ms
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
