"""The policy node's lifecycle: what is made, checked, started and stopped at each transition.

Import after ros_env.prepare(). The work itself is elsewhere: planner.py, control.py, policy_worker.py; messages in
policy_report.py; parameters in policy_params.py; process entry and signals in policy_node.py. Callbacks of this node
only store messages or look at counters: one SingleThreadedExecutor serves them all.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage

from difftop_ros.contract import Contract, load_contract
from difftop_ros.errors import UserError
from difftop_ros.messages.commands import array_to_command
from difftop_ros.msg import Plan, SolverStatus
from difftop_ros.nodes.policy import report as reports
from difftop_ros.nodes.policy.parameters import NODE_NAME, PARAMS, descriptor
from difftop_ros.nodes.topics import deserialize, message_class
from difftop_ros.runtime.clock import Pacer, SimTime, SystemTime
from difftop_ros.runtime.control import STEPS, ControlLoop
from difftop_ros.runtime.plan import PlanBuffer
from difftop_ros.runtime.planner import Attempt, PlannerLoop, Solution
from difftop_ros.runtime.streams import JointReader, StreamBuffers
from difftop_ros.runtime.worker import (
    PolicyWorker,
    ProcessWorker,
    WorkerOptions,
    load_worker,
)
from difftop_ros.safety import CommandGate, GateSettings, HoldSupervisor, MotionLimits, MotionShaper, make_checks

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
WARN_EVERY_S = 2.0


class PolicyNode(LifecycleNode):
    """A trained policy on a robot. `refusal` is the sentence of the last refused transition, '' after a good one.

    `finished` becomes True when autostart has nothing more to try; `exit_code` then tells how it went.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__(NODE_NAME, **node_options)
        self.state = "unconfigured"
        self.add_on_set_parameters_callback(self._on_parameters)
        for param in PARAMS:
            self.declare_parameter(param.name, param.default, descriptor(param))
        self.contract: Contract | None = None
        self.control: ControlLoop | None = None
        self.planner: PlannerLoop | None = None
        self.supervisor = HoldSupervisor(1, 1, 1.0)
        self.refusal = ""
        self.why_stopped = ""
        self.finished, self.exit_code = False, 0
        self.attempt: Attempt | None = None
        self._worker: PolicyWorker | ProcessWorker | None = None
        self._entities: list[Any] = []
        self._sync_ns = 0
        self._source: SystemTime | SimTime = SystemTime()
        self._said: dict[str, float] = {}
        self._begun = time.monotonic()
        self._level = ""
        self._diagnosed = 0.0
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # Steady clocks: these timers must run when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch = self.create_timer(1.0 / self._value("report_rate_hz"), self._on_watch, clock=steady)
        if self._value("autostart"):
            self._starter = self.create_timer(0.2, self._on_autostart, clock=steady)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        choices = {p.name: p.choices for p in PARAMS if p.choices}
        own = {p.name for p in PARAMS}
        for change in changes:
            if change.name in choices and change.value not in choices[change.name]:
                allowed = ", ".join(choices[change.name])
                return SetParametersResult(successful=False, reason=f"{change.name} is one of {allowed}")
            if change.name in own and self.state == "active":
                return SetParametersResult(successful=False, reason=f"deactivate first, then set {change.name}")
        return SetParametersResult(successful=True)

    # ---------------------------------------------------------------- transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load policy and contract, check that they fit, warm up, subscribe."""
        return self._attempt("configure", self._configure, "inactive", undo=self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check that every stream is fresh and the pose is allowed, then start planner and control."""
        return self._attempt("activate", self._activate, "active", undo=self._stop_workers)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the workers (bounded), then send the safe command."""
        self._stop_workers()
        self.state = "inactive"
        self._diagnose()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back all that configure made."""
        self._release()
        self.state = "unconfigured"
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop safely from whatever state."""
        self._stop_workers()
        self._release()
        self.state = "finalized"
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected exception: stop safely and begin anew from unconfigured."""
        self._stop_workers()
        self._release()
        self.state = "unconfigured"
        self.refusal = self.refusal or "an unexpected error stopped the transition; see the log"
        return SUCCESS

    def _attempt(self, name: str, work: Any, state: str, undo: Any) -> TransitionCallbackReturn:
        """Run one transition; a UserError becomes FAILURE with its sentence in the log and in /diagnostics."""
        try:
            work()
        except UserError as error:
            undo()
            self.refusal = f"cannot {name}: {error}"
            self.get_logger().error(self.refusal)
            self._diagnose()
            return FAILURE
        except Exception as error:
            self.refusal = f"cannot {name}: unexpected {type(error).__name__}: {error}"
            self.get_logger().error(self.refusal)
            undo()
            raise
        self.refusal = ""
        self.state = state
        self._diagnose()
        return SUCCESS

    def _configure(self) -> None:
        if not self._value("model"):
            raise UserError("parameter 'model' is empty; give the folder of a trained policy (models/<name>)")
        path = self._value("contract")
        asked = load_contract(path) if path else None
        options = WorkerOptions(
            model=self._value("model"), decode=deserialize, contract=asked.to_yaml() if asked else "",
            device=self._value("device"),
            torch_threads=self._value("torch_threads"), prepare_solve=self._value("prepare_solve"),
        )  # fmt: skip
        self._worker = ProcessWorker(options) if self._value("planner_process") else load_worker(options)
        self._contract_in_force(asked or self._worker.facts.contract)

    def _contract_in_force(self, contract: Contract) -> None:
        """Make what the contract asks for: time source, buffers, subscriptions, publishers."""
        self.contract = contract
        assert self._worker is not None
        topics = _needed_topics(contract)
        for kind in (*topics.values(), contract.command.type):
            message_class(kind)
        self._source = SimTime() if self._value("use_sim_time") else SystemTime()
        oldest_ms = max(o.max_age_ms for o in contract.observations.values())
        history_s = self._worker.facts.obs_steps / contract.rate_hz
        self._buffers = StreamBuffers(topics, contract.clock, history_s + oldest_ms / 1e3)
        self._reader = JointReader(contract, self._buffers, deserialize)
        if isinstance(self._source, SimTime):
            self._entities.append(self.create_subscription(ClockMessage, "/clock", self._on_clock, SENSOR_QOS))
        for topic, kind in topics.items():
            callback = self._storing(topic)
            self._entities.append(self.create_subscription(message_class(kind), topic, callback, SENSOR_QOS, raw=True))
        command = message_class(contract.command.type)
        self._command = self.create_publisher(command, contract.command.topic, COMMAND_QOS)
        self._plan = self.create_publisher(Plan, "/difftop/plan", 1)
        self._status = self.create_publisher(SolverStatus, "/difftop/solver_status", 10)
        self._entities += [self._command, self._plan, self._status]

    def _on_clock(self, message: ClockMessage) -> None:
        if isinstance(self._source, SimTime):
            self._source.update(message.clock.sec * 1_000_000_000 + message.clock.nanosec)

    def _storing(self, topic: str) -> Any:
        def store(raw: bytes) -> None:
            now = self._source.now_ns()
            self._buffers.push(topic, raw, now)
            if self.planner is not None:
                self.planner.offer(self._buffers.synchronised_ns(now, self._sync_ns))

        return store

    def _activate(self) -> None:
        contract, worker = self.contract, self._worker
        assert contract is not None and worker is not None
        if self.planner is not None and not self.planner.stop(0.0):
            raise UserError("the planner of the last run is still in its solve; try again in a moment")
        reason = self.not_ready()
        if reason:
            raise UserError(reason)
        worker.reset()
        steps, step_s = worker.facts.obs_steps, 1.0 / contract.rate_hz
        worker.observe(self._buffers.request(self._source.now_ns(), steps, step_s))
        settings = GateSettings(self._value("max_plan_age_ms"), self._reader.max_age_ms, self._value("tracking_s"))
        gate = CommandGate(MotionLimits.of(contract.command, contract.control_rate_hz), make_checks(settings))
        reading = self._reader.read(self._source.now_ns())
        start, why = gate.start_position(reading.position)
        if reading.fault or start is None:
            raise UserError(reading.fault or why)
        self._start_workers(gate, steps, step_s)

    def _start_workers(self, gate: CommandGate, steps: int, step_s: float) -> None:
        contract, worker, source, buffers = self.contract, self._worker, self._source, self._buffers
        assert contract is not None and worker is not None
        deadline_ms = self._value("deadline_ms")
        plans = PlanBuffer(self._value("blend_ms") / 1e3)
        self.supervisor = supervisor = HoldSupervisor(
            self._value("resume_after_frames"), self._value("max_failures"), self._value("failure_window_s")
        )

        self._sync_ns = most_ns = round(self._value("sync_ms") * 1e6)

        def work(warm_start: Any) -> Solution:
            now = source.now_ns()
            buffers.refuse_stale(contract, now)
            at = buffers.synchronised_ns(now, most_ns)
            solution = worker.solve(buffers.request(at, steps, step_s), warm_start(at), deadline_ms)
            return dataclasses.replace(solution, age_ms=solution.age_ms + (now - at) / 1e6)

        def publish(values: np.ndarray) -> None:
            self._command.publish(array_to_command(contract, values, source.now_ns(), message_class))

        before = buffers.numbers()

        def streams_ready() -> bool:
            return all(number > before[topic] for topic, number in buffers.numbers().items())

        rate = self._value("planner_rate_hz") or contract.rate_hz
        self.planner = PlannerLoop(
            work=work, plans=plans, supervisor=supervisor, limits=gate.limits, source=source, step_s=step_s,
            period_s=1.0 / rate, horizon=worker.facts.horizon, on_attempt=self._on_attempt,
            streams_ready=streams_ready,
        )  # fmt: skip
        self.control = ControlLoop(
            gate=gate, shaper=MotionShaper(gate.limits), supervisor=supervisor, plans=plans,
            pacer=Pacer(source, gate.limits.dt), read_joints=self._reader.read, publish=publish,
            lookahead_s=self._value("lookahead_ms") / 1e3, on_jump=buffers.clear,
        )  # fmt: skip
        self.why_stopped = ""
        self.attempt = None
        # Torch and callbacks hold the interpreter lock in short turns: let the control thread have it within 1 ms.
        sys.setswitchinterval(0.001)
        # What lives now lives on: the collector need not walk through it, for tens of milliseconds, at some tick.
        gc.collect()
        gc.freeze()
        self.planner.start()
        self.control.start()

    def _stop_workers(self) -> None:
        """Stop following, decelerate, end both threads within bounds, then leave the safe command behind."""
        control, planner = self.control, self.planner
        if control is None:
            return
        if planner is not None:
            planner.stop(0.0)  # no plan is accepted from here on; its thread is joined below
        if not control.stop():
            self.get_logger().error("the control thread did not end in time; sending the safe command beside it")
        if planner is not None and not planner.stop(2.0):
            self.get_logger().warning("the planner is still in its solve; its plan will be ignored")
        safe = control.safe_command()
        if safe is not None and control.started and self.contract is not None:
            now = self._source.now_ns()
            self._command.publish(array_to_command(self.contract, safe, now, message_class))
        self.last_control = control
        self.control = None

    last_control: ControlLoop | None = None

    def _release(self) -> None:
        for entity in self._entities:
            destroy = self.destroy_publisher if hasattr(entity, "publish") else self.destroy_subscription
            destroy(entity)
        self._entities = []
        if self._worker is not None:
            self._worker.close()
        self._worker = None
        self.contract = None
        self.planner = None

    # ---------------------------------------------------------------- readiness and supervision

    def not_ready(self) -> str:
        """Why the streams do not allow activation, '' if they may: clock, publishers, types, first messages."""
        assert self.contract is not None
        if isinstance(self._source, SimTime) and not self._source.started:
            return "use_sim_time is set, but nothing was received on '/clock'; start the simulation or unset it"
        missing = self._buffers.missing()
        if not missing:
            return ""
        known = dict(self.get_topic_names_and_types())
        sentences = []
        for topic in missing:
            expected = self._buffers.topics[topic]
            others = [kind for kind in known.get(topic, []) if kind != expected]
            if others:
                sentences.append(f"topic '{topic}' carries {', '.join(others)}, the contract expects {expected}")
            elif self.count_publishers(topic) == 0:
                sentences.append(f"nothing publishes '{topic}' ({expected})")
            else:
                sentences.append(f"'{topic}' is announced, but no message was received")
        return "; ".join(sentences) + "; start the publisher or correct the contract's topic"

    def _on_attempt(self, attempt: Attempt) -> None:
        """Planner thread: publish the plan and the status of one attempt."""
        self.attempt = attempt
        if attempt.plan is not None:
            self._plan.publish(reports.plan_message(attempt.plan))
        self._publish_status(attempt)

    def _publish_status(self, attempt: Attempt | None) -> None:
        control, planner = self.control, self.planner
        if control is None or planner is None:
            return
        stamp_ns = attempt.stamp_ns if attempt is not None else self._source.now_ns()
        self._status.publish(
            reports.status_message(
                attempt,
                control.report,
                stamp_ns=stamp_ns,
                state=self.state,
                hold_reason=self.supervisor.reason,
                plans=planner.accepted,
            )
        )

    def _on_watch(self) -> None:
        """Report, and deactivate when a worker has failed or holds have become too frequent."""
        if self.state == "active" and self.control is not None and self.planner is not None:
            if self.supervisor.holding:
                self._publish_status(self.attempt)
                self._say("hold", f"holding: {self.supervisor.reason}")
            why = self.control.failure or self.planner.failure or self.supervisor.exhausted
            if why:
                self.why_stopped = self.why_stopped or why
                self.get_logger().error(f"deactivating: {why}")
                self.trigger_deactivate()
        level = self._state_of_health()[0]
        if level != self._level or time.monotonic() - self._diagnosed >= 1.0:
            self._diagnose()

    def _on_autostart(self) -> None:
        """Configure once, activate as soon as it can be done, end when that cannot be."""
        if self.finished or self.state == "active":
            return
        if self.why_stopped:
            self.finished, self.exit_code = True, 3
            return
        if self.state == "unconfigured":
            if self.trigger_configure() != SUCCESS:
                self.finished, self.exit_code = True, 2
            self._begun = time.monotonic()
            return
        reason = self.not_ready()
        if not reason and self.trigger_activate() == SUCCESS:
            self.get_logger().info("active")
            return
        self._say("wait", f"waiting: {reason or self.refusal}")
        if time.monotonic() - self._begun > self._value("start_timeout_s"):
            self.refusal = f"not active after {self._value('start_timeout_s'):g} s: {reason or self.refusal}"
            self.get_logger().error(self.refusal)
            self.finished, self.exit_code = True, 2

    def _say(self, topic: str, sentence: str) -> None:
        """Warn, the same matter at most every 2 seconds."""
        now = time.monotonic()
        if now - self._said.get(topic, 0.0) >= WARN_EVERY_S:
            self._said[topic] = now
            self.get_logger().warning(sentence)

    def _state_of_health(self) -> tuple[str, str]:
        if self.why_stopped:
            return "error", f"deactivated: {self.why_stopped}"
        if self.refusal and self.state != "active":
            return "error", self.refusal
        if self.supervisor.holding and self.state == "active":
            return "warn", f"holding: {self.supervisor.reason}"
        if self.state == "active" and self.contract and self.count_publishers(self.contract.command.topic) > 1:
            return "warn", f"others publish '{self.contract.command.topic}' too; only one may command the robot"
        return "ok", self.state

    def _diagnose(self) -> None:
        self._diagnosed = time.monotonic()
        level, sentence = self._state_of_health()
        self._level = level
        hardware = (self.contract.robot or self.contract.name) if self.contract else ""
        now = self.get_clock().now().nanoseconds
        self._diagnostics.publish(
            reports.diagnostics_message(now, NODE_NAME, hardware, level, sentence, self.figures())
        )

    def figures(self) -> dict[str, Any]:
        """What /diagnostics and `difftop run` show of the present or last run."""
        control, planner = self.control or self.last_control, self.planner
        shown: dict[str, Any] = {"state": self.state, "hold_reason": self.supervisor.reason}
        if control is not None:
            p50, p99, worst = control.lateness_ms.percentiles(50, 99, 100)
            report = control.report
            shown |= {
                "ticks": report.ticks, "ticks_lost": report.ticks_lost, "commands_published": report.published,
                "lateness_p50_ms": p50, "lateness_p99_ms": p99, "lateness_max_ms": worst,
                "plan_age_ms": report.plan_age_ms, "behind_plan_s": report.lag,
            }  # fmt: skip
            shown |= {f"{step}_ms": report.step_ms[step] for step in STEPS}
            shown |= {f"{step}_max_ms": report.worst_ms[step] for step in STEPS}
        if planner is not None:
            shown |= {"plans": planner.accepted, "plan_attempts": planner.sequence}
        solution = self.attempt.solution if self.attempt is not None else None
        if solution is not None:
            shown |= {"solver_status": solution.status, "observe_ms": solution.observe_ms,
                      "encode_ms": solution.encode_ms, "solve_ms": solution.solve_ms}  # fmt: skip
        if isinstance(self._source, SimTime):
            shown["real_time_factor"] = self._source.rate
        return shown

    def end(self) -> None:
        """Stop safely from whatever state; for signals and the end of the process."""
        self._stop_workers()
        self._release()
        self.state = "finalized"


def _needed_topics(contract: Contract) -> dict[str, str]:
    from difftop_ros.messages import ObservationPipeline

    return dict(ObservationPipeline(contract).topics)
