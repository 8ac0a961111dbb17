"""Every way in which the node can end leaves a robot at rest: over real DDS, with faults put into a real process.

Signals and a closed terminal are in test_policy_node.py and test_run_command.py.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_process import DEACTIVATE, NODE, positions

from tools.patience import patience

SHUTDOWN = 6  # from inactive

# Which method of which class raises, once the node has sent commands for a second.
FAULTS = {
    "control": "difftop_ros.runtime.joints JointReader read",
    "publishing": "difftop_ros.runtime.control ControlLoop _check",
    "planner": "difftop_ros.runtime.planner PlannerLoop plan_once",
    "executor": "difftop_ros.nodes.policy.supervision Supervision diagnose",
}
PROGRAM = f"""
import importlib, sys, threading, time
from {NODE} import main
module, name, method = sys.argv[1:4]
def break_it():
    from difftop_ros.runtime.control import ControlLoop
    kind = getattr(importlib.import_module(module), name)
    right, begin = getattr(kind, method), []
    send = ControlLoop._send
    def sending(self, command):
        begin.append(time.monotonic())
        send(self, command)
    def wrong(self, *arguments):
        if begin and time.monotonic() - begin[0] > 1.0:
            raise RuntimeError("put in by a test")
        return right(self, *arguments)
    ControlLoop._send = sending
    setattr(kind, method, wrong)
if __name__ == "__main__":
    from difftop_ros.nodes.environment import prepare
    prepare()
    break_it()
    sys.exit(main(sys.argv[4:]))
"""


def comes_to_rest(robot: Any) -> None:
    """No command beyond the limits, and the last ones are the same: the robot has been told to stand."""
    time.sleep(0.3)  # what was acknowledged has arrived; its callback may still wait in this process
    path = positions(robot)
    assert np.isfinite(path).all()
    assert np.abs(np.diff(path, axis=0)).max() <= 2.0 / 50 + 1e-6
    assert np.abs(np.diff(path, 2, axis=0)).max() <= 30.0 / 50**2 + 1e-6
    np.testing.assert_allclose(np.diff(path[-2:], axis=0), 0.0, atol=1e-6)


@pytest.mark.parametrize("where", FAULTS)
def test_an_exception_in_whatever_thread_leaves_the_robot_at_rest(
    where: str, small_model: Path, robot: Any, spawn: Any, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = spawn(
        [sys.executable, program, *FAULTS[where].split()], "--ros-args", "-p", f"model:={small_model}", "-p",
        "autostart:=true", env={"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )  # fmt: skip
    assert process.wait(90) != 0
    assert "put in by a test" in process.output()
    assert len(robot.commands) > 20
    comes_to_rest(robot)


def test_a_node_whose_parent_dies_leaves_the_robot_at_rest(small_model: Path, robot: Any, spawn: Any) -> None:
    command = [sys.executable, "-m", NODE, "--ros-args", "-p", f"model:={small_model}", "-p", "autostart:=true"]
    starter = (
        "import signal, subprocess, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
        "p = subprocess.Popen(sys.argv[1:]); print('node', p.pid, flush=True); p.wait()"
    )
    process = spawn([sys.executable, "-c", starter, *command])
    robot.until(lambda: len(robot.commands) > 40, 60, "commands")
    node = int(process.output().split("node ")[1].split()[0])
    os.kill(process.pid, signal.SIGKILL)
    robot.until(lambda: not Path(f"/proc/{node}").exists() or "Z" in state(node), 20, "the node's end")
    comes_to_rest(robot)
    assert "the process that started this node has ended" in process.output()


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


def test_a_planner_that_stops_answering_leaves_the_robot_at_rest(small_model: Path, robot: Any, spawn: Any) -> None:
    process = spawn(NODE, "--ros-args", "-p", f"model:={small_model}", "-p", "autostart:=true")
    robot.until(lambda: len(robot.commands) > 40, 60, "commands")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    planner = next(int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text())
    os.kill(planner, signal.SIGSTOP)
    robot.says("holding: the plan is", 15)
    sent = len(robot.commands)
    robot.until(lambda: len(robot.commands) > sent + 50, 10, "commands of the hold")
    comes_to_rest(robot)
    os.kill(planner, signal.SIGCONT)
    robot.until(lambda: robot.transition(DEACTIVATE), 10, "a deactivation that is asked for")
    told = len(robot.sentences())
    robot.until(lambda: len(robot.sentences()) > told + 2, 10, "two seconds of reports")
    assert robot.sentences()[told:] == ["inactive"] * (len(robot.sentences()) - told), (
        "autostart does not start it again"
    )
    assert robot.transition(SHUTDOWN)
    assert process.wait(15) == 0


@pytest.mark.parametrize("after_s", [0.6, 1.2])  # before that, Python itself is starting
def test_ctrl_c_in_the_first_seconds_ends_without_a_traceback(after_s: float, small_model: Path, spawn: Any) -> None:
    process = spawn(NODE, "--ros-args", "-p", f"model:={small_model}", "-p", "autostart:=true")
    time.sleep(patience(after_s))
    process.interrupt(30)
    assert "Traceback" not in process.output()
