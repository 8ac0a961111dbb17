"""`difftop train`: bags to a model folder. The work is learning/run.py's; this parses, prints and hears Ctrl-C."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from difftop_ros.commands.console import ProgressLine
from difftop_ros.commands.signals import EndSignals
from difftop_ros.learning.progress import Stopped

DESCRIPTION = """\
Ingests the bags (once; later runs take them from the cache), trains a policy by imitation, and writes a model folder
with weights, contract, model card, plots and, when the contract has a simulation, its measured success and a video.
Stopped with Ctrl-C, the same command goes on from the last checkpoint. 'tensorboard --logdir OUT/logs' shows the run.

  difftop train --bags bags --contract config/panda_table.yaml --out models/mine
  difftop train --bags bags --contract my_robot.yaml --out models/bc --policy bc --steps 3000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    from difftop_ros.learning.options import add_to

    parser.description = DESCRIPTION
    parser.add_argument("--bags", nargs="+", default=[], type=Path, help="rosbag2 folders, or folders of them")
    parser.add_argument(
        "--corrections", nargs="+", default=[], type=Path, help="as --bags, recorded while a policy ran and a person "
        "took over now and then: what the person did is learned, what the policy did is not"
    )  # fmt: skip
    parser.add_argument("--contract", type=Path, help="robot contract (default: the bags' or the dataset's own)")
    parser.add_argument("--out", required=True, type=Path, help="model folder to write")
    parser.add_argument(
        "--dataset",
        type=Path,
        help="where the ingested data goes (default: beside the first bags); without --bags: a dataset that is there",
    )
    parser.add_argument("--include-failures", action="store_true", help="train on episodes marked as failed too")
    parser.add_argument("--strict", action="store_true", help="do not train if anything is left out of any bag")
    add_to(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 or auto")
    parser.add_argument("--fresh", action="store_true", help="start over instead of going on with the run in --out")
    group = parser.add_argument_group("evaluation in simulation, when the contract has a sim section")
    group.add_argument("--eval-episodes", type=int, default=20, help="starts after training; 0 for none")
    group.add_argument("--task", help="reach, push or lift (default: the contract's sim.task)")


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0 when the model folder is complete, 130 when a signal ended it before."""
    from difftop_ros.learning.run import TrainingJob, run_training
    from difftop_ros.learning.settings import TrainSettings

    job = TrainingJob(
        bags=tuple(args.bags),
        contract=_contract(args),
        out=args.out,
        corrections=tuple(args.corrections),
        settings=TrainSettings.from_values(vars(args)),
        dataset=args.dataset,
        include_failures=args.include_failures,
        strict=args.strict,
        device=args.device,
        fresh=args.fresh,
        eval_episodes=args.eval_episodes,
        task=args.task,
        made_by=f"difftop {' '.join(shlex.quote(word) for word in sys.argv[1:])}",
    )
    try:
        with EndSignals() as asked, ProgressLine() as line:
            run_training(job, line, asked.is_set)
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _contract(args: argparse.Namespace) -> Any:
    """The one that is given, else that of the dataset or the bags."""
    from difftop_ros.contract import parse_contract
    from difftop_ros.data.bags.described import chosen_contract
    from difftop_ros.data.episodes.store import read_head

    if args.dataset and not (args.contract or args.bags):
        return parse_contract(read_head(args.dataset)["contract"], str(args.dataset))
    return chosen_contract(args.contract, args.bags)
