"""A start after a run that was killed: over real DDS, with processes that are really killed; and the note on disk."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from policy_process import ACTIVATE, NODE, positions

from difftop_ros.runtime.unfinished import UnfinishedRun


def kill_in_motion(robot: Any, process: Any) -> None:
    robot.until(lambda: len(robot.commands) > 30, 60, "commands")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    robot.position = robot.position + np.array([0.4, -0.4])  # it sagged, or somebody moved it
    robot.commands.clear()
    robot.diagnostics.clear()


def test_after_kill_9_nothing_moves_until_asked_and_then_from_the_measured_pose(
    small_model: Path, robot: Any, spawn: Any
) -> None:
    arguments = ("--ros-args", "-p", f"model:={small_model}", "-p", "autostart:=true")
    kill_in_motion(robot, spawn(NODE, *arguments))

    again = spawn(NODE, *arguments)
    robot.says("was killed and left no safe command; look at the robot", 60)
    told = len(robot.sentences())
    robot.until(lambda: len(robot.sentences()) > told + 2, 20, "two seconds of waiting")
    assert not robot.commands
    assert all("inactive: a run on '/arm/command'" in sentence for sentence in robot.sentences()[told:])
    measured = robot.position
    assert robot.transition(ACTIVATE)
    robot.until(lambda: len(robot.commands) > 0, 20, "commands")
    assert np.abs(positions(robot)[0] - measured).max() <= 2.0 / 50 + 1e-6
    kill_in_motion(robot, again)

    measured = robot.position
    willing = spawn(NODE, *arguments, "-p", "resume_motion:=true")
    robot.until(lambda: len(robot.commands) > 10, 60, "motion that was asked for")
    path = positions(robot)
    assert np.abs(path[0] - measured).max() <= 2.0 / 50 + 1e-6
    assert np.abs(np.diff(path, axis=0)).max() <= 2.0 / 50 + 1e-6
    assert willing.interrupt() == 0
    assert not list(Path(os.environ["ROS_HOME"]).glob("difftop/commanding.*")), "a run that ended leaves no note"


def test_a_run_that_goes_on_is_not_taken_for_one_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "home" / "note"
    mine, other = UnfinishedRun(path), UnfinishedRun(path)
    assert mine.left() == mine.begin() == ""
    assert other.left() == ""
    assert "cannot be written" in other.begin()
    other.end()  # has none of its own to take away
    assert path.exists()
    mine.end()
    mine.end()
    assert not path.exists()
    path.write_text("")  # of a machine that lost power while it was written
    assert other.left() == "at an unknown time"
    assert other.begin() == ""


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    assert "make its folder writable, or set ROS_HOME" in UnfinishedRun(tmp_path / "home" / "note").begin()
