"""`difftop train-rl --env ros`: the trainer node in this process, its parameters those of the command line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def ros_arguments(args: argparse.Namespace) -> list[str]:
    """The node's ROS arguments for the parsed command line."""
    from difftop_ros.nodes.trainer.parameters import TRYING, parameters

    given: dict[str, Any] = {
        "env": args.env, "out": str(args.out), "reset": args.reset, "device": args.device, "fresh": args.fresh,
        "use_sim_time": args.sim_time, "contract": str(args.contract) if args.contract else None,
        "bags": [str(Path(bags)) for bags in args.bags] or None,
    }  # fmt: skip
    for parameter in parameters():
        name = parameter.name.removeprefix(TRYING)
        if name != parameter.name:
            value = getattr(args, name)
            given[parameter.name] = list(value) if isinstance(value, tuple) else value
    words = ["--ros-args"]
    for name, value in given.items():
        if value is not None:
            words += ["-p", f"{name}:={json.dumps(value)}"]
    return words


def run_on_robot(args: argparse.Namespace) -> int:
    """Learn on the robot until it is done or a signal comes; the exit code."""
    from difftop_ros.nodes.environment import prepare
    from difftop_ros.nodes.trainer.node import main

    prepare(local_only=args.sim_time)
    return main(ros_arguments(args))
