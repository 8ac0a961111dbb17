"""What interventions are worth: a weak policy, corrected where it fails, against as much more demonstrated at random.

Meta-World with the objects' true state, as in policy_classes.py. A policy of few demonstrations acts from unseen
starts; where it has not succeeded after `--patience` steps the scripted expert takes over until it has. Then it is
trained again from scratch, as long, with these corrections (half of every batch), and for comparison with
demonstrations from the same starts instead. All are evaluated from the same other starts.

    python -m benchmarks.corrections --tasks basketball-v3 --seeds 0 1 2
    python -m benchmarks.corrections --report                        tables of all rows there are, in pairs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.policy_classes import (
    DEMONSTRATION_LIMIT,
    Demonstration,
    demonstrations,
    fit,
    observe,
    outcomes,
    success_table,
)
from difftop_ros.commands.bench import rows as table
from difftop_ros.commands.bench.paired import pair_table
from difftop_ros.policies import PolicyNet
from difftop_ros.policies.decoder import Noise
from difftop_ros.sim import make_expert, make_world

FIRST = 500_000  # start of the first intervention: neither recordings nor evaluations reach it
KIND = ("task", "demos", "interventions", "seed", "steps", "episodes", "patience")
COLUMNS = (*KIND, "policy", "expert_steps", "successes", "outcomes", "base_outcomes")
ORIGIN, STAY_STEPS, LIMIT, REPLAN_EVERY = "hand", 100, 200, 4


@torch.no_grad()
def intervene(net: PolicyNet, world: Any, seed: int, patience: int) -> Demonstration | None:
    """The policy acts for `patience` steps, then the expert until success and after; None if nobody was needed.

    None too where the expert could not save it.
    """
    world.reset(seed)
    steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    commands = np.zeros((1, 1))
    for step in range(patience):
        hand, objects = observe(world, ORIGIN)
        if step % REPLAN_EVERY == 0:
            past = [*(old[:2] for old in steps[-net.config.obs_steps :]), (hand, objects)]
            seen = ([past[0]] * net.config.obs_steps + past)[-net.config.obs_steps :]
            obs = {
                name: torch.from_numpy(np.array([[frame[part] for frame in seen]]))
                for part, name in enumerate(("joints", "objects"))
            }
            measured = net.scaler.origin(obs)
            actions = net.plan(net.encode(obs), measured, noise=Noise(step)).actions
            commands = net.scaler.unscale(actions, measured)[0].double().numpy()
        steps.append((hand, objects, commands[step % REPLAN_EVERY]))
        world.step(steps[-1][2], world.step_s)
        if world.success():
            return None
    expert, stayed = make_expert(world), -1
    while stayed < STAY_STEPS and len(steps) < DEMONSTRATION_LIMIT:
        steps.append((*observe(world, ORIGIN), expert.act()))
        world.step(steps[-1][2], world.step_s)
        stayed += stayed >= 0 or world.success()
    return Demonstration.of(steps, patience) if stayed >= 0 else None


def corrections(net: PolicyNet, task: str, count: int, patience: int) -> tuple[list[Demonstration], list[int]]:
    """The first `count` interventions, and the seeds of their starts."""
    world, found, seeds, seed = make_world(f"metaworld/{task}"), [], [], FIRST
    while len(found) < count and seed < FIRST + 50 * count:
        one = intervene(net, world, seed, patience)
        if one is not None:
            found.append(one)
            seeds.append(seed)
        seed += 1
    return found, seeds


def run_cell(args: argparse.Namespace, task: str, seed: int) -> list[dict[str, str]]:
    """The rows of one weak policy and of what was made of it."""
    kind = {"limit": DEMONSTRATION_LIMIT, "stay_steps": STAY_STEPS, "origin": ORIGIN}
    worlds = [make_world(f"metaworld/{task}") for _ in range(args.episodes)]
    known = demonstrations(task, args.demos, first=100 * seed, **kind)
    weak = fit(known, args.policy, args.steps, seed)
    corrected, seeds = corrections(weak, task, args.interventions, args.patience)
    shown = [demonstrations(task, 1, first, **kind)[0] for first in seeds]
    nets = {
        "weak": (weak, []),
        "corrected": (fit([*known, *corrected], args.policy, args.steps, seed, corrected=len(corrected)), corrected),
        "as many demonstrations": (fit([*known, *shown], args.policy, args.steps, seed), shown),
    }
    shared = dict(zip(KIND, map(str, (task, args.demos, args.interventions, seed, args.steps, args.episodes,
                                      args.patience)), strict=True))  # fmt: skip
    found = []
    for name, (net, more) in nets.items():
        signs = outcomes(net, worlds, LIMIT, ORIGIN, replan_every=REPLAN_EVERY)
        row = {"policy": f"{args.policy}, {name}", "expert_steps": sum(len(d.actions) - d.since for d in more),
               "successes": signs.count("1"), "outcomes": signs, "base_outcomes": ""}  # fmt: skip
        found.append({**shared, **{key: str(value) for key, value in row.items()}})
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["basketball-v3", "peg-insert-side-v3", "pick-place-v3"])
    parser.add_argument("--policy", default="bc")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--demos", type=int, default=5, help="of the weak policy, others for each seed (default: 5)")
    parser.add_argument("--interventions", type=int, default=10)
    parser.add_argument("--patience", type=int, default=120, help="steps of the policy before the expert takes over")
    parser.add_argument("--steps", type=int, default=800, help="optimisation steps of each training (default: 800)")
    parser.add_argument("--episodes", type=int, default=100, help="unseen starts (default: 100)")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/corrections.csv"), help="rows, added to")
    parser.add_argument("--report", action="store_true", help="print tables of the rows there are, and run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = table.read(args.csv, COLUMNS)
    if args.report:
        print(f"{success_table(rows)}\n\n{pair_table(rows, KIND)}")
        return
    for seed in args.seeds:
        for task in args.tasks:
            wanted = {"task": task, "seed": str(seed), "demos": str(args.demos), "steps": str(args.steps)}
            if any(wanted.items() <= row.items() and row["policy"].startswith(f"{args.policy},") for row in rows):
                continue
            for row in run_cell(args, task, seed):
                table.append(args.csv, COLUMNS, row)
                print(", ".join(f"{name} {row[name]}" for name in COLUMNS[:-2]), flush=True)


if __name__ == "__main__":
    main()
