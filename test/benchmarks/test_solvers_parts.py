"""What the benchmark's figures rest on: the released code's form in closed form, the floor's bytes, extrapolation."""

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.solvers import report
from benchmarks.solvers.__main__ import arguments
from benchmarks.solvers.measure import GRADIENTS, Job, measure_floor
from benchmarks.solvers.methods import coupled_closed_form
from benchmarks.solvers.nets import FORMS, Form, load_forms
from benchmarks.solvers.rows import Row
from difftop_ros.errors import UserError
from difftop_ros.trajopt import SolverOptions, TheseusSettings, solve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Form]:
    """One small net of each kind, trained for a few steps."""
    folder = tmp_path_factory.mktemp("nets")
    return {form.size.kind: form for form in load_forms(folder, ["rl-h5-a6", "il-4x4"], quick=True)}


@pytest.mark.parametrize(("kind", "step"), [("rl", 1e-4), ("il", 1e-6)])
def test_the_released_codes_form_is_what_theseus_does_with_one_residual(
    forms: dict[str, Form], kind: str, step: float
) -> None:
    pytest.importorskip("theseus", reason="theseus-ai is not installed")
    problem, start = forms[kind].problem(slice(0, 3))
    settings = TheseusSettings(form="scalar", step=step, coupled=True)
    solved = solve(problem, start, SolverOptions("theseus", 4, tolerance=1e-12, adjoint="none", settings=settings))
    closed = coupled_closed_form(problem, start, 4, settings)
    assert (closed - start).abs().max() > 1e-3
    assert torch.allclose(solved.actions, closed, atol=1e-4)


def test_the_floor_counts_each_weight_once_per_use_and_direction(forms: dict[str, Form]) -> None:
    form = forms["rl"]

    def weights(module: nn.Module) -> int:
        return sum(part.weight.nbytes for part in module.modules() if isinstance(part, nn.Linear))

    net = form.net
    once = FORMS["rl-h5-a6"].horizon * weights(net.change)  # type: ignore[arg-type]
    # the rewards of all steps are asked for at once
    once += weights(net.reward_net) + weights(net.prior) + weights(net.twins)  # type: ignore[arg-type]
    floor = measure_floor(form, "cpu")
    assert floor.megabytes == pytest.approx(2 * once / 1e6)
    assert floor.unique_megabytes == pytest.approx(weights(net) / 1e6)
    assert floor.best_ms == pytest.approx(2 * once / 1e6 / floor.gigabytes_per_s)


class Reading(TorchDispatchMode):
    """Counts the bytes of matrices that are multiplied with a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.mv.default:
            self.bytes += args[0].nbytes
        return function(*args, **(kwargs or {}))


def test_the_floor_of_the_rounds_reads_as_much_as_ten_gradients(forms: dict[str, Form]) -> None:
    floor = measure_floor(forms["rl"], "cpu")
    assert math.isnan(floor.ms), "nothing was timed yet"
    with Reading() as reading:
        floor.job.time(0, "cpu")
    assert reading.bytes / 1e6 == pytest.approx(GRADIENTS * floor.megabytes, rel=0.02)
    floor.job.seconds[:] = [0.02, 0.01, 0.04]
    assert floor.ms == pytest.approx(20 / GRADIENTS)


def test_nets_are_trained_once_and_the_same_again(forms: dict[str, Form], tmp_path: Path) -> None:
    (again,) = load_forms(tmp_path, ["il-4x4"], quick=True)
    (kept,) = load_forms(tmp_path, ["il-4x4"], quick=True)
    for name, tensor in again.net.state_dict().items():
        assert torch.equal(tensor, kept.net.state_dict()[name]), name
        assert torch.allclose(tensor, forms["il"].net.state_dict()[name], atol=1e-6), name


def test_extrapolated_times_are_scaled_and_the_slowest_of_few_is_the_p99() -> None:
    job = Job(lambda turn: None, factor=10.0, seconds=[0.001, 0.003, 0.002])
    assert job.statistics() == (pytest.approx(20.0), pytest.approx(30.0))


def row(method: str, forward_ms: float, gap: float, role: str = "") -> Row:
    return Row("rl-h5-a6", 1, method, 10, "eager", "implicit", role, forward_ms=forward_ms, gap=gap, cost=-20.0)


def test_expectations_compare_only_rows_that_end_as_low() -> None:
    paper = row("theseus, paper's form", 1000.0, 0.01, "paper")
    fast, low = row("qn", 10.0, 0.02), row("qn", 25.0, 0.01)
    (line,) = report.expectations([paper, fast, low])
    assert line.startswith("PASS") and "40x" in line
    (line,) = report.expectations([paper, fast])
    assert line.startswith("FAIL") and "no qn row" in line
    low.forward_ms = math.nan
    assert report.expectations([paper, fast, low])[0].startswith("FAIL")


def test_the_summary_takes_the_fastest_qn_that_ends_as_low() -> None:
    paper, tuned = row(report.PAPER, 1000.0, 0.2), row(f"{report.PAPER}, step 0.001", 900.0, 0.01)
    fast, low, left_out = row("qn", 10.0, 0.02), row("qn compiled", 25.0, 0.01), row("qn graph", math.nan, math.nan)
    *_, line = report.summary([paper, tuned, fast, low, left_out]).splitlines()
    assert line == "| rl-h5-a6 | 1 | 900 | 0.0100 | qn compiled, 10 iterations | 25 | 0.0100 | 36 |"
    *_, line = report.summary([tuned, fast]).splitlines()
    assert line.endswith("| none |  |  |  |")


def test_the_summary_leaves_out_batches_in_between() -> None:
    rows = [dataclasses.replace(row(report.PAPER, 100.0, 0.2), batch=batch) for batch in (1, 128, 4096)]
    assert [line.split(" | ")[1] for line in report.summary(rows).splitlines()[2:]] == ["1", "4096"]


def test_a_quick_run_is_not_published(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--quick", "--publish"])
    assert "too little to be published" in capsys.readouterr().err


def test_publishing_writes_the_table_and_needs_the_marks(tmp_path: Path) -> None:
    (tmp_path / "solvers.png").write_bytes(b"picture")
    facts: dict[str, object] = {"machine": "a machine", "command": "python -m benchmarks.solvers --publish"}
    results, rows = tmp_path / "RESULTS.md", [row(report.PAPER, 1234.56, 0.2), row("qn", 10.0, math.nan)]
    results.write_text(f"above\n{report.MARKS[0]}\n| old |\n{report.MARKS[1]}\nbelow\n")
    report.publish(results, tmp_path / "copy.png", rows, facts, tmp_path)
    text = results.read_text()
    assert (
        "`python -m benchmarks.solvers --publish`, a machine" in text and "| 1,235 |" in text and "| old |" not in text
    )
    assert text.startswith("above") and text.endswith("below\n")
    with (tmp_path / "solvers.csv").open(newline="") as file:
        head, first, second = csv.reader(file)
    assert head == list(report.PUBLISHED)
    assert first[head.index("forward_ms")] == "1235" and second[head.index("gap")] == ""
    assert (tmp_path / "copy.png").read_bytes() == b"picture"
    results.write_text("no marks")
    with pytest.raises(UserError, match="put the marks back"):
        report.publish(results, tmp_path / "copy.png", rows, facts, tmp_path)


def test_the_published_table_has_the_columns_and_makes_the_published_summary() -> None:
    """benchmarks/solvers.csv and the summary in RESULTS.md belong together."""
    with (ROOT / "benchmarks/solvers.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == report.PUBLISHED and {line["form"] for line in table} == set(FORMS)
    rows = [
        Row(
            line["form"], int(line["batch"]), line["method"], int(line["iterations"]), "", line["adjoint"],
            forward_ms=float(line["forward_ms"] or "nan"), gap=float(line["gap"] or "nan"),
        )
        for line in table
    ]  # fmt: skip
    assert report.summary(rows) in (ROOT / "benchmarks/RESULTS.md").read_text()
