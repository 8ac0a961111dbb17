"""The action ~/run_policy: the policy's task once, with a longest duration, feedback and an outcome.

A goal does not start a node and does not change its model: it lets an active node that waits (`wait_for_task`) move, or
watches one that moves. When it ends, for whatever reason, the robot holds. What a task is: Task in runtime/run.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle

from difftop_ros.action import RunPolicy
from difftop_ros.runtime.run import CANCELED, STOPPED, SUCCESS, Ending, Progress, Task

if TYPE_CHECKING:
    from difftop_ros.nodes.policy.lifecycle import PolicyNode

NAME = "~/run_policy"
DELIVERY_S = 0.3  # that the end of the process takes longer where it ends a task


class _Server(ActionServer):
    """An action server whose goals go on beside the executor: a callback that waited would keep its thread."""

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Any) -> None:
        """Nothing is executed when a goal begins; `finish` gives its result."""

    def finish(self, goal_handle: ServerGoalHandle, result: Callable[[ServerGoalHandle], Any]) -> None:
        """End a goal; `result` puts it into its last state and returns its result."""
        super().notify_execute(goal_handle, result)


class TaskServer:
    """Goals of RunPolicy, one at a time; `turn` and `stop` are called by whoever runs the node."""

    def __init__(self, node: PolicyNode) -> None:
        self._node = node
        self._task: Task | None = None
        self._handle: ServerGoalHandle | None = None
        self._ended: ServerGoalHandle | None = None
        self._server = _Server(
            node, RunPolicy, NAME, lambda handle: None,
            goal_callback=self._judge, handle_accepted_callback=self._accept, cancel_callback=self._cancel,
        )  # fmt: skip

    # ---------------------------------------------------------------- requests

    def _judge(self, goal: RunPolicy.Goal) -> GoalResponse:
        refusal = self._refusal(goal)
        if refusal:
            self._node.get_logger().warning(f"task '{goal.task}' refused: {refusal}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _refusal(self, goal: RunPolicy.Goal) -> str:
        node = self._node
        if node.state != "active" or node.run is None:
            return f"the node is {node.state}; activate it first"
        if self._task is not None:
            return f"the task '{self._task.words}' is under way; cancel it, or wait for its end"
        own = Path(node.value("model")).expanduser().resolve()
        if goal.model and Path(goal.model).expanduser().resolve() != own:
            return f"model is '{goal.model}', the node runs '{own}'; start a node with that model, or leave it empty"
        if goal.longest.sec < 0:
            return f"longest is {goal.longest.sec} s; give a time, or 0 for the contract's episode.max_seconds"
        return ""

    def _accept(self, handle: ServerGoalHandle) -> None:
        node, longest = self._node, handle.request.longest
        assert node.run is not None and node.contract is not None
        longest_s = longest.sec + longest.nanosec / 1e9 or node.contract.episode.max_seconds
        self._handle, self._task = handle, Task(node.run, node.source.now_ns(), longest_s, handle.request.task)
        handle.execute()
        node.get_logger().info(f"task '{handle.request.task}' begins, for {longest_s:g} s at most")

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if self._task is not None and self._node.run is not None:
            self._node.run.hold("the task is being cancelled")  # now; the goal ends with the next turn
        return CancelResponse.ACCEPT

    # ---------------------------------------------------------------- while it goes on

    def turn(self) -> None:
        """Called regularly while the node is active: feedback, or the end of the task."""
        task, handle, connections = self._task, self._handle, self._node.connections
        if task is None or handle is None or connections is None:
            return
        now = self._node.source.now_ns()
        ending = task.due(now, connections.success.last_ns)
        if handle.is_cancel_requested:
            ending = Ending(CANCELED, f"the task was cancelled after {task.seconds(now):.1f} s")
        if ending is not None:
            self._finish(ending)
        else:
            handle.publish_feedback(feedback(task.progress(now)))

    def stop(self, reason: str) -> None:
        """The run has ended, because of `reason`: so has the task."""
        self._finish(Ending(STOPPED, reason))

    def _finish(self, ending: Ending) -> None:
        task, handle, executor = self._task, self._handle, self._node.executor
        self._task = self._handle = None
        if task is None or handle is None:
            return
        seconds = task.seconds(self._node.source.now_ns())
        plans, holds = task.end(ending.reason)
        self._node.get_logger().info(f"task '{task.words}' ended: {ending.outcome}: {ending.reason}")
        result = RunPolicy.Result(
            outcome=ending.outcome, reason=ending.reason, seconds=seconds, plans=plans, holds=holds
        )

        def close(goal: ServerGoalHandle) -> RunPolicy.Result:
            if ending.outcome == CANCELED:
                goal.canceled()
            elif ending.outcome == SUCCESS:
                goal.succeed()
            else:
                goal.abort()
            return result

        if executor is not None:
            self._ended = handle
            self._server.finish(handle, close)

    def deliver(self) -> None:
        """At the end of the process, whose executor spins no more: let the result of a task that it ended leave."""
        executor, end = self._node.executor, time.monotonic() + DELIVERY_S
        if executor is None or self._ended is None or not self._ended.is_active:
            return
        while time.monotonic() < end:  # the result, then its answer, then DDS's delivery
            executor.spin_once(timeout_sec=0.02)


def feedback(progress: Progress) -> RunPolicy.Feedback:
    """The message of what is told while a task goes on."""
    message = RunPolicy.Feedback(
        state="holding" if progress.holding else "following", hold_reason=progress.hold_reason,
        seconds=progress.seconds, remaining=progress.remaining,
        predicted_cost=float("nan"), clearance=float("nan"), novelty=-1.0,
    )  # fmt: skip
    if progress.result is not None and progress.result.status:
        message.predicted_cost, message.clearance = progress.result.final_cost, progress.result.clearance
        message.novelty = progress.result.novelty
    return message
