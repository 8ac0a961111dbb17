"""What people look at after a comparison of learning by trying: table and learning curves with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Rows = Sequence[Mapping[str, str]]
DRAWS = 2000
FULL = 1000.0  # the most a task of dm_control can return


@dataclass(frozen=True)
class Score:
    """Interquartile mean of the returns of all runs (tasks x seeds) with its 95 % interval, and how many runs."""

    mean: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        """'812 (760–840)'; without an interval for one run."""
        return f"{self.mean:.0f} ({self.low:.0f}–{self.high:.0f})" if self.runs > 1 else f"{self.mean:.0f}"


def score(by_task: Mapping[str, Sequence[float]], seed: int = 0) -> Score:
    """Over runs of several tasks, as rliable (arXiv 2108.13264): the bootstrap draws seeds anew within each task."""
    runs = [np.asarray(found, float) for found in by_task.values() if len(found)]
    random = np.random.default_rng(seed)
    drawn = [
        interquartile_mean(np.concatenate([found[random.integers(len(found), size=len(found))] for found in runs]))
        for _ in range(DRAWS)
    ]
    every = np.concatenate(runs)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Score(interquartile_mean(every), float(low), float(high), len(every))


def interquartile_mean(values: np.ndarray) -> float:
    """The mean of the middle half."""
    from scipy.stats import trim_mean

    return float(trim_mean(values, 0.25))


Name = tuple[str, str]  # method and who acts


def grouped(rows: Rows) -> dict[Name, dict[int, dict[str, list[float]]]]:
    """(method, acting) -> step -> task -> returns of the seeds, the rows' newest where a seed stands twice."""
    kept = {
        (row["method"], row["acting"], int(row["step"]), row["task"], row["seed"]): float(row["mean"]) for row in rows
    }
    found: dict[Name, dict[int, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for (method, acting, step, task, _), value in sorted(kept.items()):
        found[method, acting][step][task].append(value)
    return found


def markdown(rows: Rows) -> str:
    """A row per method and way to act: returns at the last step per task, over all tasks, and what it cost."""
    groups, tasks = grouped(rows), sorted({row["task"] for row in rows})
    head = ["method", "acting", *tasks, "all (IQM)", "CPU ms per action", "CPU ms per update"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (method, acting), steps in sorted(groups.items()):
        last = max(steps)
        per_task = [str(score({task: steps[last][task]})) if steps[last][task] else "–" for task in tasks]
        whole = {task: found for task, found in steps[last].items() if found}
        everything = str(score(whole)) if len(whole) == len(tasks) else f"– ({len(whole)} of {len(tasks)})"
        mine = [row for row in rows if row["method"] == method]
        times = [_median(float(row[name]) for row in mine) for name in ("act_ms", "update_ms")]
        lines.append(f"| {' | '.join([method, acting, *per_task, everything, *times])} |")
    steps_told = ", ".join(f"{step:,}" for step in sorted({max(found) for found in groups.values()}))
    told = (
        f"Return after {steps_told} control steps, of 1000; interquartile mean over seeds with its 95 % interval "
        "(bootstrap)."
    )
    return "\n".join([*lines, "", told, "", *differences(rows)])


def _median(times: Iterable[float]) -> str:
    """Of those that were measured."""
    known = [time for time in times if np.isfinite(time)]
    return f"{np.median(known):.1f}" if known else "–"


def differences(rows: Rows) -> list[str]:
    """Paired by task and seed: the plan against the prior of the same training, difftop against the others."""
    last: dict[tuple[str, str, str, str], tuple[int, float]] = {}
    for row in rows:
        name = (row["method"], row["acting"], row["task"], row["seed"])
        last[name] = max(last.get(name, (0, 0.0)), (int(row["step"]), float(row["mean"])))
    methods = sorted({name[0] for name in last})
    pairs = [((method, "plan"), (method, "prior")) for method in methods]
    pairs += [(("difftop", "plan"), (method, "plan")) for method in methods if method != "difftop"]
    pairs += [(("difftop", "plan"), (method, "prior")) for method in ("prior", "sac")]
    lines = []
    for one, other in pairs:
        by_task: dict[str, list[float]] = defaultdict(list)
        for (method, acting, task, seed), (_, value) in last.items():
            if (method, acting) == one and (*other, task, seed) in last:
                by_task[task].append(value - last[(*other, task, seed)][1])
        if by_task:
            found = score(by_task)
            lines.append(f"- {' '.join(one)} less {' '.join(other)}, paired: {found}, {found.runs} runs")
    return [*lines, ""] if lines else []


def plot(rows: Rows, path: Path) -> Path:
    """Learning curves: a panel per task (mean over seeds, their range), and one over all tasks (IQM, 95 % interval)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups, tasks = grouped(rows), sorted({row["task"] for row in rows})
    columns = min(3, len(tasks) + 1)
    lines = -(-(len(tasks) + 1) // columns)
    figure, panels = pyplot.subplots(lines, columns, figsize=(4.2 * columns, 3.2 * lines), squeeze=False)
    colours = {method: f"C{i}" for i, method in enumerate(sorted({name[0] for name in groups}))}
    for (method, acting), steps in sorted(groups.items()):
        style = {"color": colours[method], "linestyle": "-" if acting == "plan" or method in ("sac", "prior") else ":"}
        for panel, task in zip(panels.flat, tasks, strict=False):
            known = {step: found[task] for step, found in sorted(steps.items()) if found[task]}
            if known:
                low, middle, high = zip(*[(min(v), float(np.mean(v)), max(v)) for v in known.values()], strict=True)
                panel.plot(list(known), middle, label=f"{method}, {acting}", **style)
                panel.fill_between(list(known), low, high, color=style["color"], alpha=0.12, lw=0)
            panel.set(title=task, ylim=(0, FULL))
        whole = {step: score(found) for step, found in sorted(steps.items()) if all(found[task] for task in tasks)}
        if whole:
            panel = panels.flat[len(tasks)]
            panel.plot(list(whole), [s.mean for s in whole.values()], **style)
            bounds = [s.low for s in whole.values()], [s.high for s in whole.values()]
            panel.fill_between(list(whole), *bounds, color=style["color"], alpha=0.12, lw=0)
    panels.flat[len(tasks)].set(title="all tasks, interquartile mean", ylim=(0, FULL))
    for panel in panels.flat[len(tasks) + 1 :]:
        panel.set_axis_off()
    panels.flat[0].legend(fontsize=7)
    figure.supxlabel("control steps")
    figure.supylabel("return")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
