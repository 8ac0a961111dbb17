"""`difftop eval`: closed-loop success in simulation, in lock step, without ROS. Measured by learning/run.py.

In a simulator that somebody else runs, the demo's course goes the same starts in real time, through topics.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from difftop_ros.commands.arguments import FOREIGN, add_engine, task_of, their_contract
from difftop_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = (
        "Runs a trained policy in the simulated world of its contract, waits for each plan (no real time, no ROS), and "
        "counts successes over starts that no recording used. A DiffTOP policy is compared with its own base. In a "
        "simulator that runs already (--sim gazebo, isaac or topics) the policy node does it in real time, by topics."
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of the trained policy")
    parser.add_argument(
        "--task", help="reach, push, lift or metaworld/push-v3 and so on (default: the contract's sim.task)"
    )
    add_engine(parser, foreign=True)
    parser.add_argument("--contract", type=Path, help="with such a simulator: what its topics are called (default: "
                        "config/panda_gazebo.yaml, config/panda_isaac.yaml, or the model's own)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="where evaluation.json and the video go (default: the model folder; "
                        "for a shipped model evaluation/NAME, as its own files stay as they are)")  # fmt: skip
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
    """Evaluates, prints, writes evaluation.json and the rollout video."""
    from difftop_ros.commands.console import ProgressLine
    from difftop_ros.learning.run import EVALUATION_SEED, evaluate_model
    from difftop_ros.policies import load_policy

    if args.episodes < 1 or args.replan_every < 1:
        raise UserError(f"--episodes is {args.episodes}, --replan-every {args.replan_every}; both must be at least 1")
    out = _out(args)
    if args.engine in FOREIGN:
        return _through_topics(args, out)
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
            out,
            task_of(args.engine, args.task, policy.contract),
            args.episodes,
            first_seed=EVALUATION_SEED if args.first_seed is None else args.first_seed,
            replan_every=args.replan_every,
            base=not args.no_base,
            disturbance=args.disturbance,
            report=line,
        )
    return 0 if found[0].successes >= args.min_successes else 1


def _out(args: argparse.Namespace) -> Path:
    """Where results go, made. Raises UserError where that cannot be written to."""
    from difftop_ros.paths import share_folders

    model = args.model.resolve()
    shipped = any((folder / "models").resolve() == model.parent for folder in share_folders())
    out = args.out or (Path("evaluation") / model.name if shipped else args.model)
    try:
        if out != args.model:
            out.mkdir(parents=True, exist_ok=True)
            print(f"results go to {out}", flush=True)
    except OSError as error:
        raise UserError(f"--out '{out}' cannot be written to: {error}") from None
    return out


def _through_topics(args: argparse.Namespace, out: Path) -> int:
    """The policy node beside a simulator that runs already, start after start; evaluation.json as for our own."""
    from difftop_ros.commands.demo.closed_loop import Demo, DemoOptions
    from difftop_ros.commands.demo.report import plan_statuses
    from difftop_ros.contract import load_contract
    from difftop_ros.files import write_json
    from difftop_ros.learning.evaluate import EVALUATION_SEED, Evaluation, Outcome
    from difftop_ros.nodes.children import SignalsAsException
    from difftop_ros.policies import load_policy

    policy: Any = load_policy(args.model)
    config = policy.config
    path = args.contract or their_contract(args.engine) or args.model / "contract.yaml"
    contract = load_contract(path)
    options = DemoOptions(
        args.model, out, contract.episode.max_seconds, task=args.task or "", device=args.device, contract=path,
        parameters=(*([f"costs:='{args.costs}'"] if args.costs else []), f"prepare_solve:={args.prepare_solve}"),
        foreign=True, success_when=args.success_when,
    )  # fmt: skip
    found = Evaluation(args.task or contract.sim.task or "none", f"{config.policy}, through topics")
    first = EVALUATION_SEED if args.first_seed is None else args.first_seed
    demo = Demo(contract, config.obs_steps, options)
    with SignalsAsException() as signals:
        try:
            demo.start()
            for seed in range(first, first + args.episodes):
                episode = demo.episode(seed)
                times = [status.encode_ms + status.solve_ms for status in plan_statuses(episode)]
                steps = round(episode.seconds * contract.rate_hz)
                found.outcomes.append(Outcome(seed, episode.success, steps, times, episode.note))
                print(f"seed {seed}: {'success' if episode.success else 'failure'} after {steps} steps, "
                      f"{found.successes} so far{'  ' + episode.note if episode.note else ''}", flush=True)  # fmt: skip
        finally:
            signals.ignore()  # see demo/__init__.py
            demo.close()
    print(found.summary())
    write_json(out / "evaluation.json", [found.to_dict()])
    return 0 if found.successes >= args.min_successes else 1
