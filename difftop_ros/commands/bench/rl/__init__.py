"""`difftop bench rl`: policies that learn by trying, compared. Cells are cells.py's; here: the order, the progress."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from difftop_ros.errors import UserError
from difftop_ros.learning.progress import Stopped

TASKS = ("cartpole-swingup", "pendulum-swingup", "reacher-easy", "cup-catch")
NAMES = ("difftop", "model-losses", "tdmpc", "prior", "sac")
DESCRIPTION = """\
Every method learns each task of dm_control from its state, with the same networks, updates per action, random steps and
starts. difftop plans by gradients and learns through the plan; model-losses is the same without the loss through the
plan; tdmpc plans by sampling; prior does not plan; sac has no model (stable-baselines3, published settings). Within one
training the plan and the prior alone are evaluated from the same starts, so their difference is paired. A finished cell
is never run again: the command can be stopped, and repeated with more tasks or seeds.

  difftop bench rl                                                     days on a core; rows gather in the CSV
  difftop bench rl --tasks cartpole-swingup --methods difftop model-losses --seeds 0 1 2
  difftop bench rl --methods difftop:plan_loss=0.3 difftop:horizon=5   options of difftop train-rl, NAME=VALUE
  difftop bench rl --report                                            table and plot of what is there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The comparison's options."""
    parser.description = DESCRIPTION
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="tasks of dm_control")
    parser.add_argument("--methods", nargs="+", default=list(NAMES), help="names, with options as above")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="training seeds")
    parser.add_argument("--steps", type=int, default=50_000, help="control steps of each")
    parser.add_argument("--eval-every", type=int, default=10_000, help="control steps between evaluations")
    parser.add_argument("--eval-episodes", type=int, default=10, help="episodes of each")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/rl.csv"), help="rows, kept and added to")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_rl"), help="folders of the runs")
    parser.add_argument("--plot", type=Path, help="where the plot goes (default: OUT/rl.png)")
    parser.add_argument("--report", action="store_true", help="run nothing: table and plot of the rows there are")


def run(args: argparse.Namespace) -> int:
    """Runs what has no rows yet, then reports; 130 when stopped."""
    from difftop_ros.commands.bench import rows
    from difftop_ros.commands.bench.rl import cells as bench
    from difftop_ros.commands.bench.rl import report

    found = rows.read(args.csv, bench.COLUMNS)
    if not args.report:
        cells = bench.all_cells(args.tasks, args.methods, args.seeds, args.steps)
        todo = bench.unfinished(cells, found)
        settings = {cell: bench.settings_of(cell, args.eval_every, args.eval_episodes) for cell in todo}
        print(f"{len(cells)} cells, {len(cells) - len(todo)} of them done before; rows in {args.csv}", flush=True)
        if not _run_all(args, settings):
            return 130
        found = rows.read(args.csv, bench.COLUMNS)
    if not found:
        raise UserError(f"{args.csv} has no rows yet; run without --report")
    print(report.markdown(found))
    print(f"plot: {report.plot(found, args.plot or args.out / 'rl.png')}")
    return 0


def _run_all(args: argparse.Namespace, settings: dict) -> bool:
    """Cell after cell, rows as they come; False when it was stopped."""
    from difftop_ros.commands.bench import rows
    from difftop_ros.commands.bench.rl import cells as bench
    from difftop_ros.commands.console import ProgressLine
    from difftop_ros.commands.signals import EndSignals

    failures = 0
    with EndSignals() as asked, ProgressLine() as line:
        for number, (cell, chosen) in enumerate(settings.items(), 1):
            print(f"cell {number} of {len(settings)}: {cell.name}", flush=True)
            try:
                found = bench.run_cell(cell, chosen, args.out / cell.name, report=line, stop=asked.is_set)
            except Stopped as stopped:
                print(stopped, file=sys.stderr)
                return False
            except UserError as error:  # one cell's failure is told and leaves the others to be run
                failures += 1
                print(f"{cell.name}: FAILED: {error}", file=sys.stderr, flush=True)
                continue
            for row in found:
                rows.append(args.csv, bench.COLUMNS, row)
    if failures:
        raise UserError(f"{failures} cells failed, see above; the others are in {args.csv}")
    return True
