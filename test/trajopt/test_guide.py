"""The optimiser's pages against the code: the example shown is the file, which learns; statuses; methods; figure."""

import itertools
import re
import runpy
from pathlib import Path

import pytest

from difftop_ros.trajopt import Status
from difftop_ros.trajopt.solvers import SOLVER_TABLE

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs/tutorials/optimiser.md"
REFERENCE = ROOT / "docs/reference/trajopt.md"
EXAMPLE = ROOT / "examples/pendulum_cost.py"


def test_the_page_prints_the_example_as_it_is() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    assert EXAMPLE.read_text() in blocks


def test_the_example_learns_the_cost_of_its_demonstrator() -> None:
    names = runpy.run_path(str(EXAMPLE))
    losses = names["losses"]
    assert max(losses[-5:]) < losses[0] / 20
    learnt, truth = names["log_weights"].exp().tolist(), names["truth"].tolist()
    assert learnt == pytest.approx(truth, rel=0.3), "the weights are found, not only a small loss"


def test_the_page_has_every_status_and_method() -> None:
    text = REFERENCE.read_text()
    for status in Status:
        assert f"| {status.name} | {status.sentence} |" in text
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert set(SOLVER_TABLE) <= set(rows)


def test_the_solve_of_the_figure_ends_converged_with_bounds_active() -> None:
    solutions = runpy.run_path(str(ROOT / "benchmarks/solve_figure.py"))["iterates"]()
    costs = [solution.final_cost.item() for solution in solutions]
    assert all(later <= earlier for earlier, later in itertools.pairwise(costs))
    assert solutions[-1].statuses() == [Status.CONVERGED]
    assert 0 < solutions[-1].active_fraction.item() < 1
    assert (ROOT / "docs/images/solve.png").stat().st_size < 200_000
