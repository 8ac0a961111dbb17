"""`difftop bench obstacles`: success and contact with obstacles in the way. Who acts is arms.py's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from difftop_ros.commands.arguments import OBSTACLES
from difftop_ros.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from difftop_ros.commands.bench.obstacles.starts import Cell
    from difftop_ros.sim.placed import Placed

DESCRIPTION = """\
A trained policy does its task on the simulated arm while an obstacle that it never saw stands in its way: where the
scripted expert would run into it, clear of the arm at the start and at the goal, and with a known way around. Each arm
of the comparison (what is done about the obstacle; 'nothing': the plan as it is) acts from the same starts with the
same obstacles, each watched at every step of the physics. One row of a CSV per start and arm; what has a row is never
done again, so the command can be stopped, and repeated with more starts, obstacles or arms.

  difftop bench obstacles --obstacles post --starts 5           a first look
  difftop bench obstacles                                       100 starts with each obstacle, and with none
  difftop bench obstacles --obstacles moving_post --starts 1 --film runs/films
  difftop bench obstacles --topics --starts 4                   over ROS 2 in real time, what the node is given in files
  difftop bench obstacles --report                              the table of what is there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The comparison's options."""
    parser.description = DESCRIPTION
    parser.add_argument("--models", nargs="+", type=Path, default=[Path("models/panda_lift")], help="trained policies")
    parser.add_argument("--obstacles", nargs="+", choices=OBSTACLES, default=list(OBSTACLES), help="what is in the way")
    parser.add_argument("--arms", nargs="+", help="what is done about it (default: all but those of limits)")
    parser.add_argument(
        "--starts", type=int, default=100, help="starts of each; seeds without a fair place are left out"
    )
    parser.add_argument("--first-seed", type=int, help="of the starts (default: far from recordings)")
    parser.add_argument("--replan-every", type=int, default=1, help="policy steps per plan")
    parser.add_argument(
        "--prepare",
        choices=("none", "compile"),
        default="none",
        help="'compile': minutes before the "
        "first start, then a third of the time for each plan; the same plans to rounding",
    )
    parser.add_argument(
        "--topics", action="store_true", help="through real topics, simulation and policy node as processes"
    )
    parser.add_argument(
        "--pace", type=float, default=1.0, help="with --topics: simulated seconds per second, below 1 on a busy machine"
    )
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/obstacles.csv"), help="rows, kept and added to")
    parser.add_argument("--places", type=Path, default=Path("runs/bench/obstacles"), help="where the obstacles stand: "
                        "a file per task and kind, made where missing (seconds for each seed)")  # fmt: skip
    parser.add_argument("--film", type=Path, help="folder for a GIF of each cell's first start that is run")
    parser.add_argument("--report", action="store_true", help="run nothing: the table of the rows there are")


def run(args: argparse.Namespace) -> int:
    """Runs what has no row yet, then prints the table."""
    from difftop_ros.commands.bench import rows as table
    from difftop_ros.commands.bench.obstacles import report, starts

    if args.starts < 1 or args.replan_every < 1 or args.pace <= 0:
        raise UserError(
            f"--starts is {args.starts}, --replan-every {args.replan_every} and --pace {args.pace:g}; expected "
            "at least 1, at least 1, and above 0"
        )
    for model in () if args.report else args.models:
        cell = starts.Cell(model, args.replan_every, args.prepare)
        (_run_topics if args.topics else _run_lock_step)(args, cell)
    rows = table.read(args.csv, starts.COLUMNS)
    if not rows:
        raise UserError(f"{args.csv} has no rows yet; run without --report")
    print(report.markdown(rows))
    return 0


def _turns(args: argparse.Namespace, cell: Cell) -> Iterator[tuple[str, int, Placed | None]]:
    """Kind, seed and place of every start, one of each kind by turns: an unfinished table has about as many of each."""
    from difftop_ros.learning.evaluate import EVALUATION_SEED
    from difftop_ros.sim.places import Places

    first_seed = EVALUATION_SEED if args.first_seed is None else args.first_seed
    kinds = {kind: Places(cell.task, kind, args.places) for kind in args.obstacles}
    for turn in zip(*(places.first(args.starts, first_seed) for places in kinds.values()), strict=True):
        for kind, (seed, placed) in zip(kinds, turn, strict=True):
            yield kind, seed, placed
    for kind, places in kinds.items():
        print(f"{kind}: {places.left_out} of {places.tried} seeds left out: no fair place was found", flush=True)


def _run_lock_step(args: argparse.Namespace, cell: Cell) -> None:
    from difftop_ros.commands.bench import rows as table
    from difftop_ros.commands.bench.obstacles import starts
    from difftop_ros.commands.bench.obstacles.arms import ARMS, USUAL

    arms = args.arms or list(USUAL)
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise UserError(f"--arms has {unknown}; expected of {list(ARMS)}")
    begin = {}
    for arm in arms:
        try:
            begin[arm] = ARMS[arm](cell.policy)
        except UserError as error:
            if args.arms:
                raise
            print(f"{cell.model}: left out: {error}")
    filmed = set[tuple[str, str]]()
    for kind, seed, placed in _turns(args, cell):
        done = {starts.key(row) for row in table.read(args.csv, starts.COLUMNS)}
        for arm in begin:
            if cell.key(kind, arm, seed) in done:
                continue
            shown = f"{cell.model.name}_{kind}_{arm.replace(', ', '_')}.gif"
            film = args.film / shown if args.film and (kind, arm) not in filmed else None
            filmed.add((kind, arm))
            row = starts.run_start(cell, begin[arm], kind, arm, seed, placed, film)
            table.append(args.csv, starts.COLUMNS, row)
            print(starts.sentence(row), flush=True)


def _run_topics(args: argparse.Namespace, cell: Cell) -> None:
    from difftop_ros.commands.bench import rows as table
    from difftop_ros.commands.bench.obstacles import starts, topics
    from difftop_ros.nodes.children import SignalsAsException

    for arm in args.arms or list(topics.ARMS):
        done = {starts.key(row) for row in table.read(args.csv, starts.COLUMNS)}
        todo = [start for start in _turns(args, cell) if cell.key(start[0], arm, start[1]) not in done]
        if not todo:
            continue
        with SignalsAsException():
            for row in topics.run_arm(cell, arm, todo, args.prepare, args.pace):
                table.append(args.csv, starts.COLUMNS, row)
                print(starts.sentence(row), flush=True)
