"""`difftop model`: whether a model folder is what was trained, and signing it anew after a change that was meant."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
A model folder's manifest.json holds the SHA-256 of its weights, configuration and contract. What has changed since is
refused when the policy is loaded. After a change that you want, such as lower limits in its contract, sign it again.

  difftop model check models/mine
  difftop model sign models/mine
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = DESCRIPTION
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    check = jobs.add_parser("check", help="load it, and say what is in it or why it cannot be used")
    sign = jobs.add_parser("sign", help="load it as it is now and, if that works, write its manifest anew")
    for job in (check, sign):
        job.add_argument("folder", type=Path, help="folder of the trained policy")


def run(args: argparse.Namespace) -> int:
    """Returns 0; what is wrong is a UserError."""
    from difftop_ros.manifest import sign
    from difftop_ros.policies import load_policy

    policy = load_policy(args.folder, verified=args.job == "check")
    if args.job == "sign":
        sign(args.folder)
    print(f"{args.folder}: {policy.card()}; its files are what its manifest says")
    return 0
