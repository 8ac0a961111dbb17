"""Commands as goals of a controller's actions, over real DDS beside a double of it; and what decides about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_controller import ARM, GRIPPER, ActionController
from policy_process import ACTIVATE, DEACTIVATE, activate_when_ready, start
from trajectory_controller import seconds

from difftop_ros.contract import parse_contract
from difftop_ros.errors import UserError
from difftop_ros.runtime.course import GripperGoals
from tools.faults.robot import contract_text, save_policy

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


def contract(gripper: str = "ParallelGripperCommand", action: str = f"  action: {ARM}\n") -> str:
    """The small arm's: its elbow is a gripper."""
    text = contract_text(kind=TRAJECTORY)
    more = (
        f"  trajectory_s: 0.4\n{action}  gripper: {{joint: elbow, action: {GRIPPER}, scale: 0.5, max_effort: 20, "
        f"type: control_msgs/action/{gripper}}}\n"
    )
    return text.replace("observations:", more + "observations:")


@pytest.mark.parametrize("gripper", ["ParallelGripperCommand", "GripperCommand"])
def test_arm_and_gripper_follow_goals(gripper: str, robot: Any, ros_context: Any, spawn: Any, tmp_path: Path) -> None:
    model = save_policy(tmp_path / "model", contract(gripper))
    start(spawn, robot, model, "max_failures:=20")
    alone = f"nobody serves the action '{ARM}'"
    robot.until(lambda: not robot.transition(ACTIVATE) and alone in robot.sentences()[-1], 40, "the refusal")
    controller = ActionController(ros_context, robot, gripper)
    try:
        activate_when_ready(robot)
        robot.until(lambda: len(controller.goals) > 3, 20, "goals of the arm")
        robot.until(lambda: controller.gripper_goals, 20, "a goal of the gripper")
        assert robot.node.count_publishers("/arm/command") == 0
        command = controller.gripper_goals[0].command
        if gripper == "GripperCommand":
            assert command.position == pytest.approx(-0.1, abs=0.05) and command.max_effort == 20.0
        else:
            assert list(command.name) == ["elbow"] and list(command.effort) == [20.0]
            assert command.position[0] == pytest.approx(-0.1, abs=0.05)  # half of the elbow's first command
        for goal in controller.goals:
            points = goal.trajectory.points
            assert list(goal.trajectory.joint_names) == ["shoulder"] and list(points[-1].velocities) == [0.0]
            path = np.array([point.positions[0] for point in points])
            assert np.abs(np.diff(path, 2)).max() <= 30.0 / 50**2 + 1e-6
        assert controller.arm.refused == []

        robot.cloud = False  # a hold: the arm brakes by a last trajectory, the gripper's goal is cancelled
        robot.says("holding", 15)
        robot.until(lambda: controller.cancelled, 10, "the cancelling of the gripper's goal")
        robot.until(lambda: ends_here(controller.goals[-1], robot), 10, "the arm's rest")
        robot.cloud = True
        sent = len(controller.gripper_goals)
        robot.until(lambda: robot.sentences()[-1] == "active", 20, "the end of the hold")
        robot.until(lambda: len(controller.gripper_goals) > sent, 10, "the gripper's goal again")

        controller.refuse = True
        robot.says(f"holding: the controller of '{ARM}' refused a goal", 15)
        controller.refuse = False
        robot.until(lambda: robot.sentences()[-1] == "active", 20, "the end of the hold")
        before = len(controller.goals)
        robot.until(lambda: len(controller.goals) > before + 1, 20, "goals again")
        controller.give_up()
        robot.says(f"the controller of '{ARM}' gave a goal up: the arm is blocked (error code -4)", 15)
        robot.until(lambda: robot.sentences()[-1] == "active", 20, "the end of the hold")
        assert robot.transition(DEACTIVATE)
        robot.until(lambda: ends_here(controller.goals[-1], robot), 10, "the arm's rest")
    finally:
        controller.close()


def ends_here(goal: Any, robot: Any) -> bool:
    """Whether the robot stands where a trajectory ends."""
    last = goal.trajectory.points[-1]
    return seconds(last.time_from_start) > 0 and abs(last.positions[0] - robot.position[0]) < 1e-6


def test_a_gripper_alone_leaves_the_arm_on_its_topic() -> None:
    command = parse_contract(contract(action=""), "test").command
    rest, kept = command.without_gripper()
    assert rest.joint_names == ["shoulder"] and kept == [0] and rest.gripper is None and rest.action is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  trajectory_s: 0.4\n", "", "set trajectory_s"),
        ("joint: elbow", "joint: hand", "command.gripper names 'hand'"),
        ("scale: 0.5", "scale: 0.0", "would never move"),
        ("max_effort: 20", "max_effort: -1", "greater than 0"),
        ("action/ParallelGripperCommand", "action/Grip", "ParallelGripperCommand"),
    ],
)
def test_contracts_that_cannot_be_are_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_contract(contract().replace(old, new), "test")


def test_how_commands_leave_changes_no_data_set() -> None:
    plain = contract_text(kind=TRAJECTORY).replace("observations:", "  trajectory_s: 0.4\nobservations:")
    one, other = parse_contract(plain, "one"), parse_contract(contract(), "other")
    assert one.data_sha256() == other.data_sha256() and one.sha256 != other.sha256
    assert other.in_namespace("/left").command.action == ARM  # an absolute name stays
    moved = parse_contract(contract().replace(f"action: {ARM}", f"action: {ARM[1:]}"), "moved").in_namespace("/left")
    assert moved.command.action == f"/left{ARM}"


def test_a_goal_is_due_where_the_gripper_goes_elsewhere_and_where_it_rests() -> None:
    goals, sent = GripperGoals(0.0, 0.08), []
    for tick in range(300):  # closes within a second, stays, then opens a hair
        value = max(0.08 - 0.08 * tick / 50, 0.0) if tick < 250 else 0.0001
        if goals.due(value, tick / 50):
            sent.append((tick, value))
    closing = [value for tick, value in sent if tick <= 50]
    assert 5 <= len(closing) <= 12 and sent[0] == (0, 0.08)
    assert np.diff([tick for tick, _ in sent]).min() >= 5  # ten a second at most
    assert [value for tick, value in sent if 50 < tick < 250][-1:] in ([0.0], []) and sent[-1][1] == 0.0001
    assert 0.0 in [value for _, value in sent]
    goals.forget()
    assert goals.due(0.0001, 10.0)
