"""Measures every solver on trained nets: time, cost gap, adjoints. `python -m benchmarks.solvers --help` explains."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.solvers import report
from benchmarks.solvers.nets import FORMS, load_forms
from benchmarks.solvers.rows import Plan, Row
from benchmarks.solvers.run import run_form
from difftop_ros.trajopt.solvers import SOLVER_TABLE

ROOT = Path(__file__).resolve().parents[2]
ABOUT = """\
Measures the trajectory optimisation solvers on nets that the benchmark trains first (seeded, kept in --out).

forms    rl-h5-a6, rl-h16-a14   return of a latent rollout: dynamics, reward, twin values (their mean) at the prior's
                                action; latent 50, MLP 512, discount .99; starts are the prior's plans
         il-4x4, il-16x7        learned cost of a chunk given features 128 and a code 8; starts are a base policy's
columns  forward, with backward   median and p99 of interleaved runs [ms]; backward: a loss on the first action, to the
                                parameters of the nets and to the start state
         cost gap               mean of J above the best known plan of each problem (many starts of qn, and whatever any
                                method found)
         x forward ...          how many times faster than the paper's form, Levenberg-Marquardt on offset - G by
                                theseus-ai, 100 iterations, with the step size that suits the form best
         x floor                a run's time over reading the weights once for each of its gradients, medians of both in
                                the same rounds
"""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.solvers", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/solvers"), help="folder for nets, tables and plot")
    parser.add_argument("--quick", action="store_true", help="small nets and few repeats: about a minute, no result")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="cuda also captures graphs")
    parser.add_argument("--forms", nargs="+", choices=tuple(FORMS), default=None, help="some forms; all by default")
    parser.add_argument(
        "--methods", nargs="+", choices=list(SOLVER_TABLE), default=None, help="some solvers; all by default"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=None, help="1 128; with cuda also 4096")
    parser.add_argument("--repeats", type=int, default=40, help="most runs of each; seconds cap them first")
    parser.add_argument("--seconds", type=float, default=30.0, help="repeats for one form at one batch size [s]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--proximal", type=float, default=0.05, help="weight of staying near the start")
    parser.add_argument("--resume", action="store_true", help="keep the forms that rows.json in --out already has")
    parser.add_argument(
        "--publish", action="store_true", help="write benchmarks/solvers.csv, its summary and the plot too"
    )
    args = parser.parse_args(argv)
    if args.quick and args.publish:
        parser.error("--quick measures too little to be published; leave one of the two out")
    return args


def plan_of(args: argparse.Namespace) -> Plan:
    """How much to run."""
    only = None if args.methods is None else tuple(args.methods)
    batches = tuple(args.batches or ((1, 128, 4096) if args.device == "cuda" else (1, 128)))
    if args.quick:
        return Plan(args.device, True, (1, 8), only, 3, 2.0, 1.0, samples=8, starts=4, best_iterations=60)
    return Plan(args.device, False, batches, only, args.repeats, args.seconds)


def main() -> int:
    """Run it. The exit code says whether it ran, not whether the expectations were met."""
    args, console = arguments(), Console(width=None if sys.stdout.isatty() else 250)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("--device cuda: torch sees no GPU here; leave it out to measure the CPU", file=sys.stderr)
        return 2
    begin = time.perf_counter()
    torch.set_num_threads(args.threads)
    names = args.forms or (["rl-h5-a6", "il-4x4"] if args.quick else list(FORMS))
    args.out.mkdir(parents=True, exist_ok=True)
    plan, rows, facts = plan_of(args), [], {"machine": report.machine(args.device)}
    saved = args.out / "rows.json"
    if args.resume and saved.exists():
        known = json.loads(saved.read_text())
        rows, facts = [Row(**row) for row in known["rows"]], known["facts"]

    def show(group: list[Row]) -> None:
        console.print(report.markdown(group), markup=False, highlight=False, soft_wrap=True)

    for name in names:
        if any(row.form == name for row in rows):
            continue
        (form,) = load_forms(args.out, [name], args.quick, args.proximal)
        with console.status(name) as status:
            say = status.update if console.is_terminal else lambda line: print(line, file=sys.stderr, flush=True)
            found, floor, step = run_form(form, plan, say, show)
        rows += found
        facts[f"floor, {name}"] = report.floor_line(floor)
        facts[f"step size that suits the paper's form best, {name}"] = f"{step:g}"
        report.save(args.out, rows, facts)
    if not args.quick:
        facts["expectations"] = report.expectations(rows)
    facts["command"] = " ".join(["python -m benchmarks.solvers", *sys.argv[1:]])
    facts["minutes"] = round((time.perf_counter() - begin) / 60, 1)
    report.save(args.out, rows, facts)
    report.plot(args.out / "solvers.png", rows)
    if args.publish:
        report.publish(ROOT / "benchmarks/RESULTS.md", ROOT / "docs/images/solvers.png", rows, facts, args.out)
    for name, fact in facts.items():
        for line in fact if isinstance(fact, list) else [f"{name}: {fact}"]:
            print(line)
    print(f"{args.out}/table.md, rows.csv, rows.json, solvers.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
