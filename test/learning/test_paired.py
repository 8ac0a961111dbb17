"""Differences on the same starts with their intervals, and the tables of the committed rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import policy_classes
from difftop_ros.commands.bench import paired
from difftop_ros.commands.bench import rows as table

UNIT = ("task", "seed")
ROW = dict.fromkeys(policy_classes.COLUMNS, "") | {
    "demos": "10", "steps": "800", "episodes": "4", "limit": "200", "stay_steps": "100", "origin": "world",
}  # fmt: skip


def _row(policy: str, seed: int, outcomes: str, base: str = "", task: str = "push-v3") -> dict[str, str]:
    found = {"task": task, "policy": policy, "seed": str(seed), "outcomes": outcomes, "base_outcomes": base}
    return {**ROW, **found, "successes": str(outcomes.count("1"))}


def test_a_difference_that_every_start_shows_has_no_width() -> None:
    better, worse = np.ones(50), np.zeros(50)
    assert paired.difference([(better, worse)] * 3) == (100.0, 100.0, 100.0)


def test_the_interval_covers_a_known_difference() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for trial in range(60):
        pairs = []
        for _ in range(8):
            shift = random.normal(10, 8)  # points; trainings differ
            starts = random.random(100)
            pairs.append(((starts < (50 + shift) / 100).astype(float), (starts < 0.5).astype(float)))
        _, low, high = paired.difference(pairs, trial)
        covered += low <= 10 <= high
    assert covered >= 50  # 95 % asked for; eight trainings give somewhat less


def test_policies_are_paired_by_task_and_seed_alone() -> None:
    rows = [_row("bc", 0, "1100"), _row("bc", 1, "0000"), _row("difftop", 0, "1110", base="1000")]
    text = paired.pair_table(rows, UNIT)
    assert "| `difftop` | its own base | +50.0 |" in text
    assert "| `bc` | `difftop` | -25.0 |" in text and text.rstrip().endswith("| 1 |")


def test_rows_without_outcomes_are_in_the_table_and_in_no_pair() -> None:
    rows = [{**_row("bc", 0, ""), "successes": "2"}, {**_row("difftop", 0, ""), "successes": "3"}]
    assert "50 (50–50, n=1)" in policy_classes.success_table(rows)
    assert paired.pair_table(rows, UNIT) == ""


def test_the_committed_rows_make_tables() -> None:
    rows = table.read(Path(policy_classes.__file__).with_suffix(".csv"), policy_classes.COLUMNS)
    assert "| `bc` |" in policy_classes.tables(rows)
    for row in rows:
        assert row["outcomes"].count("1") == int(row["successes"]) or not row["outcomes"]


@pytest.mark.parametrize("origin", ["world", "hand"])
def test_a_demonstration_goes_on_after_success(origin: str) -> None:
    pytest.importorskip("metaworld", reason="metaworld is not installed in this environment")
    (short,) = policy_classes.demonstrations("reach-v3", 1, limit=500, stay_steps=0, origin=origin)
    (long,) = policy_classes.demonstrations("reach-v3", 1, limit=500, stay_steps=30, origin=origin)
    assert len(long.actions) == len(short.actions) + 30
    np.testing.assert_array_equal(long.objects[: len(short.actions)], short.objects)
