"""`difftop bench delay`: success and smoothness when plans come late. What happens in an episode is episode.py's."""

from __future__ import annotations

import argparse
from pathlib import Path

from difftop_ros.errors import UserError

ARMS = ("blending", "chunking", "full speed")
DESCRIPTION = """\
A trained policy does its task on the simulated arm while each of its plans takes a given time, during which the plan
before it goes on. Commands are made as the node makes them, at the control rate. Three arms: 'blending', the node's
default, blends a new plan in, and slows motion down where a delay spans many steps of a plan; 'chunking' also tells the
policy which steps will have been executed when its plan arrives (realtime_chunking); 'full speed' only blends. From the
same starts, in simulated time, so that the computer's own speed does not count. One row of a CSV per start, delay and
arm; what has a row is never done again.

  difftop bench delay --starts 3             a first look
  difftop bench delay                        20 starts at each of 0, 100, 300 and 800 ms
  difftop bench delay --report               the table of what is there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The comparison's options."""
    parser.description = DESCRIPTION
    parser.add_argument("--models", nargs="+", type=Path, default=[Path("models/panda_lift")], help="trained policies")
    parser.add_argument("--delays", nargs="+", type=float, default=[0.0, 100.0, 300.0, 800.0], metavar="MS",
                        help="time of each plan, from its observation to its first command [ms]")  # fmt: skip
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="how a plan goes on from another")
    parser.add_argument("--starts", type=int, default=20, help="starts of each")
    parser.add_argument("--first-seed", type=int, help="of the starts (default: far from recordings)")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/delay.csv"), help="rows, kept and added to")
    parser.add_argument("--report", action="store_true", help="run nothing: the table of the rows there are")


def run(args: argparse.Namespace) -> int:
    """Runs what has no row yet, then prints the table."""
    from difftop_ros.commands.bench import rows as table
    from difftop_ros.commands.bench.delay import episode, report
    from difftop_ros.learning.evaluate import EVALUATION_SEED

    if args.starts < 1 or min(args.delays) < 0:
        raise UserError(f"--starts is {args.starts}, --delays {args.delays}; expected 1 or more, and none below 0")
    first = EVALUATION_SEED if args.first_seed is None else args.first_seed
    for model in [] if args.report else args.models:
        bench = episode.Bench(model)
        try:
            for seed in range(first, first + args.starts):
                for delay_ms, arm in ((delay_ms, arm) for delay_ms in args.delays for arm in args.arms):
                    key = bench.key(delay_ms, arm, seed)
                    if key not in {episode.key(row) for row in table.read(args.csv, episode.COLUMNS)}:
                        row = bench.run(delay_ms, arm, seed)
                        table.append(args.csv, episode.COLUMNS, row)
                        print(episode.sentence(row), flush=True)
        finally:
            bench.close()
    rows = table.read(args.csv, episode.COLUMNS)
    if not rows:
        raise UserError(f"{args.csv} has no rows yet; run without --report")
    print(report.markdown(rows))
    return 0
