"""`difftop view`: what a policy sees beside what came in, for Foxglove; and layouts for live topics."""

from __future__ import annotations

import argparse
from pathlib import Path

from difftop_ros.errors import UserError
from difftop_ros.files import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = (
        "Makes of a bag what Foxglove shows: each policy step's pictures, clouds and numbers as they came in and as "
        "the policy sees them. With --layouts it writes a Foxglove layout and an RViz configuration for live topics."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bag", type=Path, help="recording to look at")
    what.add_argument("--layouts", type=Path, metavar="FOLDER", help="write foxglove.json and difftop.rviz there")
    parser.add_argument("--contract", help="the robot's contract (default: the bag's own, else the demo's)")
    parser.add_argument("--out", type=Path, default=Path("view.mcap"), help="file to write; one that is there is kept")
    parser.add_argument("--namespace", default="/", help="with --layouts: the robot's")
    parser.add_argument("--serve", action="store_true", help="play it to Foxglove over a WebSocket, write no file")
    parser.add_argument("--port", type=int, default=8765, help="with --serve: of the WebSocket")
    parser.add_argument(
        "--points", type=int, default=20_000, help="most points of a cloud that came in, to keep it small"
    )


def run(args: argparse.Namespace) -> int:
    """Returns 0; raises UserError."""
    from difftop_ros.commands.view.layouts import live_files, seen_layout
    from difftop_ros.data.bags.described import chosen_contract

    if args.layouts is not None:
        contract = chosen_contract(args.contract, ()).in_namespace(args.namespace)
        for name, text in live_files(contract, args.namespace).items():
            write_whole(args.layouts / name, text)
            print(args.layouts / name)
        return 0
    if args.points < 1:
        raise UserError(f"--points is {args.points}; expected 1 or more")
    from difftop_ros.commands.view.record import record, serve
    from difftop_ros.commands.view.steps import steps

    contract = chosen_contract(args.contract, [args.bag])
    if args.serve:
        serve(steps(args.bag, contract), args.points, args.port)
        return 0
    if args.out.exists():
        raise UserError(f"--out '{args.out}' is there already; give another name, or remove it")
    told = record(steps(args.bag, contract), args.out, args.points)
    layout = args.out.with_suffix(".layout.json")
    write_whole(layout, seen_layout(contract))
    print(f"{args.out}: {told.steps} steps, {told.seen} of them with an observation; open it in Foxglove with {layout}")
    for reason, count in told.reasons.items():
        print(f"  {count} x {reason}")
    return 0
