"""`difftop model`: whether a model folder is what was trained, signing it anew, and what is novel to its policy."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
A model folder's manifest.json holds the SHA-256 of its weights, configuration and contract. What has changed since is
refused when the policy is loaded. After a change that you want, such as lower limits in its contract, sign it again.

  difftop model check models/mine
  difftop model sign models/mine

A policy tells how far an observation is from those of its training, once that has been calibrated: 'difftop train' does
so, and for a folder from before:

  difftop model calibrate models/mine --dataset bags_dataset
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = DESCRIPTION
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    check = jobs.add_parser("check", help="load it, and say what is in it or why it cannot be used")
    sign = jobs.add_parser("sign", help="load it as it is now and, if that works, write its manifest anew")
    calibrate = jobs.add_parser("calibrate", help="write what tells novel observations, and its manifest anew")
    calibrate.add_argument("--dataset", required=True, type=Path, help="dataset that the policy was trained from")
    for job in (check, sign, calibrate):
        job.add_argument("folder", type=Path, help="folder of the trained policy")


def run(args: argparse.Namespace) -> int:
    """Returns 0; what is wrong is a UserError."""
    from difftop_ros.manifest import sign
    from difftop_ros.policies import load_policy

    if args.job == "calibrate":
        from difftop_ros.learning.calibrate import calibrate

        print(f"{args.folder}: {calibrate(args.folder, args.dataset)}")
        return 0
    policy = load_policy(args.folder, verified=args.job == "check")
    if args.job == "sign":
        sign(args.folder)
    print(f"{args.folder}: {policy.card()}; its files are what its manifest says")
    return 0
