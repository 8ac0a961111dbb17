"""`difftop bench node`: does the policy node keep its time? Real processes, real DDS. Its course is session.py's."""

from __future__ import annotations

import argparse
from pathlib import Path

from difftop_ros.errors import UserError

DESCRIPTION = """\
Runs the policy node beside a robot's double: a process that publishes a picture and a cloud of 640 x 480 points, both
at 30 Hz, and joint states at 100 Hz, and whose joints follow the commands. Tells the control ticks that were lost, how
late the others were, how long it took from the start of observing to the first command, plans per second, the time of
every stage, and memory, threads and descriptors over time. One row of a CSV every few seconds; what is there counts, so
that a run that was stopped goes on when it is repeated.

  difftop bench node --seconds 60            a first look
  difftop bench node --minutes 60            the soak
  difftop bench node --model models/mine     a policy of yours that sees joints, pictures and clouds in position mode
  difftop bench node --report                the table and the plot of what is there

Without a model it is an untrained one: what it wants means nothing, what it costs is that of a trained one.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The comparison's options."""
    parser.description = DESCRIPTION
    parser.add_argument("--model", type=Path, help="trained policy (default: a made-up one, see above)")
    span = parser.add_mutually_exclusive_group()
    span.add_argument("--seconds", type=float, help="how long in all (default: 60)")
    span.add_argument("--minutes", type=float, help="the same in minutes")
    parser.add_argument("--size", default="640x480", metavar="WxH", help="of pictures and clouds")
    parser.add_argument("--camera-hz", type=float, default=30.0, help="rate of each picture and cloud")
    parser.add_argument("--joint-hz", type=float, default=100.0, help="rate of joint states")
    parser.add_argument("--plan-hz", type=float, default=30.0, help="most plans per second")
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help="a row every S seconds")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="set one node parameter"
    )
    parser.add_argument("--csv", type=Path, default=Path("runs/bench/node.csv"), help="rows, kept and added to")
    parser.add_argument("--plot", type=Path, help="where to draw it (default: beside the CSV, .png)")
    parser.add_argument("--report", action="store_true", help="run nothing: table and plot of the rows there are")


def run(args: argparse.Namespace) -> int:
    """Runs what is missing of the time asked for, then prints the table and draws the plot."""
    from difftop_ros.commands.bench import rows as table
    from difftop_ros.commands.bench.node import report, session

    setup = session.Setup(
        model=args.model, size=_size(args.size), camera_hz=args.camera_hz, joint_hz=args.joint_hz,
        plan_hz=args.plan_hz, parameters=tuple(args.parameter),
    )  # fmt: skip
    asked_s = 60.0 * args.minutes if args.minutes is not None else args.seconds if args.seconds is not None else 60.0
    if not (asked_s > 0 and args.every >= 1.0):
        raise UserError(f"the time asked for is {asked_s:g} s, --every {args.every:g}; expected above 0, and 1 or more")
    if not args.report:
        missing_s = asked_s - report.seconds_of(_rows(args.csv, setup))
        if missing_s >= 1.0:
            session.run(setup, missing_s, args.every, lambda row: table.append(args.csv, session.COLUMNS, row))
        else:
            print(f"{args.csv} has {asked_s - missing_s:.0f} s of this already")
    rows = _rows(args.csv, setup)
    if not rows:
        raise UserError(f"{args.csv} has no rows of these settings yet; run without --report")
    report.show(rows)
    plot = args.plot or args.csv.with_suffix(".png")
    report.draw(rows, plot)
    print(f"drawn: {plot}")
    return 0


def _rows(path: Path, setup: object) -> list[dict[str, str]]:
    from difftop_ros.commands.bench import rows as table
    from difftop_ros.commands.bench.node import session

    return [row for row in table.read(path, session.COLUMNS) if row["setup"] == str(setup)]


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise UserError(f"--size is {text!r}; expected WIDTHxHEIGHT, such as 640x480") from None
    return width, height
