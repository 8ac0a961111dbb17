"""Every node's process alike: what it cannot use is one sentence and exit code 2, a signal ends it in order."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.signals import ENDING

NODES = ("policy.node", "recorder.node", "trainer.node", "simulation.bridge.node")


@pytest.mark.parametrize("node", NODES)
def test_arguments_that_ros_cannot_read_are_one_sentence(node: str, spawn: Callable[..., Any], tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("difftop_policy:\n  ros__parameters: [1, {}]\n")
    process = spawn(f"difftop_ros.nodes.{node}", "--ros-args", "--params-file", str(broken))
    assert process.wait(60) == 2
    errors = [line for line in process.output().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, process.output()
    assert "check --ros-args and the --params-file" in errors[0]
    assert "Traceback" not in process.output()


PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
from difftop_ros.errors import UserError
from difftop_ros.nodes.process import named, run_node

class Program:
    def __init__(self, node):
        self.node, self.turns = node, 0
        if sys.argv[1] == "refuse":
            raise UserError("the door is open; close it")
    def turn(self, signals):
        self.turns += 1
        if self.turns == 1:
            print("turning", flush=True)
        if sys.argv[1] == "crash" and self.turns > 2:
            raise UserError("the door was opened; close it")
        return not signals
    def end(self):
        print("end", self.node.context.ok(), flush=True)  # a farewell can still be said
        return 5

sys.exit(run_node(named("tested"), Program, []))
"""


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_the_program_while_messages_can_be_sent(number: int, spawn: Callable[..., Any]) -> None:
    process = spawn([sys.executable, "-c", PROGRAM, "run"])
    process.wait_for("turning")
    process.popen.send_signal(number)
    assert process.wait(20) == 5
    assert process.output().splitlines() == ["turning", "end True"]


def test_nohup_is_respected(spawn: Callable[..., Any]) -> None:
    process = spawn([sys.executable, "-c", PROGRAM, "nohup"])
    process.wait_for("turning")
    process.popen.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.popen.wait(1.0)
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait(20) == 5


@pytest.mark.parametrize(
    ("how", "lines"),
    [
        ("refuse", ["error: the door is open; close it"]),
        ("crash", ["turning", "end True", "error: the door was opened; close it"]),
    ],
)
def test_a_users_mistake_is_a_sentence_and_the_end_is_kept(
    how: str, lines: list[str], spawn: Callable[..., Any]
) -> None:
    process = spawn([sys.executable, "-c", PROGRAM, how])
    assert process.wait(30) == 2
    assert process.output().splitlines() == lines
