"""`difftop run`: the policy node with autostart and a live status line. The node itself is nodes/policy/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from difftop_ros.commands.console import StatusLine

DESCRIPTION = """\
Starts the policy node, waits until every stream of the contract is there, activates it and shows one line of status.
Ctrl-C decelerates, sends the safe command and ends. Exit code 0 after Ctrl-C, 2 if the policy could not be started
(the sentence says why), 3 if it stopped itself after repeated holds. After a run that was killed (kill -9, power) it
stays inactive until somebody activates it, or --resume-motion is given.

  difftop run --model models/panda_lift --sim-time
  difftop run --model models/mine --contract config/my_robot.yaml -p deadline_ms:=20.0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("--model", required=True, type=Path, help="folder of the trained policy")
    parser.add_argument("--contract", type=Path, help="robot contract (default: the policy's own copy)")
    parser.add_argument("--costs", type=Path, help="file of costs added to every plan (docs/how-to/add_costs.md)")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu", help="where the policy computes")
    parser.add_argument("--sim-time", action="store_true", help="take the time from /clock")
    parser.add_argument("--params-file", type=Path, help="node parameters, as config/policy_node.yaml")
    parser.add_argument(
        "--resume-motion",
        action="store_true",
        help="activate although the last run was killed and left no safe command; without it, that waits for a person",
    )
    parser.add_argument("--wait", type=float, metavar="S", help="give up when not active after S seconds (default: 60)")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="set one node parameter"
    )
    parser.add_argument("--network", action="store_true", help="with --sim-time: do not keep to this machine")


def ros_arguments(args: argparse.Namespace) -> list[str]:
    """The node's ROS arguments for the parsed command line."""
    from difftop_ros.nodes.parameters import assignment
    from difftop_ros.nodes.policy.parameters import PARAMETERS

    result = ["--ros-args"]
    if args.params_file:
        result += ["--params-file", str(args.params_file)]
    values = {"autostart": "true", "model": f"'{args.model}'", "device": args.device}
    if args.contract:
        values["contract"] = f"'{args.contract}'"
    if args.costs:
        values["costs"] = f"'{args.costs}'"
    if args.sim_time:
        values["use_sim_time"] = "true"
    if args.resume_motion:
        values["resume_motion"] = "true"
    if args.wait is not None:
        values["start_timeout_s"] = str(float(args.wait))
    for name, value in values.items():
        result += ["-p", f"{name}:={value}"]
    for text in args.parameter:
        result += ["-p", assignment(PARAMETERS, text)]
    return result


def status_line(figures: dict[str, Any]) -> str:
    """The node's figures as one line."""

    def number(key: str, form: str = ".1f") -> str:
        value = figures.get(key)
        return "-" if value is None or value != value else format(value, form)

    line = (
        f"{figures['state']}  plan {number('plan_age_ms', '.0f')} ms old  solve {number('solve_ms')} ms "
        f"({figures.get('solver_status', '-')})  tick p99 {number('lateness_p99_ms')} ms late, "
        f"{figures.get('ticks_lost', 0)} of {figures.get('ticks', 0)} lost  {figures.get('commands_published', 0)} sent"
    )
    if not figures.get("hold_reason"):
        return line
    return f"HOLDING: {figures['hold_reason']} (for {number('held_s', '.0f')} s)  {line}"


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C; the exit code."""
    from difftop_ros.errors import UserError
    from difftop_ros.nodes.environment import prepare
    from difftop_ros.nodes.policy.node import main

    given = {
        "--model": args.model,
        "--contract": args.contract,
        "--costs": args.costs,
        "--params-file": args.params_file,
    }
    for option, path in given.items():
        if path is not None and not path.exists():
            raise UserError(f"{option} {str(path)!r} does not exist; check the path")
    arguments = ros_arguments(args)
    # A simulation runs on this machine and keeps to it, as `difftop sim` does; a robot's topics come over the network.
    prepare(local_only=args.sim_time and not args.network)
    with StatusLine(sys.stdout, every_s=5.0, compiled_logs=True) as line:

        def show(node: Any) -> None:
            if node.state == "active" and line.due():
                line.show(status_line(node.figures()))

        return main(arguments, show)
