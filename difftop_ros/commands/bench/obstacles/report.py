"""The table of the comparison with obstacles. Nothing is run here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from difftop_ros.learning.intervals import wilson_interval

Rows = Sequence[Mapping[str, str]]
Cells = dict[tuple[str, ...], dict[str, list[Mapping[str, str]]]]
HEAD = ("model", "task", "obstacle", "arm", "starts", "success", "contact", "nearest [mm], median", "ms per plan",
        "largest jerk [rad/s³], median")  # fmt: skip
IN_THE_WAY = "any in the way"
_NOTE = ("Per cent with 95 % intervals (Wilson). A start that touches has failed. A model's arms are counted over the "
         "starts that all of them have with that obstacle.")  # fmt: skip


def markdown(rows: Rows) -> str:
    """A line for each model, task, obstacle and arm, over the starts that all arms there have."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for (model, task, obstacle, _), arms in {**paired(rows), **_together(paired(rows))}.items():
        lines += [f"| {model} | {task} | {obstacle} | {arm} | {_figures(mine)} |" for arm, mine in arms.items()]
    return "\n".join([*lines, "", _NOTE, ""])


def paired(rows: Rows) -> Cells:
    """(model, task, obstacle, replan_every) -> arm -> its rows of the seeds that every arm has."""
    found: Cells = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["model"], row["task"], row["obstacle"], row["replan_every"]][row["arm"]].append(row)
    for arms in found.values():
        shared = set.intersection(*({row["seed"] for row in mine} for mine in arms.values()))
        for arm, mine in arms.items():
            arms[arm] = [row for row in mine if row["seed"] in shared]
    return found


def _together(cells: Cells) -> Cells:
    """All kinds of obstacle of a model as one."""
    found: Cells = defaultdict(lambda: defaultdict(list))
    for (model, task, obstacle, replan_every), arms in cells.items():
        for arm, mine in arms.items() if obstacle != "none" else ():
            found[model, task, IN_THE_WAY, replan_every][arm] += mine
    return found


def _figures(rows: Rows) -> str:
    success = [row["success"] == "1" for row in rows]
    contact = [row["contact"] == "1" for row in rows]
    rates = (_rate(flags) for flags in (success, contact))
    medians = (_median(rows, "nearest_mm", 0), _median(rows, "plan_ms", 1), _median(rows, "jerk", 0))
    return " | ".join([str(len(rows)), *rates, *medians])


def _rate(flags: Sequence[bool]) -> str:
    low, high = wilson_interval(sum(flags), len(flags))
    return f"{100 * sum(flags) / max(len(flags), 1):.0f} ({100 * low:.0f}–{100 * high:.0f})"


def _median(rows: Rows, column: str, digits: int) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{np.median(values):.{digits}f}" if values else "–"
