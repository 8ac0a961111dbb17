"""Policies that learn by trying, on equal terms: the cells of a comparison, how one is run, its rows.

A cell is one training: task x method x seed. Rows go to a CSV once the cell has gone all its steps: one per evaluation
and way to act (the plan, the prior alone, sampling in the same model), all from the same starts. What is drawn is in
report.py, the rival without a model in rivals.py.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros import __version__
from difftop_ros.errors import UserError
from difftop_ros.learning.progress import Report, Stop, never, silent
from difftop_ros.learning.reinforcement.settings import TryingSettings

# What each method is, in options of `difftop train-rl`, and who acts in its evaluations.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "difftop": {"policy": "difftop_rl", "eval_with": "plan+prior"},
    "model-losses": {"policy": "difftop_rl", "plan_loss": 0.0, "eval_with": "plan+prior"},
    "tdmpc": {"policy": "tdmpc", "eval_with": "plan+prior"},
    "prior": {"policy": "prior", "eval_with": "prior"},
    "sac": {},
}
KEY = ("task", "method", "seed", "steps")
RESULT = ("action_repeat", "step", "acting", "episodes", "mean", "returns", "update_ms", "act_ms", "minutes",
          "version", "machine", "date")  # fmt: skip
COLUMNS = (*KEY, *RESULT)


@dataclass(frozen=True)
class Cell:
    """One training to be. method: a name of METHODS, with options: 'difftop:plan_loss=0.3,horizon=5'."""

    task: str
    method: str
    seed: int
    steps: int

    def __post_init__(self) -> None:
        name = self.method.partition(":")[0]
        if name not in METHODS:
            raise UserError(f"method is {name!r}; expected one of {list(METHODS)}, with options as difftop:horizon=5")

    @property
    def name(self) -> str:
        """A folder name for it."""
        words = (self.task, self.method, f"{self.steps}steps", f"s{self.seed}")
        return "_".join("".join(c if c.isalnum() or c in ".-" else "-" for c in word) for word in words)

    @property
    def key(self) -> tuple[str, ...]:
        """What makes rows the same cell's."""
        return tuple(str(value) for value in dataclasses.astuple(self))


def settings_of(cell: Cell, eval_every: int, eval_episodes: int) -> TryingSettings:
    """The cell's training. Raises UserError for an option that cannot be."""
    name, _, rest = cell.method.partition(":")
    values: dict[str, Any] = dict(METHODS[name])
    for part in filter(None, rest.split(",")):
        key, sign, value = part.partition("=")
        if not sign:
            raise UserError(f"method {cell.method!r} has the option {part!r}; expected NAME=VALUE")
        values[key] = _read(value)
    known = TryingSettings.names()
    strange = sorted(values.keys() - known)
    if strange:
        raise UserError(f"method {cell.method!r} has the options {strange}; expected some of {sorted(known)}")
    return TryingSettings.from_values(
        {**values, "env": cell.task, "seed": cell.seed, "steps": cell.steps, "eval_every": eval_every,
         "eval_episodes": eval_episodes}
    )  # fmt: skip


def _read(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def run_cell(
    cell: Cell, settings: TryingSettings, out: Path, *, report: Report = silent, stop: Stop = never
) -> list[dict[str, Any]]:
    """Train the cell in the folder `out`, going on where it was; returns its rows. Raises Stopped and UserError."""
    from difftop_ros.learning.reinforcement.environments import make_trial
    from difftop_ros.learning.reinforcement.train import RETURNS, read_returns, train_by_trying

    if cell.method == "sac":
        from difftop_ros.commands.bench.rl.rivals import train_sac

        times = train_sac(settings, out, report=report, stop=stop)
    else:
        times = train_by_trying(lambda: make_trial(settings), settings, out, report=report, stop=stop).times
    trial = make_trial(settings)
    trial.close()
    found: dict[tuple[int, str], list[float]] = {}
    for row in read_returns(out / RETURNS):
        found.setdefault((int(row["step"]), row["acting"]), []).append(float(row["return"]))
    return [
        {
            **dataclasses.asdict(cell),
            "action_repeat": trial.per_action,
            "step": step,
            "acting": acting,
            "episodes": len(returns),
            "mean": round(float(np.mean(returns)), 1),
            "returns": ";".join(f"{value:.1f}" for value in returns),
            "update_ms": round(times.update_ms, 2),
            "act_ms": round(times.act_ms, 2),
            "minutes": round(times.seconds / 60, 1),
            "version": __version__,
            "machine": platform.machine(),
            "date": date.today().isoformat(),
        }
        for (step, acting), returns in found.items()
    ]


def all_cells(tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int], steps: int) -> list[Cell]:
    """Every combination, seed by seed and task by task, so that early rows already compare all methods."""
    return [Cell(task, method, seed, steps) for seed in seeds for task in tasks for method in methods]


def unfinished(cells: Sequence[Cell], rows: Sequence[Mapping[str, str]]) -> list[Cell]:
    """The cells that have no rows yet."""
    done = {tuple(row[name] for name in KEY) for row in rows}
    return [cell for cell in cells if cell.key not in done]
