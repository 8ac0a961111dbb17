"""Finds and runs the verb of a command line; errors a user can act on come without a traceback."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from difftop_ros import __version__
from difftop_ros.commands.arguments import Parser
from difftop_ros.errors import UserError, missing_package, of_the_disk

# verb -> its line in the overview; kept here so that the overview imports nothing
VERBS = {
    "demo": "watch the shipped policy do its task on the simulated arm, over real ROS 2",
    "contract": "check a robot contract: alone, against a running robot, or against a bag",
    "record": "record demonstrations of the contract's topics to bags",
    "bag": "look into bags: rates, gaps, ages, pictures; turn them into a dataset",
    "view": "show in Foxglove what a policy sees of a bag, beside what came in; layouts for live topics",
    "train": "train a policy from bags",
    "train-rl": "train a policy by trying, with a reward",
    "eval": "run a policy closed loop in simulation and count successes",
    "model": "check a model folder against its manifest, or sign it after a change that was meant",
    "run": "run a trained policy on a robot or in simulation, safely",
    "sim": "run a simulated robot behind the contract's ROS topics",
    "bench": "compare policies on equal terms: same demonstrations, encoders, steps and starts",
    "pipeline": "record, train and evaluate from nothing, in one go",
}
OVERVIEW = "a planning policy for your robot: trajectory optimisation, learned from rosbags"
STEPS = """\
your robot in four steps:
  difftop contract check my_robot.yaml --live          what the robot offers, and what is missing
  difftop record --contract my_robot.yaml --out bags   demonstrations, one bag per episode
  difftop train --contract my_robot.yaml --bags bags --out models/mine
  difftop run --model models/mine

'difftop VERB --help' explains each; --debug before the verb shows tracebacks.
"""


def module_of(verb: str) -> Any:
    """The module that does a verb's work, imported now."""
    return importlib.import_module(f"difftop_ros.commands.{verb.replace('-', '_')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; exit code 0 if it did its job, 2 for an error the user can put right, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(prog="difftop", description=OVERVIEW, epilog=STEPS)
    parser.add_argument("--version", action="version", version=f"difftop_ros {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary)
        if name == chosen:  # only the verb that is run gets imported
            module_of(name).add_arguments(verb)
    parser.refuse_misspelt(words)
    args = parser.parse_args(words)
    try:
        try:
            return int(module_of(args.verb).run(args))
        except ModuleNotFoundError as error:
            raise missing_package(error) from error
    except UserError as error:
        if args.debug:
            raise
        print(f"difftop {args.verb}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        sentence = of_the_disk(error)
        if args.debug or not sentence:
            raise
        print(f"difftop {args.verb}: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if args.debug:
            raise
        print(f"difftop {args.verb}: stopped", file=sys.stderr)
        return 130
