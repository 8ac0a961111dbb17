"""What people look at after a comparison of policies: the table with intervals, and the plot. Nothing is run here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difftop_ros.commands.bench.cells import unusual
from difftop_ros.commands.bench.usual import COMPARED_UNNAMED
from difftop_ros.learning.intervals import wilson_interval

Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Rate:
    """A success rate with its 95 % interval; `good` of `count` episodes, over `seeds` trained policies."""

    mean: float
    low: float
    high: float
    good: int
    count: int
    seeds: int

    def __str__(self) -> str:
        """'83 (71–91)', in per cent."""
        return f"{100 * self.mean:.0f} ({100 * self.low:.0f}–{100 * self.high:.0f})"


def rate(rows: Rows) -> Rate:
    """Wilson's interval over all episodes of the rows. It knows of the episodes, not of the spread between seeds."""
    good, count = sum(int(r["successes"]) for r in rows), sum(int(r["episodes"]) for r in rows)
    return Rate(good / max(count, 1), *wilson_interval(good, count), good, count, len(rows))


def overall(rates: Iterable[Rate]) -> Rate:
    """The mean over tasks, each weighing the same; the interval from the tasks' own (Agresti-Coull) variances."""
    rates = list(rates)
    mean = float(np.mean([r.mean for r in rates]))
    smooth = [((r.good + 2) / (r.count + 4), r.count + 4) for r in rates]
    half = 1.96 * math.sqrt(sum(p * (1 - p) / n for p, n in smooth)) / len(rates)
    good, count = sum(r.good for r in rates), sum(r.count for r in rates)
    return Rate(mean, max(0.0, mean - half), min(1.0, mean + half), good, count, sum(r.seeds for r in rates))


def grouped(rows: Rows) -> dict[tuple[str, str], dict[tuple[str, str, str], list[Mapping[str, str]]]]:
    """(policy, observation) -> (task, demos, steps) -> rows.

    A scene, and what else is unusual and not the same in all rows, stand with the observation.
    """
    differ = {"scene", *(name for name in COMPARED_UNNAMED if len({row[name] for row in rows}) > 1)}
    found: dict[tuple[str, str], dict[tuple[str, str, str], list[Mapping[str, str]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        seen = ", ".join([row["observation"], *unusual(row, differ)])
        found[row["policy"], seen][row["task"], row["demos"], row["steps"]].append(row)
    return found


def markdown(rows: Rows) -> str:
    """The table: a row per policy and observation, a column per task, the mean over the tasks all of them did."""
    groups = grouped(rows)
    columns = sorted({column for group in groups.values() for column in group})
    head = ["policy", "observation", *(f"{task}, {demos} demos, {steps} steps" for task, demos, steps in columns)]
    head += ["mean", "seeds", "ms per action p50 / p99", "ms per training step", "parameters"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (policy, observation), group in sorted(groups.items(), key=lambda item: -_mean(item[1], columns)):
        rates = {column: rate(found) for column, found in group.items()}
        done = [str(rates[column]) if column in rates else "–" for column in columns]
        mean = str(overall(rates.values())) if len(rates) == len(columns) else f"– ({len(rates)} of {len(columns)})"
        mine = [row for found in group.values() for row in found]
        seeds = sorted({int(row["seed"]) for row in mine})
        lines.append(
            f"| {policy} | {observation} | {' | '.join(done)} | {mean} | {', '.join(map(str, seeds))} | "
            f"{_median(mine, 'plan_ms_p50'):.1f} / {_median(mine, 'plan_ms_p99'):.1f} | "
            f"{_median(mine, 'step_ms'):.0f} | {_median(mine, 'parameters') / 1e3:.0f} k |"
        )
    told = ["Success in per cent, with its 95 % interval over all episodes of all seeds.", *_best_of_five(rows)]
    return "\n".join([*lines, "", *told, ""])


def _best_of_five(rows: Rows) -> list[str]:
    """Where a protocol takes the best of the last five checkpoints: that, beside the last one's."""
    chosen = [row for row in rows if row["best_of_five"]]
    if not chosen:
        return []
    each = [
        f"{row['policy']} on {row['task']}, seed {row['seed']}: {row['successes']} and {row['best_of_five']} of "
        f"{row['episodes']}"
        for row in chosen
    ]
    return ["", f"With the last checkpoint, and with the best of the last five on these starts: {'; '.join(each)}."]


def _mean(group: Mapping[tuple[str, str, str], Rows], columns: Sequence[tuple[str, str, str]]) -> float:
    rates = [rate(rows).mean for rows in group.values()]
    return float(np.mean(rates)) - (len(columns) - len(rates))  # complete rows first


def _median(rows: Rows, column: str) -> float:
    return float(np.median([float(row[column]) for row in rows]))


def plot(rows: Rows, path: Path) -> Path:
    """Bars of success with intervals: a group per task, a bar per policy; what sees joints alone is hatched."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = grouped(rows)
    columns = sorted({column for group in groups.values() for column in group})
    names = sorted(groups, key=lambda name: (name[1].startswith("state"), name))
    figure, axes = pyplot.subplots(figsize=(max(6.0, 0.35 * len(names) * len(columns) + 2), 4.2))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        colour = f"C{index % 10}"
        for place, column in enumerate(columns):
            if column not in groups[name]:
                continue
            found = rate(groups[name][column])
            error = [[max(found.mean - found.low, 0.0)], [max(found.high - found.mean, 0.0)]]
            axes.bar(place + (index - len(names) / 2 + 0.5) * width, found.mean, width * 0.92, yerr=error, color=colour,
                     hatch="//" if name[1].startswith("state") else None, capsize=2, error_kw={"lw": 0.8})  # fmt: skip
        axes.bar(0, 0, color=colour, hatch="//" if name[1].startswith("state") else None, label=f"{name[0]}, {name[1]}")
    axes.set(ylabel="success", ylim=(0, 1.02))
    axes.set_xticks(range(len(columns)), [f"{task}\n{demos} demos, {steps} steps" for task, demos, steps in columns])
    axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
