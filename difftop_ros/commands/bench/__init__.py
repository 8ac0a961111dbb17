"""`difftop bench`: comparisons, each in a file or folder of its name."""

from __future__ import annotations

import argparse

from difftop_ros.commands.bench import delay, imitation, node, obstacles, rl

COMPARISONS = {"imitation": imitation, "obstacles": obstacles, "node": node, "delay": delay, "rl": rl}
SUMMARIES = {
    "imitation": "policies that learn from the same demonstrations",
    "obstacles": "a trained policy with obstacles in its way that it never saw",
    "node": "the policy node's time: ticks lost, lateness, latency, memory, with large clouds and pictures",
    "delay": "a trained policy whose plans come late: success and smoothness",
    "rl": "policies that learn by trying, and how much their plan adds",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = "Compares on equal terms; rows go to a CSV, and what has a row is never done again."
    jobs = parser.add_subparsers(dest="what", required=True, metavar="COMPARISON")
    for name, comparison in COMPARISONS.items():
        comparison.add_arguments(jobs.add_parser(name, help=SUMMARIES[name]))


def run(args: argparse.Namespace) -> int:
    """As the comparison's own `run`."""
    return COMPARISONS[args.what].run(args)
