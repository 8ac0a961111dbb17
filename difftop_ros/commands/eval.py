"""`difftop eval`: closed-loop success in simulation, in lock step, without ROS. Measured by learning/run.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from difftop_ros.commands.arguments import add_engine, task_of
from difftop_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = (
        "Runs a trained policy in the simulated world of its contract, waits for each plan (no real time, no ROS), and "
        "counts successes over starts that no recording used. A DiffTOP policy is compared with its own base."
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of the trained policy")
    parser.add_argument(
        "--task", help="reach, push, lift or metaworld/push-v3 and so on (default: the contract's sim.task)"
    )
    add_engine(parser)
    parser.add_argument("--episodes", type=int, default=20, help="starts")
    parser.add_argument("--first-seed", type=int, help="seed of the first start (default: far from recordings)")
    parser.add_argument("--replan-every", type=int, default=1, help="policy steps per plan")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--prepare-solve", default="none", choices=("none", "compile", "cuda_graph"),
                        help="make the solve ready first, as the policy node's parameter")  # fmt: skip
    parser.add_argument("--costs", type=Path, help="file of costs added to every plan (docs/how-to/add_costs.md)")
    parser.add_argument("--no-base", action="store_true", help="do not evaluate the base policy beside")
    parser.add_argument("--disturbance", type=float, default=0.0, help="random pushes of the servos [rad]")
    parser.add_argument("--min-successes", type=int, default=0, help="exit with 1 below this many successes")


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints, writes evaluation.json and the rollout video into the model folder."""
    from difftop_ros.commands.console import ProgressLine
    from difftop_ros.learning.run import EVALUATION_SEED, evaluate_model
    from difftop_ros.policies import load_policy

    if args.episodes < 1 or args.replan_every < 1:
        raise UserError(f"--episodes is {args.episodes}, --replan-every {args.replan_every}; both must be at least 1")
    policy: Any = load_policy(args.model, args.device)
    if args.costs:
        from difftop_ros.costs.load import load_costs
        from difftop_ros.costs.policy import WithCosts

        policy = WithCosts(policy, load_costs(args.costs, policy.contract))
    if args.prepare_solve != "none":
        policy.prepare(args.prepare_solve)
    with ProgressLine() as line:
        found = evaluate_model(
            policy,
            args.model,
            task_of(args.engine, args.task, policy.contract),
            args.episodes,
            first_seed=EVALUATION_SEED if args.first_seed is None else args.first_seed,
            replan_every=args.replan_every,
            base=not args.no_base,
            disturbance=args.disturbance,
            report=line,
        )
    return 0 if found[0].successes >= args.min_successes else 1
