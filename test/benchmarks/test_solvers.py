"""The solver benchmark runs, quickly: columns, finite figures, nobody below the best known plans; no times judged."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {
    "form", "batch", "method", "iterations", "adjoint", "forward_ms", "forward_p99_ms", "both_ms", "gradients", "cost",
    "gap", "statuses", "forward_ratio", "both_ratio", "floor_ratio", "note",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--quick` leaves behind."""
    out = tmp_path_factory.mktemp("solvers")
    command = [sys.executable, "-m", "benchmarks.solvers", "--quick", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr
    assert "cost gap" in done.stdout
    return out


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_row_has_figures_or_a_reason(folder: Path) -> None:
    rows = table(folder)
    assert set(rows[0]) >= COLUMNS
    for row in rows:
        if "left out" in row["note"]:
            assert len(row["note"]) > len("left out: "), row
            continue
        for name in ("forward_ms", "forward_p99_ms", "gradients", "cost", "gap"):
            assert math.isfinite(float(row[name])), (name, row)
        assert float(row["forward_ms"]) > 0
        assert math.isfinite(float(row["both_ms"])) or row["note"], row


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_solver_is_measured_where_it_can_be(folder: Path) -> None:
    from difftop_ros.trajopt.solvers import SOLVER_TABLE

    measured = {row["method"].replace(",", " ").split()[0] for row in table(folder) if "left out" not in row["note"]}
    assert measured >= set(SOLVER_TABLE)
    left = {row["method"] for row in table(folder) if row["form"].startswith("il") and "left out" in row["note"]}
    assert "ilqr" in left, "ilqr needs a rollout and must say so on a chunk"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nobody_is_below_the_best_and_more_iterations_are_no_worse(folder: Path) -> None:
    rows = [row for row in table(folder) if "left out" not in row["note"]]
    for row in rows:
        assert float(row["gap"]) >= -1e-6, row
    for form in {row["form"] for row in rows}:
        gaps = {
            int(row["iterations"]): float(row["gap"])
            for row in rows
            if row["form"] == form and row["method"] == "qn" and row["adjoint"] == "implicit"
        }
        assert gaps[10] <= gaps[5] + 1e-6


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_leaves_table_and_picture(folder: Path) -> None:
    facts = json.loads((folder / "rows.json").read_text())["facts"]
    assert facts["machine"] and any(name.startswith("floor") for name in facts)
    assert "| qn |" in (folder / "table.md").read_text()
    assert (folder / "solvers.png").read_bytes()[:4] == b"\x89PNG"
