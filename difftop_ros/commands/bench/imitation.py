"""`difftop bench imitation`: policies compared on equal terms. Cells are cells.py's; here: processes, progress."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import sys
import time
from pathlib import Path
from typing import Any

from difftop_ros.commands.bench.usual import COMPARED, COMPARED_UNNAMED, PROTOCOLS
from difftop_ros.errors import UserError
from difftop_ros.learning.progress import Progress, Stopped

USUAL = COMPARED | COMPARED_UNNAMED
DESCRIPTION = """\
For each task, a scripted expert's demonstrations are recorded through the ROS topics into rosbags. Every policy then
learns from the same episodes, with the same encoders and the same number of optimisation steps, and acts from the same
unseen starts. One row of a CSV per policy, task and seed; a finished row is never done again, so the command can be
stopped, and repeated with more tasks or seeds. It writes a table with 95 % intervals, a plot, and a video per row.

  difftop bench imitation                                         the default comparison, hours on two cores
  difftop bench imitation --tasks metaworld/push-v3 --policies bc difftop --seeds 0 --steps 300   a first look
  difftop bench imitation --policies difftop:proximal=1 difftop:base=diffusion       options of a policy, NAME=VALUE
  difftop bench imitation --protocol dp3 --tasks metaworld/basketball-v3      as 3-D Diffusion Policy was measured
  difftop bench imitation --report                                table and plot of what is there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = DESCRIPTION
    given: dict[str, dict[str, Any]] = {
        "tasks": {"nargs": "+", "help": "SUITE/TASK, or one of the demo arm's"},
        "observations": {"nargs": "+", "choices": ("cloud", "image", "state"), "help": "what the policies see; state: "
                         "joints alone, the control that shows whether a task needs eyes, by the first policy only"},
        "policies": {"nargs": "+", "help": "names, with options as above"},
        "seeds": {"nargs": "+", "type": int, "help": "training seeds"},
        "demos": {"type": int, "help": "demonstrations per task"},
        "steps": {"type": int, "help": "optimisation steps of each"},
        "episodes": {"type": int, "help": "evaluation starts"},
        "batch": {"type": int, "help": "windows per step"},
        "horizon": {"type": int, "help": "steps of a plan"},
        "obs_steps": {"type": int, "help": "frames of history"},
        "replan_every": {"type": int, "help": "steps of a plan that are carried out"},
        "scene": {"choices": ("fixed", "moved", "hand"), "help": "clouds as they are; or, where joints are the hand's "
                  "place, moved over the table in training, hand and all; or seen from the hand"},
        "stay_steps": {"type": int, "help": "steps of a demonstration after success"},
        "points": {"type": int, "help": "points of a cloud, 0 for as many as the contract has"},
        "protocol": {"choices": tuple(PROTOCOLS), "help": "dp3: as 3-D Diffusion Policy was measured, which sets what "
                     "is not given here, the optimisation, and that the last five checkpoints are evaluated"},
    }  # fmt: skip
    for name, options in given.items():
        options["help"] += f" (default: {_words(USUAL[name])})"
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    parser.add_argument("--point-widths", nargs=3, type=int, default=[64, 64, 128], metavar="N",
                        help="layers of the point encoder, the same for all")  # fmt: skip
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/imitation.csv"), help="rows, kept and added to")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="bags, models, videos")
    parser.add_argument("--plot", type=Path, help="where the plot goes (default: OUT/imitation.png)")
    parser.add_argument("--workers", type=int, default=2, help="policies trained at once, a core each")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--report", action="store_true", help="run nothing: table and plot of the rows there "
                        "are, or of those with what is given: --report --tasks push --observations image")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Runs what has no row yet, then reports; 130 when stopped."""
    from difftop_ros.commands.bench import cells as bench
    from difftop_ros.commands.bench import report as bench_report
    from difftop_ros.commands.bench.paired import pair_table

    if args.workers < 1:
        raise UserError(f"--workers is {args.workers}; expected at least 1")
    given = {name: value for name in USUAL if (value := getattr(args, name)) is not None}
    rows = bench.read_rows(args.csv)
    if not args.report:
        cells = bench.all_cells(**USUAL | PROTOCOLS[args.protocol or "ours"] | given)
        todo = bench.unfinished(cells, rows)
        for cell in todo:
            bench.train_settings(cell, tuple(args.point_widths))  # a wrong option is told before hours are spent
        print(f"{len(cells)} cells, {len(cells) - len(todo)} of them done before; rows in {args.csv}", flush=True)
        sources = dict.fromkeys((cell.task, cell.observation, cell.stay_steps, cell.points) for cell in todo)
        datasets = {source: _dataset(args, *source) for source in sources}
        if not _run_all(args, todo, datasets):
            return 130
        rows = bench.read_rows(args.csv)
    rows = [row for row in rows if _asked(given, row)]
    if not rows:
        asked = ", ".join(f"{name} {_words(value)}" for name, value in given.items())
        raise UserError(f"{args.csv} has no rows{f' of {asked}' if asked else ''} yet; run without --report")
    print(bench_report.markdown(rows))
    if pairs := pair_table(rows, [name for name in bench.KEY if name != "policy"]):
        print(f"\non the same starts, points of 100:\n\n{pairs}\n")
    print(f"plot: {bench_report.plot(rows, args.plot or args.out / 'imitation.png')}")
    return 0


def _asked(given: dict[str, Any], row: dict[str, str]) -> bool:
    """Whether the report is to show the row. One whose hand is not known belongs to every --scene."""
    from difftop_ros.commands.bench.cells import knows_hand

    several = {"tasks": "task", "observations": "observation", "policies": "policy", "seeds": "seed"}
    for name, value in given.items():
        if name == "scene" and not knows_hand(row["task"], row["observation"]):
            continue
        values = value if name in several else [value]
        if row[several.get(name, name)] not in map(str, values):
            return False
    return True


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _dataset(args: argparse.Namespace, task: str, observation: str, stay_steps: int, points: int) -> Path:
    """Record what demonstrations are missing and ingest the first `demos` that succeeded; returns the dataset."""
    from difftop_ros.commands.bench.cells import cell_contract, contract_path
    from difftop_ros.data import ingest

    folder = args.out / task.replace("/", "_")
    path = contract_path(task, observation)
    demos = args.demos if args.demos is not None else (USUAL | PROTOCOLS[args.protocol or "ours"])["demos"]
    bags = _demonstrations(path, task, demos, stay_steps, folder / f"bags_{path.stem}_stay{stay_steps}")
    dataset = folder / f"dataset_{observation}_{demos}_stay{stay_steps}{f'_{points}points' if points else ''}"
    ingest(bags, cell_contract(task, observation, points), dataset)
    return dataset


def _demonstrations(path: Path, task: str, count: int, stay_steps: int, folder: Path) -> list[Path]:
    """The bags of the first `count` seeds at which the expert succeeded, recorded through the topics where missing."""
    from difftop_ros.contract import load_contract
    from difftop_ros.nodes.recorder.demonstrations import ExpertSession
    from difftop_ros.nodes.recorder.simulations import ExpertOptions, OwnBridge

    good = _successes(folder)
    if len(good) < count:
        tried = [mark["seed"] for mark in _marks(folder).values()]
        seeds = range(max(tried, default=-1) + 1, 3 * count + 10)
        options = ExpertOptions(task, stay_steps=stay_steps)
        print(f"{task}: recording {count - len(good)} demonstrations into {folder}", flush=True)
        with ExpertSession(load_contract(path), folder, options, OwnBridge(path, options)) as session:
            for seed in seeds:
                demo = session.record(seed)
                print(f"  seed {seed}: {'success' if demo.success else 'FAILED'}, {demo.steps} steps", flush=True)
                good = _successes(folder)
                if len(good) >= count:
                    break
            else:
                raise UserError(f"{task}: the expert succeeded {len(good)} times only; ask for fewer --demos")
    return good[:count]


def _marks(folder: Path) -> dict[Path, dict[str, Any]]:
    """What is noted beside each complete bag in `folder`."""
    notes = {path.parent: json.loads(path.read_text()) for path in folder.glob("*/episode.json")}
    return {bag: note for bag, note in notes.items() if note["complete"]}


def _successes(folder: Path) -> list[Path]:
    marks = _marks(folder)
    return sorted((bag for bag, note in marks.items() if note["success"]), key=lambda bag: marks[bag]["seed"])


def _run_all(args: argparse.Namespace, todo: list[Any], datasets: dict[tuple[str, str, int, int], Path]) -> bool:
    """Spread the cells over worker processes, with a bar for each; False when it was stopped."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from difftop_ros.commands.console import console
    from difftop_ros.commands.signals import EndSignals

    context = multiprocessing.get_context("spawn")
    work, news = context.Queue(), context.Queue()
    end = context.Event()
    for cell in todo:
        work.put((cell, str(datasets[cell.task, cell.observation, cell.stay_steps, cell.points])))
    count = min(args.workers, len(todo))
    shared = (str(args.out / "cells"), str(args.csv), tuple(args.point_widths), args.device)
    workers = [context.Process(target=_worker, args=(i, work, news, end, *shared)) for i in range(count)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    failures = 0
    with EndSignals() as asked, Bars(*columns, console=console(sys.stderr), disable=not sys.stderr.isatty()) as bars:
        total = bars.add_task("all cells", total=len(todo))
        lines = [bars.add_task("starting", total=None) for _ in workers]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers) or not news.empty():
            if asked.is_set():
                end.set()
            try:
                index, kind, what = news.get(timeout=0.5)
            except queue.Empty:
                continue
            if kind == "progress":
                bars.update(lines[index], description=what[0], completed=what[1], total=what[2])
            else:
                failures += kind == "failed"
                bars.advance(total)
                bars.console.print(what) if sys.stderr.isatty() else print(what, flush=True)
        for worker in workers:
            worker.join()
    if failures:
        raise UserError(f"{failures} cells failed, see above; the others are in {args.csv}")
    return not end.is_set()


def _worker(
    index: int, work: Any, news: Any, end: Any, out: str, table: str, widths: tuple[int, ...], device: str
) -> None:
    """Take cells until there are none left or the end was asked for."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from difftop_ros.commands.bench import cells as bench

    torch.set_num_threads(1)
    while not end.is_set():
        try:
            cell, dataset = work.get(timeout=0.2)
        except queue.Empty:
            return
        last = [0.0]

        def tell(progress: Progress, name: str = cell.name, last: list[float] = last) -> None:
            if time.monotonic() - last[0] > 0.5 or progress.step >= progress.total_steps:
                last[0] = time.monotonic()
                news.put((index, "progress", (f"{name}: {progress.stage}", progress.step, progress.total_steps)))

        try:
            row = bench.run_cell(cell, Path(dataset), Path(out) / cell.name, widths, device=device, report=tell,
                                 stop=end.is_set)  # fmt: skip
        except Stopped:
            return
        except Exception as error:  # one cell's failure is told and leaves the others running
            news.put((index, "failed", f"{cell.name}: FAILED: {type(error).__name__}: {error}"))
            continue
        bench.append_row(Path(table), row)
        news.put((index, "done", f"{cell.name}: {row['successes']} of {row['episodes']}, {row['train_min']} min"))
