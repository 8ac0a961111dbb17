"""The benchmark of the node's time: it runs real processes, goes on where it was stopped, and its table adds up."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.cli import main
from difftop_ros.commands.bench.node import made_up, report, session
from difftop_ros.commands.bench.node.usage import usage
from difftop_ros.messages import ObservationPipeline
from difftop_ros.plan_result import STAGES


@pytest.mark.timeout(300)
def test_it_measures_an_active_node_and_what_is_there_counts(ros_domain: int, tmp_path: Path, capsys: Any) -> None:
    table = tmp_path / "node.csv"
    words = ["bench", "node", "--size", "160x120", "--csv", str(table), "--every", "2", "-p", "max_plan_age_ms:=5000.0"]
    assert main([*words, "--seconds", "5"]) == 0
    rows = list(csv.DictReader(table.open()))
    last = rows[-1]
    assert len(rows) == 3 and last["state"] == "active" and float(last["elapsed_s"]) >= 5.0
    assert int(last["ticks"]) + int(last["ticks_lost"]) > 150 and int(last["plans"]) > 5
    for stage in ("pipe", "work", "observe", "image", "point_cloud", "crop", "voxel", "sample", "encode", "solve"):
        assert float(last[f"{stage}_p99_ms"]) >= float(last[f"{stage}_p50_ms"]) > 0, stage
    assert float(last["first_command_p50_ms"]) > float(last["work_p50_ms"])
    assert float(last["node_memory_mb"]) > 20 < float(last["planner_memory_mb"]) and int(last["node_threads"]) > 2
    assert (tmp_path / "node.png").stat().st_size > 10_000
    capsys.readouterr()
    assert main([*words, "--seconds", "4"]) == 0
    assert list(csv.DictReader(table.open())) == rows, "so much was measured already"
    assert "first_command" in capsys.readouterr().out


def row(number: str, elapsed: float, **values: Any) -> dict[str, str]:
    plain = dict.fromkeys(session.COLUMNS, "0") | {
        "session": number,
        "elapsed_s": elapsed,
        "hold_reason": "",
    }
    return {name: str(value) for name, value in (plain | values).items()}


def test_sessions_are_added_and_growth_is_that_after_the_first_minute() -> None:
    def memory(elapsed: float) -> float:
        return 300 + 50 * min(elapsed, 60) / 60 + 2 * elapsed / 3600

    times = np.arange(10.0, 610.0, 10.0)
    rows = [row("a", t, ticks=int(50 * t), plans=int(30 * t), lateness_p50_ms=0.1, lateness_p99_ms=1.0 + t / 1000,
                node_memory_mb=memory(t), node_cpu_s=t / 4) for t in times]  # fmt: skip
    rows += [
        row("b", t, ticks=int(50 * t) - 3, ticks_lost=3, plans=int(30 * t), lateness_p99_ms=0.5) for t in times[:6]
    ]
    told = report.facts(rows[::-1])
    assert told["seconds"] == 660 and (told["ticks"], told["lost"]) == (33_000, 3)
    assert told["plans_per_s"] == pytest.approx(30)
    assert told["lateness"][1] == pytest.approx(1.6)
    assert told["node_cpu"] == pytest.approx((600 - 10) / 4 / (590 + 50))
    assert told["node_memory_mb"][1] == pytest.approx(2.0, abs=0.01)
    assert np.isnan(report.growth(rows[-6:], "node_memory_mb")), "a minute tells nothing of an hour"


def test_usage_is_that_of_the_process() -> None:
    held = np.ones(40_000_000 // 8)
    found = usage(os.getpid())
    assert found.memory_mb > 100 and found.threads >= 1 and found.descriptors > 2 and found.cpu_s > 0
    del held
    with pytest.raises(OSError):
        usage(2**22 + 1)


def test_the_made_up_contract_has_a_joint_state_a_picture_and_a_cloud_and_stages_have_names() -> None:
    kinds = {obs.kind for obs in made_up.contract().observations.values()}
    assert kinds == {"joint_state", "image", "point_cloud"} < set(STAGES)
    assert len(ObservationPipeline(made_up.contract()).topics) == 3
