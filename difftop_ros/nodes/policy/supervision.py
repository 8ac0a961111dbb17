"""What goes on beside a run: reports, /diagnostics, deactivation of what has failed, and starting by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import TransitionCallbackReturn

from difftop_ros.nodes.policy import report
from difftop_ros.plan_result import PlanResult
from difftop_ros.runtime.clock import SimTime
from difftop_ros.runtime.plan import TimedPlan

if TYPE_CHECKING:
    from difftop_ros.nodes.policy.lifecycle import PolicyNode

SUCCESS = TransitionCallbackReturn.SUCCESS
WARN_EVERY_S = 2.0
FAILED, STOPPED_ITSELF = 2, 3  # exit codes
ANSWER_S = 0.5  # that the process stays after its last transition, whose answer is still on its way


def steady_clock() -> Clock:
    """For timers that must run when simulated time stands still."""
    return Clock(clock_type=ClockType.STEADY_TIME)


class Supervision:
    """Publishes plans, SolverStatus and /diagnostics; deactivates the node when its run cannot go on."""

    def __init__(self, node: PolicyNode) -> None:
        self._node = node
        self._level = ""
        self._diagnosed = 0.0
        self._said: dict[str, float] = {}
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        node.create_timer(1.0 / node.value("report_rate_hz"), self._on_timer, clock=steady_clock())

    def on_result(self, result: PlanResult, plan: TimedPlan | None) -> None:
        """Planner thread: publish the plan, if it is followed, and the status of one round."""
        connections = self._node.connections
        if plan is not None and connections is not None:
            connections.plan.publish(report.plan_message(plan))
        self._draw(result, plan)
        self._publish_status(result)

    def _draw(self, result: PlanResult, plan: TimedPlan | None) -> None:
        node, run, connections = self._node, self._node.run, self._node.connections
        if connections is None or run is None or connections.markers.get_subscription_count() == 0:
            return
        message = node.drawing.message(result, plan, run.control.last)
        if message is not None:
            connections.markers.publish(message)

    def _publish_status(self, result: PlanResult | None) -> None:
        run, connections = self._node.run, self._node.connections
        if run is None or connections is None or not self._node.running:
            return
        connections.status.publish(
            report.status_message(
                result or PlanResult(stamp_ns=self._node.source.now_ns()), run.control.report, state=self._node.state,
                hold_reason=run.supervisor.reason, plans=run.planner.accepted,
            )
        )  # fmt: skip

    def _on_timer(self) -> None:
        """Report, and deactivate when a worker has failed or holds have become too frequent."""
        node, run = self._node, self._node.run
        if node.state == "active" and run is not None and node.connections is not None:
            command = node.connections.command
            run.objection = node.connections.crowded() or (command.fault() if command is not None else "")
            node.tasks.turn()
            if run.supervisor.holding:
                self._publish_status(run.result)
                if not run.supervisor.waits:
                    self.say("hold", f"holding: {run.supervisor.reason}")
            if run.failure:
                node.why_stopped = node.why_stopped or run.failure
                node.get_logger().error(f"deactivating: {run.failure}")
                node.trigger_deactivate()
        if self._health()[0] != self._level or time.monotonic() - self._diagnosed >= 1.0:
            self.diagnose()

    def say(self, topic: str, sentence: str) -> None:
        """Warn, the same matter at most every 2 seconds."""
        now = time.monotonic()
        if now - self._said.get(topic, 0.0) >= WARN_EVERY_S:
            self._said[topic] = now
            self._node.get_logger().warning(sentence)

    def _health(self) -> tuple[str, str]:
        node, active = self._node, self._node.state == "active"
        if node.why_stopped:
            return "error", f"deactivated: {node.why_stopped}"
        if node.refusal and not active:
            return "error", node.refusal
        if active and node.run is not None and node.run.objection:
            return "error", f"holding: {node.run.objection}"
        if active and node.run is not None and node.run.supervisor.holding:
            waits = node.run.supervisor.waits
            return "ok" if waits else "warn", f"holding: {node.run.supervisor.reason}"
        if isinstance(node.source, SimTime) and (odd := node.source.odd()):
            return "warn", f"{node.state}: {odd}"
        return "ok", node.state

    def diagnose(self) -> None:
        """Publish /diagnostics now."""
        node, contract = self._node, self._node.contract
        self._diagnosed = time.monotonic()
        level, sentence = self._health()
        self._level = level
        hardware = (contract.robot.name or contract.name) if contract else ""
        now = node.get_clock().now().nanoseconds
        name = node.get_fully_qualified_name().lstrip("/")  # tells two robots' diagnostics apart
        self._diagnostics.publish(report.diagnostics_message(now, name, hardware, level, sentence, node.figures()))


class Autostart:
    """Configures once, activates once as soon as it can be done, and ends the node (`finished`) when that cannot be.

    A node that was active and is deactivated by somebody stays so: who asks for a stop does not want a start.
    """

    def __init__(self, node: PolicyNode, supervision: Supervision) -> None:
        self._node, self._supervision = node, supervision
        self._begun = time.monotonic()
        self.finished, self.exit_code = False, 0
        self._done, self._final = False, 0.0
        if node.value("autostart"):
            node.create_timer(0.2, self._on_timer, clock=steady_clock())

    def _finish(self, exit_code: int) -> None:
        self.finished, self.exit_code = True, exit_code

    def _on_timer(self) -> None:
        node = self._node
        self._done = self._done or node.state == "active"
        if self.finished or node.state == "active":
            return
        if node.why_stopped or node.state == "finalized":
            self._final = self._final or time.monotonic()
            if time.monotonic() - self._final > ANSWER_S:
                self._finish(STOPPED_ITSELF if node.why_stopped else 0)
            return
        if self._done:
            return
        if node.state == "unconfigured":
            if node.trigger_configure() != SUCCESS:
                self._finish(FAILED)
            self._begun = time.monotonic()
            return
        if not node.value("resume_motion") and (left := node.left_unfinished()):
            node.refusal = left  # no time-out: it waits for a person
            self._supervision.say("left", left)
            return
        reason = node.not_ready()
        if not reason and node.trigger_activate() == SUCCESS:
            node.get_logger().info("active")
            self._done = True
            return
        self._supervision.say("wait", f"waiting: {reason or node.refusal}")
        patience_s = node.value("start_timeout_s")
        if time.monotonic() - self._begun > patience_s:
            node.refusal = f"not active after {patience_s:g} s: {reason or node.refusal}"
            node.get_logger().error(node.refusal)
            self._finish(FAILED)
