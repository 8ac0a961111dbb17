"""Table and plot of `difftop bench node` from its rows. Nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.plan_result import STAGES

Rows = Sequence[Mapping[str, str]]
WARM_S = 60.0  # of a session, while caches still fill; what grows after that is told
WATCHED = {"memory_mb": "MB", "threads": "threads", "descriptors": "descriptors"}


def sessions(rows: Rows) -> list[list[Mapping[str, str]]]:
    """The rows of each session, in order of time."""
    ordered = sorted(rows, key=lambda row: (row["session"], float(row["elapsed_s"])))
    return [list(found) for _, found in groupby(ordered, key=lambda row: row["session"])]


def seconds_of(rows: Rows) -> float:
    """How long was measured in all sessions [s]."""
    return sum(float(found[-1]["elapsed_s"]) for found in sessions(rows))


def facts(rows: Rows) -> dict[str, Any]:
    """The figures of the table: counts over all sessions, percentiles of the rows, growth per hour.

    The node gives percentiles of its newest 16,384 ticks or plans (5 minutes) and 2,048 stages. Of a longer run the
    median is that of the rows' medians, and the 99th percentile the worst row's.
    """
    found = sessions(rows)
    last = [session[-1] for session in found]
    span = seconds_of(rows)
    told: dict[str, Any] = {
        "seconds": span,
        "ticks": sum(int(row["ticks"]) + int(row["ticks_lost"]) for row in last),
        "lost": sum(int(row["ticks_lost"]) for row in last),
        "plans_per_s": sum(_gained(session, "plans") for session in found) / sum(map(_span, found)),
        "refused": sum(int(row["plans_refused"]) for row in last),
        "held": sum(bool(row["hold_reason"]) for row in rows),
    }
    # Early rows of a session know little yet; its last one stands for a short session.
    known = [row for session in found for row in session[min(len(session) - 1, 5) :]]
    for name in ("lateness", "first_command", *STAGES):
        p50, p99 = (_numbers(known, f"{name}_{rank}_ms") for rank in ("p50", "p99"))
        if p50.size:
            told[name] = (float(np.median(p50)), float(p99.max()))
    told["lateness_max"] = float(_numbers(rows, "lateness_max_ms").max(initial=0.0))
    for who in ("node", "planner"):
        cpu = sum(_gained(session, f"{who}_cpu_s") for session in found) / sum(map(_span, found))
        told[f"{who}_cpu"] = cpu
        for what in WATCHED:
            values = _numbers(rows, f"{who}_{what}")
            if values.size:
                told[f"{who}_{what}"] = (float(values.max()), growth(max(found, key=_span), f"{who}_{what}"))
    return told


def growth(session: Rows, column: str) -> float:
    """Slope per hour of a column over a session without its first minute; NaN for one of less than two minutes."""
    if float(session[-1]["elapsed_s"]) < 2 * WARM_S:
        return float("nan")
    rows = [row for row in session if float(row["elapsed_s"]) >= WARM_S and row[column]]
    if len(rows) < 3:
        return float("nan")
    return float(np.polyfit(_numbers(rows, "elapsed_s") / 3600.0, _numbers(rows, column), 1)[0])


def show(rows: Rows) -> None:
    """Print the table."""
    from difftop_ros.commands.console import print_table

    told = facts(rows)
    print(rows[-1]["setup"])
    lines = [_line("lost", f"of {told['ticks']:,} control ticks in {told['seconds']:.0f} s", str(told["lost"]))]
    what = f"{told['refused']} refused, {told['held']} rows in a hold"
    lines.append(_line("plans/s", what, f"{told['plans_per_s']:.1f}"))
    texts = {"lateness": f"of control ticks [ms], {told['lateness_max']:.1f} at most",
             "first_command": "start of observing to the first command of that plan [ms]", **STAGES}  # fmt: skip
    lines += [_line(n, text, *(f"{value:.2f}" for value in told[n])) for n, text in texts.items() if n in told]
    for who in ("node", "planner"):
        for name, unit in WATCHED.items():
            if f"{who}_{name}" in told:
                most, slope = told[f"{who}_{name}"]
                grown = "" if np.isnan(slope) else f", {slope:+.1f} per hour"
                lines.append(_line(f"{who}: {name}", f"{unit} at most{grown}", f"{most:.0f}"))
        lines.append(_line(f"{who}: processor", "% of a core", f"{100 * told[f'{who}_cpu']:.0f}"))
    print_table(lines)


def _line(name: str, text: str, p50: str = "", p99: str = "") -> dict[str, str]:
    return {"": name, "p50": p50, "p99": p99, "what it is": text}


def draw(rows: Rows, path: Path) -> None:
    """A picture of lateness, latency, memory and threads over the time of all sessions, one after the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    begin, times = 0.0, []
    for session in sessions(rows):
        times += [(begin + float(row["elapsed_s"])) / 60.0 for row in session]
        begin += float(session[-1]["elapsed_s"])
    ordered = [row for session in sessions(rows) for row in session]
    figure, axes = pyplot.subplots(4, 1, figsize=(9, 9), sharex=True, layout="constrained")
    panels = {
        "lateness [ms]": {"lateness_p50_ms": "p50", "lateness_p99_ms": "p99"},
        "observing to first command [ms]": {"first_command_p50_ms": "p50", "first_command_p99_ms": "p99"},
        "memory [MB]": {"node_memory_mb": "node", "planner_memory_mb": "planner"},
        "threads, descriptors": {f"{who}_{what}": f"{who}: {what}" for who in ("node", "planner")
                                 for what in ("threads", "descriptors")},
    }  # fmt: skip
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for column, label in lines.items():
            axis.plot(times, [float(row[column]) if row[column] else np.nan for row in ordered], label=label)
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0.0)
        axis.legend(loc="lower right", fontsize="small")
    axes[0].set_title(rows[-1]["setup"], fontsize="small")
    axes[-1].set_xlabel("minutes")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _numbers(rows: Rows, column: str) -> np.ndarray:
    return np.array([float(row[column]) for row in rows if row[column] not in ("", "-")])


def _gained(session: Rows, column: str) -> float:
    """What a counter gained between a session's first row and its last; of a single row, all of it."""
    values = _numbers(session, column)
    return float(values[-1] - values[0] if values.size > 1 else values.sum())


def _span(session: Rows) -> float:
    """Seconds between a session's first row and its last; of a single row, all of them."""
    first, last = float(session[0]["elapsed_s"]), float(session[-1]["elapsed_s"])
    return last - first if last > first else last
