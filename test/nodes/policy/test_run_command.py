"""`difftop run`: its arguments, its sentences, its exit codes, and that it leaves nothing behind."""

import argparse
import contextlib
import os
import pty
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.commands import run
from difftop_ros.errors import UserError
from tools.patience import patience

PROGRAM = """
import argparse, sys
from difftop_ros.commands import run
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    sys.exit(run.run(parser.parse_args()))
"""


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    return parser.parse_args(arguments)


def test_arguments_become_parameters(tmp_path: Path) -> None:
    args = parse("--model", str(tmp_path), "--sim-time", "--device", "auto", "--wait", "5", "-p", "blend_ms:=50")
    ros = run.ros_arguments(args)
    for expected in ("autostart:=true", "use_sim_time:=true", "device:=auto", "start_timeout_s:=5.0", "blend_ms:=50.0"):
        assert expected in ros
    assert f"model:='{tmp_path}'" in ros


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "/nowhere/model"], "--model '/nowhere/model' does not exist"),
        (["--model", ".", "--contract", "/nowhere.yaml"], "--contract '/nowhere.yaml' does not exist"),
        (["--model", ".", "-p", "blend_ms=50"], "NAME:=VALUE"),
        (["--model", ".", "-p", "blend:=50.0"], "unknown parameter 'blend'; did you mean 'blend_ms'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(arguments: Any, words: str) -> None:
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        run.run(parse(*arguments))


def test_the_status_line_tells_a_hold_first() -> None:
    figures = {"state": "active", "hold_reason": "", "solve_ms": 9.87, "ticks": 100, "ticks_lost": 0}
    assert run.status_line(figures).startswith("active  plan - ms old  solve 9.9 ms")
    assert run.status_line({**figures, "hold_reason": "the plan is old"}).startswith("HOLDING: the plan is old")


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def wait_gone(pids: list[int]) -> None:
    end = time.monotonic() + patience(10)
    while any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in pids):
        assert time.monotonic() < end, f"left behind: {[pid for pid in pids if Path(f'/proc/{pid}').exists()]}"
        time.sleep(0.05)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


@pytest.mark.parametrize("end", ["interrupt", "kill"])
def test_runs_until_interrupted_and_leaves_no_process_behind(
    end: str, small_model: Path, robot: Any, spawn: Any, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = spawn([sys.executable, str(program)], "--model", str(small_model),
                    env={"PYTHONPATH": str(Path(__file__).resolve().parents[3])})  # fmt: skip
    robot.until(lambda: len(robot.commands) > 30, 60, "commands")
    process.wait_for("lost", 20)
    family = descendants(process.pid)
    assert family, "the planner's process"
    if end == "interrupt":
        begin = time.monotonic()
        assert process.interrupt() == 0
        assert time.monotonic() - begin < 6
    else:
        os.kill(process.pid, 9)
        process.wait(10)
    wait_gone(family)


def test_a_terminal_that_closes_leaves_the_robot_at_rest(small_model: Path, robot: Any, tmp_path: Path) -> None:
    """As when an ssh session drops: SIGHUP to all processes of the terminal, and every write to it fails."""
    program = tmp_path / "program.py"
    program.write_text("import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n" + PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, str(program), "--model", str(small_model)], env)
    try:
        # what it writes must be read, or it would wait for a full terminal
        threading.Thread(target=read_all, args=(terminal,), daemon=True).start()
        robot.until(lambda: len(robot.commands) > 40, 60, "commands")
        family = descendants(pid)
        os.close(terminal)
        robot.until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid or not Path(f"/proc/{pid}").exists(), 15, "its end")
        wait_gone(family)
        time.sleep(0.2)
        path = np.array([message.position for _, message in list(robot.commands)])
        assert np.abs(np.diff(path, 2, axis=0)).max() <= 30.0 / 50**2 + 1e-6
        np.testing.assert_allclose(np.diff(path[-2:], axis=0), 0.0, atol=1e-6)
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def read_all(terminal: int) -> None:
    """Reads until the terminal is closed."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass
