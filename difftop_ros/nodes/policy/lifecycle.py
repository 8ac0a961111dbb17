"""The policy node: what is made, checked, started and stopped at each transition of its lifecycle.

Import after environment.prepare(). Lives here: wiring alone. The work is runtime/run.py's, topics are in
connections.py, reports and deactivation in supervision.py, the process in node.py. Callbacks of this node only store
messages or look at counters: one SingleThreadedExecutor serves them all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from difftop_ros.contract import Contract, load_contract
from difftop_ros.contract.run_limits import RunLimits
from difftop_ros.errors import UserError
from difftop_ros.nodes.parameters import declare, refused
from difftop_ros.nodes.policy.connections import Connections
from difftop_ros.nodes.policy.drawing import Drawing
from difftop_ros.nodes.policy.parameters import NODE_NAME, PARAMETERS
from difftop_ros.nodes.policy.readiness import not_ready
from difftop_ros.nodes.policy.supervision import Autostart, Supervision
from difftop_ros.nodes.policy.task import TaskServer
from difftop_ros.nodes.topics import deserialize
from difftop_ros.runtime.clock import SimTime, SystemTime
from difftop_ros.runtime.joints import JointReader
from difftop_ros.runtime.run import Run, RunSettings
from difftop_ros.runtime.unfinished import UnfinishedRun
from difftop_ros.runtime.worker import PolicyWorker, ProcessWorker, WorkerOptions, load_worker
from difftop_ros.safety.checks import left_out
from difftop_ros.safety.guard import load_limits, make_guard

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """A trained policy on a robot. `refusal` is the sentence of the last refused transition, '' after a good one.

    `run` is the present run (if `running`) or the last one, `why_stopped` why the node itself ended it.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__(NODE_NAME, **node_options)
        for service in self.services:
            if service.srv_name.endswith("/change_state"):
                service.callback = self._in_turn(service.callback)
        self.state = "unconfigured"
        self.refusal = self.why_stopped = ""
        self.running = False
        declare(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.contract: Contract | None = None
        self.connections: Connections | None = None
        self.run: Run | None = None
        self.source: SystemTime | SimTime = SystemTime()
        self._unfinished: UnfinishedRun | None = None
        self._worker: PolicyWorker | ProcessWorker | None = None
        self.tasks = TaskServer(self)
        self._supervision = Supervision(self)
        self.autostart = Autostart(self, self._supervision)

    def value(self, name: str) -> Any:
        """The present value of a parameter."""
        return self.get_parameter(name).value

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        known = {parameter.name: parameter for parameter in PARAMETERS}
        for change in (change for change in changes if change.name in known):
            refusal = refused(known[change.name], change.value)
            if refusal:
                return SetParametersResult(successful=False, reason=f"{change.name} is {refusal}")
            if change.name == "cost_weights" and self._worker is not None:
                try:
                    self._worker.weigh(change.value)
                except UserError as error:
                    return SetParametersResult(successful=False, reason=str(error))
            elif self.state == "active":
                return SetParametersResult(successful=False, reason=f"deactivate first, then set {change.name}")
        if self.state != "unconfigured" and any(change.name == "use_sim_time" for change in changes):
            return SetParametersResult(successful=False, reason="clean up first, then set use_sim_time")
        return SetParametersResult(successful=True)

    def _in_turn(self, answer: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """rclpy's `answer` to a request for a transition; where it raises, as the state has none such, a refusal."""

        def answer_or_refuse(request: Any, response: Any) -> Any:
            try:
                return answer(request, response)
            except rclpy_implementation.RCLError:  # would end the node, and with it the run
                asked = request.transition.label or request.transition.id
                self.get_logger().warning(f"transition {asked} was asked for; the state '{self.state}' has none such")
                response.success = False
                return response

        return answer_or_refuse

    # ---------------------------------------------------------------- transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load policy and contract, check that they fit, warm up, subscribe."""
        return self._try("configure", self._configure, "inactive", undo=self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check that every stream is fresh and the pose is allowed, then start planner and control."""
        return self._try("activate", self._activate, "active", undo=self._stop)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Bring the robot to rest and end the run (bounded)."""
        self._stop()
        self.state = "inactive"
        self._supervision.diagnose()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back all that configure made."""
        self._release()
        self.state = "unconfigured"
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop safely from whatever state."""
        self.end()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected exception: stop safely and begin anew from unconfigured."""
        self._stop()
        self._release()
        self.state = "unconfigured"
        self.refusal = self.refusal or "an unexpected error stopped the transition; see the log"
        return SUCCESS

    def _try(
        self, name: str, work: Callable[[], None], state: str, undo: Callable[[], None]
    ) -> TransitionCallbackReturn:
        """Run one transition; a UserError becomes FAILURE with its sentence in the log and in /diagnostics."""
        try:
            work()
        except UserError as error:
            undo()
            self.refusal = f"cannot {name}: {error}"
            self.get_logger().error(self.refusal)
            self._supervision.diagnose()
            return FAILURE
        except Exception as error:
            self.refusal = f"cannot {name}: unexpected {type(error).__name__}: {error}"
            self.get_logger().error(self.refusal)
            undo()
            raise
        self.refusal = ""
        self.state = state
        self._supervision.diagnose()
        return SUCCESS

    # ---------------------------------------------------------------- what the transitions do

    def _configure(self) -> None:
        if not self.value("model"):
            raise UserError("parameter 'model' is empty; give the folder of a trained policy (models/<name>)")
        self._settings().make_checks(0.0)  # a name that nobody offers is told now, not at activation
        missing = left_out(self.value("checks"))
        if missing:
            self.get_logger().warning(f"the gate does without its checks {missing}: parameter 'checks' leaves them out")
        path = self.value("contract")
        asked = load_contract(path) if path else None
        options = WorkerOptions(
            model=self.value("model"), decode=deserialize, contract=asked.to_yaml() if asked else "",
            namespace=self.get_namespace(), device=self.value("device"), torch_threads=self.value("torch_threads"),
            prepare_solve=self.value("prepare_solve"),
            added_delay_ms=self.value("added_delay_ms"),
        )  # fmt: skip
        self._worker = ProcessWorker(options) if self.value("planner_process") else load_worker(options)
        contract = (asked or self._worker.facts.contract).in_namespace(self.get_namespace())
        self.contract = contract
        self._equip()
        self.source = SimTime() if self.value("use_sim_time") else SystemTime()
        self.connections = Connections(
            self, contract, self.source, self._worker.facts.obs_steps, self.value("max_ahead_ms")
        )
        self._joints = JointReader(contract, self.connections.streams, deserialize)
        robot = f"{self.context.get_domain_id()}.{contract.command.topic.strip('/').replace('/', '.')}"
        home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
        self._unfinished = UnfinishedRun(home / "difftop" / f"commanding.{robot}")

    def _equip(self) -> None:
        """Costs and surroundings, of their files as they are now."""
        assert self.contract is not None and self._worker is not None
        costs, surroundings = self.value("costs"), self.value("surroundings")
        self._run_limits = load_limits(costs) if costs else RunLimits()
        self._guard = make_guard(surroundings, self._run_limits, self.contract)
        self.drawing = Drawing(self.contract, self._guard)
        self._worker.equip(costs, surroundings)
        self._worker.weigh(self.value("cost_weights"))

    def _settings(self) -> RunSettings:
        return RunSettings(**{field.name: self.value(field.name) for field in fields(RunSettings)})

    def not_ready(self) -> str:
        """Why the streams do not allow activation, '' if they may. Only when configured."""
        assert self.connections is not None
        return not_ready(self, self.connections.streams, self.source) or self.connections.crowded()

    def left_unfinished(self) -> str:
        """Why the robot must not move before somebody has looked at it, '' if the last run ended. Only when configured.

        A run of whatever node that commanded the same topic in this domain from this machine counts.
        """
        assert self._unfinished is not None and self.contract is not None
        left = self._unfinished.left()
        if not left:
            return ""
        return (
            f"inactive: a run on '{self.contract.command.topic}' that began {left} was killed and left no safe command;"
            f" look at the robot, then activate ('ros2 lifecycle set {self.get_fully_qualified_name()} activate'), or "
            "start with --resume-motion (parameter resume_motion)"
        )

    def _activate(self) -> None:
        contract, worker, connections = self.contract, self._worker, self.connections
        assert contract is not None and worker is not None and connections is not None
        if self.run is not None and not self.run.ended:
            raise UserError("the planner of the last run is still in its solve; try again in a moment")
        reason = self.not_ready()
        if reason:
            raise UserError(reason)
        self._equip()
        command = connections.open_command()
        reason = connections.crowded()  # another may have begun at the same time
        if reason:
            raise UserError(reason)
        self.run = Run(
            contract, worker, self.source, connections.streams, self._joints, self._settings(), command,
            self._supervision.on_result, self._guard, self._run_limits, lambda: connections.intervened,
        )  # fmt: skip
        self.why_stopped, self.running = "", True
        assert self._unfinished is not None
        unnoted = self._unfinished.begin()
        if unnoted:
            self.get_logger().warning(unnoted)
        self.run.start()

    def _stop(self, why: str = "the node was deactivated") -> None:
        """End the run, if one is under way, and its task with it."""
        if self.run is not None and self.running:
            self.running = False
            for sentence in self.run.stop():
                self.get_logger().error(sentence)
        if self._unfinished is not None:
            self._unfinished.end()
        if self.connections is not None:
            self.connections.close_command()
        self.tasks.stop(self.why_stopped or why)

    def _release(self) -> None:
        if self.connections is not None:
            self.connections.close()
        if self._worker is not None:
            self._worker.close()
        self.connections = self._worker = self.contract = self.run = None

    def figures(self) -> dict[str, Any]:
        """What /diagnostics and `difftop run` show of the present or last run."""
        shown: dict[str, Any] = {"state": self.state, **(self.run.figures() if self.run is not None else {})}
        if isinstance(self.source, SimTime):
            shown |= self.source.figures()
        return shown

    def end(self) -> None:
        """Stop safely from whatever state; for signals and the end of the process."""
        self._stop("the node is ending")
        self._release()
        self.state = "finalized"
