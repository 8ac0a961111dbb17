"""The benchmark's output: tables (markdown, CSV, JSON), summary, plot, and the expectations with their figures."""

from __future__ import annotations

import csv
import datetime
import json
import math
import platform
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

from benchmarks.solvers.measure import Floor
from benchmarks.solvers.rows import Row
from difftop_ros.errors import UserError

MARKS = ("<!-- solvers: begin -->", "<!-- solvers: end -->")
ROUNDING = 1e-6  # gaps closer than this share of the cost are equal
COLUMNS = {
    "method": "method",
    "iterations": "it.",
    "adjoint": "adjoint",
    "forward_ms": "forward [ms]",
    "forward_p99_ms": "p99",
    "both_ms": "with backward [ms]",
    "both_p99_ms": "p99",
    "gradients": "gradients",
    "gap": "cost gap",
    "statuses": "statuses",
    "forward_ratio": "× forward",
    "both_ratio": "× with backward",
    "floor_ratio": "× floor",
    "note": "note",
}
PUBLISHED = ("form", "batch", *COLUMNS)  # the columns of benchmarks/solvers.csv
PAPER = "theseus, paper's form"  # Levenberg-Marquardt on offset - G, with the published or a tuned step


def cell(name: str, value: object) -> str:
    """One cell: three significant figures, nothing for what was not measured."""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    if name == "gap":
        return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.4f}"
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def markdown(rows: list[Row], heading: str = "###") -> str:
    """A table per form and batch size."""
    parts = []
    for form, batch in dict.fromkeys((row.form, row.batch) for row in rows):
        lines = [f"{heading} {form}, batch {batch}", "", "| " + " | ".join(COLUMNS.values()) + " |"]
        lines.append("|" + "---|" * len(COLUMNS))
        for row in rows:
            if (row.form, row.batch) == (form, batch):
                lines.append("| " + " | ".join(cell(name, getattr(row, name)) for name in COLUMNS) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def machine(device: str) -> str:
    """What this ran on, in one line."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    if device == "cuda":
        model = f"{torch.cuda.get_device_name()}, host {model}"
    threads = f"{torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)
    return f"{model}, {threads}, torch {torch.__version__}, Python {platform.python_version()}"


def save(folder: Path, rows: list[Row], facts: dict[str, object]) -> None:
    """rows.json (with the facts), rows.csv and table.md."""
    (folder / "rows.json").write_text(json.dumps({"facts": facts, "rows": [asdict(row) for row in rows]}, indent=1))
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    lines = [f"- {name}: {fact}" for name, fact in facts.items() if not isinstance(fact, list)]
    lines += [f"- {line}" for fact in facts.values() if isinstance(fact, list) for line in fact]
    (folder / "table.md").write_text("\n".join(lines) + "\n\n" + markdown(rows))


def publish(results: Path, image: Path, rows: list[Row], facts: dict[str, object], folder: Path) -> None:
    """Write the rows as solvers.csv beside `results`, a summary between the marks in it, and the plot of `folder`."""
    text = results.read_text()
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise UserError(f"{results} has no section between {MARKS[0]!r} and {MARKS[1]!r}; put the marks back")
    with results.with_name("solvers.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PUBLISHED)
        writer.writerows([plain(getattr(row, name)) for name in PUBLISHED] for row in rows)
    made = f"`{facts['command']}`, {facts['machine']}, {datetime.date.today()}"
    results.write_text(f"{before}{begin}\n\n{made}\n\n{summary(rows)}\n{end}{after}")
    image.write_bytes((folder / "solvers.png").read_bytes())


def plain(value: object) -> object:
    """A value for a CSV: four significant digits, nothing for what was not measured."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.4g}"


def summary(rows: list[Row]) -> str:
    """One row per form, alone and in the largest batch: the paper's form, and the fastest `qn` that ends as low."""
    sizes = [row.batch for row in rows]
    head = "| form | batch | the paper's form [ms] | its gap | fastest `qn` as low | [ms] | its gap | times faster |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for form, batch in dict.fromkeys((row.form, row.batch) for row in rows if row.batch in (min(sizes), max(sizes))):
        group = [row for row in rows if (row.form, row.batch) == (form, batch) and not math.isnan(row.forward_ms)]
        papers = [row for row in group if row.method.startswith(PAPER)]
        if not papers:
            continue
        paper = min(papers, key=lambda row: row.gap)
        able = [row for row in group if row.method.startswith("qn") and row.gap <= paper.gap]
        best = min(able, key=lambda row: row.forward_ms, default=None)
        cells = [form, str(batch), cell("forward_ms", paper.forward_ms), cell("gap", paper.gap)]
        if best is None:
            cells += ["none", "", "", ""]
        else:
            cells += [f"{best.method}, {best.iterations} iterations", cell("forward_ms", best.forward_ms)]
            cells += [cell("gap", best.gap), cell("forward_ratio", paper.forward_ms / best.forward_ms)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def floor_line(floor: Floor) -> str:
    """The floor in words."""
    return (
        f"{floor.megabytes:.1f} MB of weights per gradient ({floor.unique_megabytes:.1f} MB of them "
        f"different) at {floor.gigabytes_per_s:.1f} GB/s (matrix-vector product of that size; main memory copies at "
        f"{floor.copy_gigabytes_per_s:.1f} GB/s): {floor.best_ms:.3f} ms per gradient at best, {floor.ms:.3f} ms as "
        "the median of readings in the rounds of the solves"
    )


def expectations(rows: list[Row]) -> list[str]:
    """PASS or FAIL with the figure, for what was asked of the solvers; lines whose rows were not run are left out."""
    lines: list[str] = []
    for form in dict.fromkeys(row.form for row in rows):
        for batch, least in ((1, 30), (128, 20)):
            group = [row for row in rows if (row.form, row.batch) == (form, batch)]
            if form.startswith("rl"):
                for role, which in (("paper", "published step"), ("tuned", "step tuned for it")):
                    baseline = f"the paper's form ({which})"
                    lines += _against(group, role, "forward_ms", least, f"forward, {baseline}")
                    if batch == 1:
                        lines += _against(group, role, "both_ms", 27, f"forward + backward, {baseline}")
                if batch == 1:
                    lines += _against(group, "mppi", "forward_ms", 25, "forward, MPPI")
                    lines += _floor(group)
            elif batch == 128:
                lines += _against(group, "released", "forward_ms", 1000, "forward, the released code")
    return lines + _on_gpu(rows)


def _on_gpu(rows: list[Row]) -> list[str]:
    """The time of a captured solve at batch 1, and how many problems a second large batches solve."""
    graphs = [row for row in rows if row.form.startswith("rl") and row.mode == "graph"]
    graphs = [row for row in graphs if not math.isnan(row.forward_ms)]
    lines = []
    for form in dict.fromkeys(row.form for row in graphs):
        alone = next((r for r in graphs if (r.form, r.batch, r.iterations) == (form, 1, 10)), None)
        if alone is not None:
            word = "PASS" if alone.forward_ms <= 2 else "FAIL"
            lines.append(f"{word}  {form} batch 1, captured qn 10 (expected 2 ms at most): {alone.forward_ms:.2f} ms")
        for row in graphs:
            if row.form == form and row.batch >= 1024:
                rate = 1e3 * row.batch / row.forward_ms
                lines.append(
                    f"      {form} batch {row.batch}, {row.method} {row.iterations}: {rate:,.0f} problems per s"
                )
    return lines


def _against(group: list[Row], role: str, what: str, least: float, name: str) -> list[str]:
    """The fastest qn row whose gap is no larger than the baseline's, against the baseline."""
    baseline = next((row for row in group if row.role == role and not math.isnan(getattr(row, what))), None)
    if baseline is None:
        return []
    able = [
        row
        for row in group
        if row.method.startswith("qn")
        and row.adjoint == "implicit"
        and row.gap <= baseline.gap + ROUNDING * abs(baseline.cost)
    ]
    able = [row for row in able if not math.isnan(getattr(row, what))]
    where = f"{baseline.form} batch {baseline.batch}, {name} {baseline.iterations}"
    if not able:
        return [f"FAIL  {where}: no qn row has a gap of {baseline.gap:.1e} or less"]
    best = min(able, key=lambda row: getattr(row, what))
    ratio = getattr(baseline, what) / getattr(best, what)
    word = "PASS" if ratio >= least else "FAIL"
    return [
        f"{word}  {where}: {ratio:,.0f}x (expected {least}x) by {best.method} {best.iterations}: "
        f"{getattr(best, what):.3g} ms at gap {best.gap:.1e}, against {getattr(baseline, what):,.0f} ms "
        f"at {baseline.gap:.1e}"
    ]


def _floor(group: list[Row]) -> list[str]:
    rows = [row for row in group if row.method == "qn compiled" and not math.isnan(row.floor_ratio)]
    if not rows:
        return []
    usual = next((row for row in rows if row.iterations == 10), rows[0])  # the default solve, not the luckiest row
    word = "PASS" if usual.floor_ratio <= 2.5 else "FAIL"
    others = ", ".join(f"{row.iterations} iterations {row.floor_ratio:.2f}x" for row in rows if row is not usual)
    verdict = f"{usual.floor_ratio:.2f}x (expected 2.5x at most) at {usual.iterations} iterations"
    rest = f"; not judged: {others}" if others else ""
    return [f"{word}  {usual.form} batch 1, compiled solve over the bandwidth floor: {verdict}{rest}"]


def plot(path: Path, rows: list[Row]) -> None:
    """Cost gap over time, both logarithmic: one panel per form, filled at batch 1 and hollow in batches (per solve)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    forms = list(dict.fromkeys(row.form for row in rows))
    figure, axes = plt.subplots(1, len(forms), figsize=(4.2 * len(forms), 4.2), squeeze=False, layout="constrained")
    rows = [replace(row, method=re.sub(", step .*", ", its best step", row.method)) for row in rows]
    names = list(dict.fromkeys(row.method for row in rows if not math.isnan(row.gap)))
    colours = {name: plt.get_cmap("tab20")(index % 20) for index, name in enumerate(names)}
    for axis, form in zip(axes[0], forms, strict=True):
        for name in names:
            for batch in dict.fromkeys(row.batch for row in rows):
                points = [
                    (row.forward_ms, max(row.gap, 1e-7))
                    for row in rows
                    if (
                        (row.form, row.method, row.batch) == (form, name, batch) and row.adjoint in ("implicit", "none")
                    )
                    or ((row.form, row.method, row.batch) == (form, name, batch) and row.role)
                ]
                points = [point for point in points if not any(math.isnan(v) for v in point)]
                if points:
                    face = colours[name] if batch == 1 else "none"
                    axis.plot(*zip(*points), "o-", color=colours[name], markerfacecolor=face, lw=0.8, ms=5)
        axis.set(xscale="log", yscale="log", title=form, xlabel="one solve of the batch [ms]")
        axis.grid(alpha=0.3, which="major")
    axes[0][0].set_ylabel("mean cost above the best known (1e-7: none)")
    handles = [plt.Line2D([], [], marker="o", color=colours[name], label=name) for name in names]
    handles.append(plt.Line2D([], [], marker="o", color="grey", markerfacecolor="none", label="hollow: in batches"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)
