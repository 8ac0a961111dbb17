"""`difftop run`: its arguments, its sentences, its exit codes, and that it leaves nothing behind."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.commands import run
from difftop_ros.errors import UserError

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
    end = time.monotonic() + 10
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
