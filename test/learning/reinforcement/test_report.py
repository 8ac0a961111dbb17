"""The table and intervals of `difftop bench rl`: paired differences, what was not measured, cells that are done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.commands.bench import rows
from difftop_ros.commands.bench.rl import cells, report
from difftop_ros.errors import UserError


def row(method: str, acting: str, seed: int, mean: float, step: int = 1000, **other: Any) -> dict[str, Any]:
    fixed = {"task": "t", "steps": 1000, "action_repeat": 8, "episodes": 1, "returns": str(mean), "update_ms": "nan",
             "act_ms": 2.0, "minutes": 1, "version": "0", "machine": "m", "date": "d"}  # fmt: skip
    return {**fixed, "method": method, "acting": acting, "seed": seed, "step": step, "mean": mean, **other}


def test_the_interquartile_mean_leaves_out_the_ends() -> None:
    assert report.interquartile_mean(np.array([0.0, 4.0, 6.0, 1000.0])) == 5.0
    found = report.score({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]})
    assert found.low <= found.mean <= found.high and found.runs == 6 and str(report.score({"a": [7.0]})) == "7"


def test_plan_and_prior_are_compared_within_a_training_and_rows_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rl.csv"
    for seed in range(3):
        for method, gain in (("difftop", 30.0), ("model-losses", 10.0)):
            rows.append(path, cells.COLUMNS, row(method, "plan", seed, 100.0 * seed + gain))
            rows.append(path, cells.COLUMNS, row(method, "prior", seed, 100.0 * seed))
    found = rows.read(path, cells.COLUMNS)
    text = report.markdown(found)
    assert "difftop plan less difftop prior, paired: 30 (30–30), 3 runs" in text
    assert "difftop plan less model-losses plan, paired: 20 (20–20), 3 runs" in text
    assert "| 2.0 | – |" in text, "what was not measured is no number"
    assert report.plot(found, tmp_path / "rl.png").stat().st_size > 5000
    todo = cells.unfinished([cells.Cell("t", "difftop", seed, 1000) for seed in (2, 3)], found)
    assert [cell.seed for cell in todo] == [3]


def test_a_method_s_options_are_those_of_the_training() -> None:
    cell = cells.Cell("cartpole-swingup", "difftop:plan_loss=0.3,horizon=5", 1, 1000)
    found = cells.settings_of(cell, 500, 2)
    assert (found.plan_loss, found.policy.horizon, found.seed, found.eval_with) == (0.3, 5, 1, "plan+prior")
    with pytest.raises(UserError, match=r"options \['speed'\]; expected some of"):
        cells.settings_of(cells.Cell("t", "difftop:speed=3", 0, 10), 5, 1)
    with pytest.raises(UserError, match="method is 'ppo'; expected one of"):
        cells.Cell("t", "ppo", 0, 10)
