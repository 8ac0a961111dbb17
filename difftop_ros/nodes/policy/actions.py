"""Commands as goals of a controller's actions: FollowJointTrajectory for the arm, a gripper's for one joint.

A new trajectory goes over into the one before by its first points (runtime/course.py), and its goal takes the place of
the earlier one, which the controller ends. What the controller refuses or gives up is a fault: the robot holds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.action import ActionClient

from difftop_ros.contract import Contract
from difftop_ros.contract.model import Gripper
from difftop_ros.errors import UserError
from difftop_ros.messages.commands import trajectory
from difftop_ros.nodes.topics import message_class
from difftop_ros.runtime.course import Course, GripperGoals

if TYPE_CHECKING:
    from difftop_ros.nodes.policy.connections import CommandPublisher

TRAJECTORY = "control_msgs/action/FollowJointTrajectory"
PARALLEL = "control_msgs/action/ParallelGripperCommand"
SERVER_S = 5.0  # that activation waits, at most, for a controller's action
FAULT_S = 1.0  # that a refusal keeps the robot holding
LEAVE_S = 0.1  # given to the last goal before its client ends
ABORTED = 6  # action_msgs/msg/GoalStatus


def action_types(contract: Contract) -> list[str]:
    """Types of the actions by which the contract's commands leave."""
    command = contract.command
    return [*([TRAJECTORY] if command.action else []), *([command.gripper.type] if command.gripper else [])]


class GoalSender:
    """Goals of one action, of which the newest counts; `fault` is what became of it where it was not served."""

    def __init__(self, node: Any, kind: str, name: str) -> None:
        self.name = name
        self.type = message_class(kind)
        self._client = ActionClient(node, self.type, name)
        self._lock = threading.Lock()
        self._number, self._handle = 0, None
        self._fault, self._fault_s = "", -FAULT_S

    def wait(self) -> None:
        """Raises UserError if nobody serves it."""
        if not self._client.wait_for_server(SERVER_S):
            raise UserError(f"nobody serves the action '{self.name}'; start and activate the controller")

    def send(self, goal: Any) -> None:
        """Send a goal in place of those before; returns at once."""
        with self._lock:
            self._number += 1
            number = self._number
        self._client.send_goal_async(goal).add_done_callback(lambda future: self._answered(number, future.result()))

    def _answered(self, number: int, handle: Any) -> None:
        if not handle.accepted:
            self._wrong(number, "refused a goal")
            return
        with self._lock:
            if number == self._number:
                self._handle = handle
        handle.get_result_async().add_done_callback(lambda future: self._ended(number, future.result()))

    def _ended(self, number: int, response: Any) -> None:
        with self._lock:
            self._handle = None if number == self._number else self._handle
        if response.status == ABORTED:
            self._wrong(number, f"gave a goal up: {_why(response.result)}")

    def _wrong(self, number: int, what: str) -> None:
        with self._lock:
            if number == self._number:  # an earlier one was given up for a later one
                self._fault, self._fault_s = f"the controller of '{self.name}' {what}", time.monotonic()

    def fault(self) -> str:
        """What is wrong, '' if nothing is or was a second ago."""
        return self._fault if time.monotonic() - self._fault_s < FAULT_S else ""

    def cancel(self) -> bool:
        """Cancel the newest goal if it is under way; whether it was."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel_goal_async()
        return handle is not None

    def close(self) -> None:
        """End the client; a goal that was just sent leaves first."""
        if self._number:
            time.sleep(LEAVE_S)
        self._client.destroy()


def _why(result: Any) -> str:
    told = getattr(result, "error_string", "")
    code = getattr(result, "error_code", None)
    return " ".join(filter(None, (told, "" if code is None else f"(error code {code})"))) or "no reason was given"


class ActionCommander:
    """A runtime.run.CommandOutlet: the arm by its action, or by `publisher`, and the gripper by its own."""

    def __init__(self, node: Any, contract: Contract, publisher: CommandPublisher | None) -> None:
        command, self._columns = contract.command.without_gripper()
        self._contract = contract.model_copy(update={"command": command})
        self._publisher = publisher
        self._arm = GoalSender(node, TRAJECTORY, command.action) if command.action else None
        self._gripper = None
        if contract.command.gripper is not None:
            self._gripper = _GripperSender(node, contract, contract.command.gripper)
        self._senders = [sender for sender in (self._arm, self._gripper and self._gripper.sender) if sender]

    @property
    def publishes(self) -> bool:
        """Whether it publishes the contract's command topic too."""
        return self._publisher is not None

    def wait_matched(self) -> None:
        """Wait, bounded, for whoever takes commands. Raises UserError for an action that nobody serves."""
        for sender in self._senders:
            sender.wait()
        if self._publisher is not None:
            self._publisher.wait_matched()

    def send(self, values: np.ndarray) -> None:
        """Publish one command (A,), where the arm listens to a topic."""
        if self._publisher is not None:
            self._publisher.send(values)

    def send_course(self, course: Course) -> None:
        """Send the coming commands as one trajectory."""
        if self._arm is None:
            assert self._publisher is not None  # one of the two is there
            self._publisher.send_course(course)
            return
        rows = (course.positions[:, self._columns], course.velocities[:, self._columns])
        message = trajectory(self._contract, *rows, course.step_s, course.stamp_ns, message_class)
        self._arm.send(self._arm.type.Goal(trajectory=message))

    def beside(self, values: np.ndarray, holding: bool) -> None:
        """The gripper's part of a command (A,)."""
        if self._gripper is not None:
            self._gripper.tick(float(values[self._gripper.column]), holding)

    def farewell(self, values: np.ndarray) -> str:
        """The arm's last trajectory ends at rest by itself; what goes by topic is sent as ever."""
        if self._gripper is not None:
            self._gripper.sender.cancel()
        return self._publisher.farewell(values) if self._publisher is not None else ""

    def fault(self) -> str:
        """What a controller did not serve, '' if nothing."""
        return next(filter(None, (sender.fault() for sender in self._senders)), "")

    def close(self) -> None:
        """End clients and publisher."""
        for sender in self._senders:
            sender.close()
        if self._publisher is not None:
            self._publisher.close()


class _GripperSender:
    """The gripper's goals; while the robot holds, the goal under way is cancelled and none is sent."""

    def __init__(self, node: Any, contract: Contract, gripper: Gripper) -> None:
        self.sender = GoalSender(node, gripper.type, gripper.action)
        self.column = contract.command.joint_names.index(gripper.joint)
        joint = contract.command.joints[self.column]
        self._goals = GripperGoals(*joint.position)
        self._make = _parallel if gripper.type == PARALLEL else _single
        self._settings = gripper

    def tick(self, value: float, holding: bool) -> None:
        if holding:
            if self.sender.cancel():
                self._goals.forget()
        elif self._goals.due(value, time.monotonic()):
            self.sender.send(self._make(self.sender.type.Goal(), self._settings, value * self._settings.scale))


def _parallel(goal: Any, gripper: Gripper, position: float) -> Any:
    goal.command.name, goal.command.position = [gripper.joint], [position]
    if gripper.max_effort is not None:
        goal.command.effort = [gripper.max_effort]
    return goal


def _single(goal: Any, gripper: Gripper, position: float) -> Any:
    goal.command.position, goal.command.max_effort = position, gripper.max_effort or 0.0
    return goal
