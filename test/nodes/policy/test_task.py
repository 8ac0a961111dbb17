"""The policy's task as an action, over real DDS: refused, accepted, told of, ended; and the lifecycle's promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_process import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, activate_when_ready, positions, start

from tools.faults.robot import contract_text, save_policy

ABORTED, CANCELED, SUCCEEDED = 6, 5, 4  # action_msgs/msg/GoalStatus
SHUTDOWN_INACTIVE = 6
TRANSITION_S = 60.0
EPISODE = "episode: {max_seconds: 30, success_topic: /arm/success}\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small policy whose contract says how success is told."""
    return save_policy(tmp_path_factory.mktemp("models") / "told", contract_text() + EPISODE)


class Client:
    """Sends goals from the robot double's node."""

    def __init__(self, robot: Any) -> None:
        from rclpy.action import ActionClient
        from std_msgs.msg import Bool

        from difftop_ros.action import RunPolicy

        self.robot, self.action = robot, RunPolicy
        self.client = ActionClient(robot.node, RunPolicy, "/difftop_policy/run_policy")
        self.success = robot.node.create_publisher(Bool, "/arm/success", 10)
        self.told: list[Any] = []

    def send(self, longest_s: float = 0.0, **fields: Any) -> Any:
        """A goal handle, accepted or not."""
        from builtin_interfaces.msg import Duration

        assert self.client.wait_for_server(15)
        duration = Duration(sec=int(longest_s), nanosec=round(longest_s % 1 * 1e9))
        goal = self.action.Goal(longest=duration, **fields)
        self.told = []
        future = self.client.send_goal_async(goal, feedback_callback=lambda m: self.told.append(m.feedback))
        self.robot.until(future.done, 15, "an answer to a goal")
        return future.result()

    def result(self, handle: Any, future: Any = None) -> tuple[int, Any]:
        """(status, result) of an accepted goal."""
        future = future or handle.get_result_async()
        self.robot.until(future.done, 20, "a result")
        return future.result().status, future.result().result


@pytest.fixture
def client(robot: Any) -> Iterator[Client]:
    made = Client(robot)
    yield made
    made.client.destroy()


def moved(robot: Any) -> Callable[[], bool]:
    """True once 20 more commands have come than now."""
    before = len(robot.commands)
    return lambda: len(robot.commands) > before + 20


def stands(robot: Any) -> None:
    """Commands go on, and they are one and the same."""
    robot.until(lambda: robot.statuses[-1].holding, 5, "a status that says so")
    robot.until(lambda: np.ptp(positions(robot)[-15:], axis=0).max() == 0.0, 5, "the same command again and again")
    robot.until(moved(robot), 5, "commands while it holds")
    assert np.ptp(positions(robot)[-15:], axis=0).max() == 0.0


def test_a_node_that_waits_for_tasks_does_one_after_another(model: Path, robot: Any, spawn: Any, client: Any) -> None:
    start(spawn, robot, model, "wait_for_task:=true")
    assert not client.send(task="too early").accepted
    activate_when_ready(robot)
    robot.until(lambda: len(robot.plans) > 10, 20, "plans while it waits")
    robot.says("holding: waiting for a task: send a goal to the action run_policy")
    assert robot.commands == [] and robot.statuses[-1].holding and robot.statuses[-1].commands_published == 0
    assert not client.send(model="/another/model").accepted
    assert not client.send(longest_s=-3.0).accepted

    handle = client.send(model=str(model), task="lift the cube")
    assert handle.accepted
    robot.until(moved(robot), 20, "commands")
    robot.until(lambda: any(told.state == "following" for told in client.told), 10, "feedback")
    told = client.told[-1]
    assert 0 < told.seconds < told.seconds + told.remaining == pytest.approx(30.0)
    assert told.hold_reason == "" and np.isfinite(told.predicted_cost) and np.isnan(told.clearance)
    assert not client.send(task="another beside it").accepted
    future = handle.cancel_goal_async()
    robot.until(future.done, 10, "an answer to the cancelling")
    status, result = client.result(handle)
    assert (status, result.outcome) == (CANCELED, result.CANCELED) and "cancelled after" in result.reason
    assert result.plans > 0 and result.seconds > 0 and result.holds == 0
    stands(robot)
    robot.says("holding: the task was cancelled after")

    status, result = client.result(client.send(longest_s=0.8))
    assert (status, result.outcome) == (ABORTED, result.TIMEOUT)
    assert result.reason == "the longest duration of 0.8 s is over" and result.seconds >= 0.8
    stands(robot)

    from std_msgs.msg import Bool

    client.success.publish(Bool(data=True))  # of the time before the next goal: does not count
    handle = client.send()
    robot.until(moved(robot), 20, "commands")
    client.success.publish(Bool(data=False))
    client.success.publish(Bool(data=True))
    status, result = client.result(handle)
    assert (status, result.outcome) == (SUCCEEDED, result.SUCCESS) and "success was told after" in result.reason
    stands(robot)

    handle = client.send()
    future = handle.get_result_async()
    robot.until(moved(robot), 20, "commands")
    assert robot.transition(DEACTIVATE)
    status, result = client.result(handle, future)
    assert (status, result.outcome, result.reason) == (ABORTED, result.STOPPED, "the node was deactivated")
    assert not client.send().accepted


def test_a_goal_watches_a_node_that_moves_anyway(model: Path, robot: Any, spawn: Any, client: Any) -> None:
    process = start(spawn, robot, model)
    activate_when_ready(robot)
    robot.until(moved(robot), 20, "commands before any goal")
    handle = client.send()
    assert handle.accepted
    future = handle.get_result_async()
    robot.until(lambda: len(client.told) > 2, 10, "feedback")
    robot.until(handle.cancel_goal_async().done, 10, "an answer to the cancelling")
    assert client.result(handle, future)[0] == CANCELED
    stands(robot)
    handle = client.send()
    future = handle.get_result_async()
    robot.until(lambda: not robot.statuses[-1].holding, 10, "the end of the hold")
    robot.until(moved(robot), 20, "commands")
    assert process.interrupt() == 0  # the process ends; its last word arrives
    status, result = client.result(handle, future)
    assert (status, result.outcome, result.reason) == (ABORTED, result.STOPPED, "the node is ending")


def test_a_run_that_fails_ends_its_task_with_the_reason(model: Path, robot: Any, spawn: Any, client: Any) -> None:
    start(spawn, robot, model, "max_failures:=1")
    activate_when_ready(robot)
    handle = client.send()
    future = handle.get_result_async()
    robot.until(moved(robot), 20, "commands")
    robot.cloud = False
    status, result = client.result(handle, future)
    assert (status, result.outcome) == (ABORTED, result.STOPPED)
    assert "held 1 times" in result.reason and "cloud" in result.reason


def test_the_lifecycle_keeps_what_a_challenge_asks_of_it(model: Path, robot: Any, spawn: Any, client: Any) -> None:
    """Unconfigured at first; no command before active; each transition within 60 s; no publisher of commands after."""
    from lifecycle_msgs.srv import GetState

    def state() -> str:
        return robot.call(GetState, "/difftop_policy/get_state", GetState.Request()).current_state.label

    def transition(number: int, then: str) -> None:
        begun = time.monotonic()
        robot.until(lambda: robot.transition(number), TRANSITION_S, f"'{then}'")  # refused while streams come up
        assert time.monotonic() - begun < TRANSITION_S and state() == then

    process = start(spawn, robot, model, configure=False)
    commanders = lambda: robot.node.count_publishers("/arm/command")  # noqa: E731
    assert state() == "unconfigured" and not client.send().accepted
    for _ in range(2):
        transition(CONFIGURE, "inactive")
        assert commanders() == 0 and not client.send().accepted
        seen, since = len(robot.commands), time.time()
        transition(ACTIVATE, "active")
        robot.until(lambda n=seen: len(robot.commands) > n, 20, "a first command")
        stamp = robot.commands[seen][1].header.stamp  # of one publisher they arrive in order: none came before
        assert stamp.sec + stamp.nanosec / 1e9 >= since
        handle = client.send()
        assert handle.accepted
        robot.until(handle.cancel_goal_async().done, 10, "an answer to the cancelling")
        assert client.result(handle)[0] == CANCELED
        transition(DEACTIVATE, "inactive")
        robot.until(lambda: commanders() == 0, 10, "the end of the command's publisher")
        transition(CLEANUP, "unconfigured")
    transition(CONFIGURE, "inactive")
    transition(ACTIVATE, "active")
    robot.until(lambda: commanders() == 1, 10, "a publisher of commands")
    transition(DEACTIVATE, "inactive")
    transition(SHUTDOWN_INACTIVE, "finalized")
    robot.until(lambda: commanders() == 0, 10, "the end of the command's publisher")
    assert not client.send().accepted
    assert process.interrupt() == 0
