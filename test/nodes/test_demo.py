"""`difftop demo` as a person runs it: real processes over DDS, with a small untrained policy; results and clean-up."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from difftop_ros.contract import load_contract
from difftop_ros.errors import UserError
from difftop_ros.nodes.children import DOMAINS, Child, free_domain
from difftop_ros.nodes.shared_memory import SHM, mapped_names
from difftop_ros.paths import share_path
from tools.patience import patience


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained policy for the demo's own contract: the arm moves a little, and never succeeds."""
    import torch

    from difftop_ros.policies import DifftopNet, Policy, PolicyConfig

    torch.manual_seed(0)
    contract = load_contract(share_path("config/panda_table.yaml"))
    config = PolicyConfig(
        horizon=6,
        features=16,
        latent=2,
        bc_width=16,
        prior_width=16,
        posterior_width=16,
        cost_width=16,
        cost_outputs=8,
        point_widths=(8, 8),
        iterations=3,
    )
    folder = tmp_path_factory.mktemp("models") / "untrained"
    return Policy(DifftopNet(contract, config), contract, torch.device("cpu")).save(folder)


@pytest.fixture
def demo(spawn: Any, model: Path, tmp_path: Path) -> Any:
    """Starts `difftop demo` with further arguments; its results go to tmp_path / 'out'."""

    def start(*arguments: Any) -> Any:
        command = [sys.executable, "-m", "difftop_ros.cli", "demo", "--model", model, "--out", tmp_path / "out"]
        return spawn([*command, *map(str, arguments)])

    return start


def family(process: Any) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def memory(processes: Any) -> set[str]:
    """Shared-memory files of Fast DDS that the processes have mapped."""
    return {name for p in processes for name in mapped_names(pid=p.pid) if "fastrtps" in name or "fastdds" in name}


def assert_clean(processes: Any, names: Any) -> None:
    left = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"still running: {[p.cmdline() for p in left]}"
    # A port belongs to a domain and may serve others; a segment belongs to one process.
    segments = {name for name in names if "port" not in name}
    assert names and not {name for name in segments if (SHM / name).exists()}


def test_a_failing_demo_measures_reports_and_exits_with_1(demo: Any, tmp_path: Path) -> None:
    import cv2

    process = demo("--episodes", 1, "--seconds", 1.5)
    process.wait_for("starting simulation")
    assert process.wait(60) == 1, process.output()
    out = tmp_path / "out"
    assert "FAILED" in process.output() and "0 of 1" in process.output()
    summary = json.loads((out / "summary.json").read_text())
    (episode,) = summary["episodes"]
    assert episode["seed"] == 1_000_000 and not episode["success"] and summary["successes"] == 0
    assert 1.4 < episode["seconds"] < 4.0 and episode["plans"] > 5 and episode["ticks"] > 30
    assert summary["control_rate_hz"] > 25 and summary["planning_rate_hz"] > 5 and summary["realtime_factor"] > 0.3
    for key in ("observe_ms", "encode_ms", "solve_ms", "observation_age_ms"):
        assert 0 < summary[key]["p50"] <= summary[key]["p99"] <= summary[key]["max"], key
    assert summary["tick_lateness_ms"]["p99"] is not None
    video = cv2.VideoCapture(str(out / "demo.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) > 40 and video.read()[0]
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape[1] > 6 * 200 and sheet.std() > 5
    assert 1000 < (out / "demo.gif").stat().st_size < 3_000_000


def interrupt(process: Any, number: Any) -> None:
    """Sends a signal, and an impatient second one, which must not tear the clean-up."""
    os.kill(process.pid, number)
    time.sleep(0.1)
    os.kill(process.pid, number)
    assert process.wait(20) == 130, process.output()
    assert "Traceback" not in process.output()


def test_interrupted_it_leaves_nothing_behind(demo: Any) -> None:
    process = demo("--episodes", 50, "--seconds", 0.5)
    process.wait_for("episode  1", timeout=60)
    children = family(process)
    names = memory(children)
    assert len(children) >= 3  # simulation, policy node, its planner
    interrupt(process, signal.SIGINT)
    assert_clean(children, names)


def test_terminated_while_starting_it_leaves_nothing_behind(demo: Any, tmp_path: Path) -> None:
    process = demo("--episodes", 50)
    simulation = tmp_path / "out" / "simulation.log"
    deadline = time.monotonic() + patience(60)
    while not (simulation.exists() and "ready" in simulation.read_text()):
        assert time.monotonic() < deadline, process.output()
        time.sleep(0.02)
    children = family(process)
    names = memory(children)
    interrupt(process, signal.SIGTERM)
    assert_clean(children, names)


def test_a_process_that_dies_is_named_and_its_log_shown(demo: Any) -> None:
    process = demo("--episodes", 50, "--seconds", 0.5)
    process.wait_for("episode  1", timeout=60)
    children = family(process)
    names = memory(children)
    simulation = next(p for p in children if "difftop_ros.nodes.simulation.bridge.node" in p.cmdline())
    simulation.kill()
    assert process.wait(20) == 2, process.output()
    assert "simulation was ended by SIGKILL" in process.output()
    assert "ready: task 'lift'" in process.output() and "Traceback" not in process.output()
    assert_clean(children, names)


def test_a_policy_that_does_not_fit_is_refused_in_one_sentence(spawn: Any, tmp_path: Path) -> None:
    process = spawn([sys.executable, "-m", "difftop_ros.cli", "demo", "--model", tmp_path, "--out", tmp_path / "out"])
    assert process.wait(30) == 2
    assert re.fullmatch(r"difftop demo: model folder .* lacks .*\n", process.output()), process.output()


def test_the_first_seed_is_the_evaluations() -> None:
    from difftop_ros.commands.demo import FIRST_SEED
    from difftop_ros.learning.evaluate import EVALUATION_SEED

    assert FIRST_SEED == EVALUATION_SEED


def test_free_domain_avoids_one_in_use() -> None:
    domains = {free_domain() for _ in range(20)}
    assert domains <= set(DOMAINS)
    busy = domains.pop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * busy + 10))
        assert busy not in {free_domain() for _ in range(300)}


def test_a_child_takes_its_children_with_it(tmp_path: Path) -> None:
    """A child that ignores SIGTERM, with a child of its own, is gone after stop."""
    (tmp_path / "stubborn.py").write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = Child("stubborn", "stubborn", [], tmp_path / "log", {**os.environ, "PYTHONPATH": str(tmp_path)})
    deadline = time.monotonic() + patience(20)
    while not child.log.read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    grandchild = psutil.Process(int(child.log.read_text()))
    child.stop(patience_s=0.3)
    assert not child.alive
    psutil.wait_procs([grandchild], timeout=5)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_state_travels_as_a_message(ros_context: object) -> None:
    from difftop_ros.messages.types import ros_types
    from difftop_ros.nodes.simulation.state import snapshot_of, state_message

    random = np.random.default_rng(0)
    state = {"qpos": random.normal(size=16), "mocap_pos": random.normal(size=6), "mocap_quat": random.normal(size=8)}
    message = state_message(ros_types, 1.25, state)
    time_s, back = snapshot_of(message)
    assert time_s == 1.25
    assert ros_types("std_msgs/msg/Float64MultiArray") is type(message)
    assert list(back) == list(state)
    assert all(np.array_equal(back[name], state[name]) for name in state)
    message.layout.dim = message.layout.dim[1:]
    with pytest.raises(UserError, match="sim/state"):
        snapshot_of(message)
