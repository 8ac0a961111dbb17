"""`difftop sim`: starts the simulation bridge. The bridge itself is difftop_ros/nodes/simulation/bridge/node.py."""

from __future__ import annotations

import argparse

from difftop_ros.commands.arguments import add_engine, task_of
from difftop_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = (
        "Starts a simulated world that publishes the contract's observations, takes its commands, and offers "
        "/sim/reset and /sim/success. Ends with Ctrl-C."
    )
    parser.add_argument("--contract", help="robot contract (default: the demo's, config/panda_table.yaml)")
    parser.add_argument(
        "--task", help="reach, push, lift, none or metaworld/push-v3 and so on (default: the contract's sim.task)"
    )
    add_engine(parser)
    parser.add_argument(
        "--model",
        help="your own MJCF instead of the demo's scene, position servos only; with --engine drake an SDF world",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first episode")
    parser.add_argument(
        "--realtime-factor",
        type=float,
        default=1.0,
        help="simulated per wall second; 0: as fast as possible",
    )
    parser.add_argument("--lockstep", action="store_true", help="time advances only by the service /sim/step")
    parser.add_argument("--width", type=int, help="picture width [px] (default: the contract's sim.width)")
    parser.add_argument("--height", type=int, help="picture height [px] (default: the contract's sim.height)")
    parser.add_argument("--network", action="store_true", help="let other machines see the topics, not this one alone")
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="any other parameter of the bridge",
    )


def ros_arguments(args: argparse.Namespace) -> list[str]:
    """The bridge's command line for parsed options; UserError for a parameter that is not NAME:=VALUE."""
    named = {
        "contract": args.contract,
        "task": _task(args),
        "model": args.model,
        "seed": args.seed,
        "realtime_factor": float(args.realtime_factor),
        "lockstep": "true" if args.lockstep else None,
        "width": args.width,
        "height": args.height,
    }
    settings = [f"{name}:={value}" for name, value in named.items() if value is not None]
    for setting in args.parameter:
        if ":=" not in setting:
            raise UserError(f"--parameter is '{setting}'; write NAME:=VALUE, such as camera_rate:=30.0")
        settings.append(setting)
    return ["--ros-args", *(part for setting in settings for part in ("-p", setting))]


def _task(args: argparse.Namespace) -> str | None:
    if args.engine == "mujoco":
        return args.task
    from difftop_ros.contract import load_contract
    from difftop_ros.paths import share_path

    return task_of(args.engine, args.task, load_contract(args.contract or share_path("config/panda_table.yaml")))


def run(args: argparse.Namespace) -> int:
    """Runs the bridge until Ctrl-C; returns its exit code."""
    from difftop_ros.nodes import environment as ros_env

    arguments = ros_arguments(args)
    ros_env.prepare(local_only=not args.network)
    from difftop_ros.nodes.simulation.bridge.node import main

    return main(arguments)
