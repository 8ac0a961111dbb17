"""`difftop train-rl`: environment to run folder. The work is learning/reinforcement's; this parses and prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from difftop_ros.commands.signals import EndSignals
from difftop_ros.learning.progress import Stopped

DESCRIPTION = """\
Trains by trying, for a reward: a latent model, a value and a prior policy are learned from what happens, and the policy
plans with them. With --policy difftop_rl, the default, the plan is optimised by gradients, and the gradient of what the
plan is worth goes through the optimisation into the model. tdmpc plans by sampling, prior does not plan.

Environments: tasks of dm_control by name (extra [dmcontrol]), tasks of the demo's arm or Meta-World under a robot
contract, any registered gymnasium environment. Steps are control steps; each action is held for --action-repeat.
Stopped with Ctrl-C, the same command goes on from the last episode, bit by bit the same run on a CPU.
'tensorboard --logdir OUT/logs' shows the run, OUT/returns.csv has every evaluated episode.

  difftop train-rl --env cartpole-swingup --out runs/cartpole                     ten minutes on a core
  difftop train-rl --env reacher-easy --steps 100000 --out runs/reacher --eval-with plan+prior
  difftop train-rl --env gymnasium:Pendulum-v1 --out runs/pendulum
  difftop train-rl --env reach --contract my_robot.yaml --out models/reach        a model folder for difftop run
  difftop train-rl --env reach --bags bags --out models/reach                     recordings first, then trying
  difftop train-rl --env ros --contract my_robot.yaml --out models/mine           on a robot, through its topics
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    from difftop_ros.learning.options import add_sections
    from difftop_ros.learning.reinforcement.settings import sections

    parser.description = DESCRIPTION
    parser.add_argument("--out", required=True, type=Path, help="folder of the run")
    parser.add_argument("--contract", type=Path, help="robot contract of a task of the demo's arm or Meta-World "
                        "(default: a shipped one)")  # fmt: skip
    parser.add_argument("--bags", nargs="+", default=[], type=Path, help="recordings of the contract's robot to learn "
                        "from first: rosbag2 folders, or folders of them")  # fmt: skip
    add_sections(parser, sections())
    group = parser.add_argument_group("the robot that the contract's topics lead to (env ros)")
    group.add_argument("--reset", default="sim/reset", help="the service that begins an episode, the simulation's or "
                       "any std_srvs/Trigger; hand: a person sets the scene up and calls the node's ready")  # fmt: skip
    group.add_argument("--sim-time", action="store_true", help="take the time from /clock")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 or auto")
    parser.add_argument("--fresh", action="store_true", help="start over instead of going on with the run in --out")


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0 when all steps are done, 130 when a signal ended it before."""
    from difftop_ros.commands.console import ProgressLine
    from difftop_ros.errors import require_package
    from difftop_ros.learning.reinforcement.settings import TryingSettings

    settings = TryingSettings.from_values(vars(args))
    require_package("gymnasium", "training by trying")
    if settings.env == "ros":
        from difftop_ros.commands.train_rl.robot import run_on_robot

        return run_on_robot(args)
    from difftop_ros.learning.reinforcement.job import train_in_environment

    try:
        with EndSignals() as asked, ProgressLine() as line:
            train_in_environment(
                settings, args.out, args.contract, args.device, args.fresh, line, asked.is_set, args.bags
            )
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return 130
    return 0
