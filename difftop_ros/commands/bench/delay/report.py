"""The table of `difftop bench delay`. Nothing is run here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from difftop_ros.learning.intervals import wilson_interval

Rows = Sequence[Mapping[str, str]]
HEAD = ("model", "delay [ms]", "arm", "starts", "success [%]", "to success [s], median",
        "seam [mrad], median of the largest", "step back [mrad], median of the largest",
        "acceleration / limit, largest", "jerk / limit, largest")  # fmt: skip


def markdown(rows: Rows) -> str:
    """A line for each model, delay and arm, over the starts that all of a model's delays and arms have."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for (model, delay, arm), mine in paired(rows).items():
        lines.append(f"| {model} | {delay} | {arm} | {_figures(mine)} |")
    return "\n".join([*lines, "", "95 % intervals (Wilson). Starts that every line of a model has.", ""])


def paired(rows: Rows) -> dict[tuple[str, str, str], list[Mapping[str, str]]]:
    """(model, delay, arm) -> its rows of the seeds that all of the model's have, delays in order."""
    found: dict[tuple[str, str, str], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        found[row["model"], row["delay_ms"], row["arm"]].append(row)
    for model in {model for model, _, _ in found}:
        own = [name for name in found if name[0] == model]
        shared = set.intersection(*({row["seed"] for row in found[name]} for name in own))
        for name in own:
            found[name] = [row for row in found[name] if row["seed"] in shared]
    return dict(sorted(found.items(), key=lambda entry: (entry[0][0], float(entry[0][1]), entry[0][2])))


def _figures(rows: Rows) -> str:
    good = [row for row in rows if row["success"] == "1"]
    low, high = wilson_interval(len(good), len(rows))
    share = f"{100 * len(good) / max(len(rows), 1):.0f} ({100 * low:.0f}–{100 * high:.0f})"
    medians = [
        f"{np.median([float(row[name]) for row in rows]):.1f}" if rows else "–" for name in ("seam_mrad", "back_mrad")
    ]
    most = [f"{max((float(row[name]) for row in rows), default=0.0):.2f}" for name in ("acceleration", "jerk")]
    took = f"{np.median([float(row['seconds']) for row in good]):.1f}" if good else "–"
    return " | ".join([str(len(rows)), share, took, *medians, *most])
