"""Policy classes alone: imitation on Meta-World given the objects' true state, where nothing has to be seen.

A cell takes a minute or two, so that variants of a policy can be told apart over many starts; what they are worth with
a camera is `difftop bench imitation`'s to say. Demonstrations are those of the scripted experts, in this process.

    python -m benchmarks.policy_classes --policies bc diffusion difftop
    python -m benchmarks.policy_classes --tasks push-v3 --policies difftop difftop:proximal=0.5 --seeds 0 1 2
    python -m benchmarks.policy_classes --why --tasks basketball-v3 --policies difftop difftop:latent_modes=8 --seeds 0
    python -m benchmarks.policy_classes --report                     tables of all rows there are, policies in pairs

With --why nothing is run in closed loop: it says where a plan's error comes from, at the states that the expert goes
through in the demonstrations and from unseen starts. Each row keeps the outcome of every start, so that policies are
compared on the same starts.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.plan_errors import errors, in_words
from difftop_ros.commands.bench import rows as table
from difftop_ros.commands.bench.capacity import with_equal_budget
from difftop_ros.commands.bench.cells import policy_config
from difftop_ros.commands.bench.paired import pair_table
from difftop_ros.contract import Contract, load_contract, parse_contract
from difftop_ros.learning.evaluate import EVALUATION_SEED
from difftop_ros.learning.imitation.trust import calibrate
from difftop_ros.paths import share_path
from difftop_ros.policies import DifftopNet, PolicyNet, make_net
from difftop_ros.policies.builtin import DifftopOptions
from difftop_ros.policies.decoder import Noise
from difftop_ros.sim import make_expert, make_world

TOLD = [*range(4, 11), 36, 37, 38]  # of Meta-World's state: the object's position and quaternion, and the goal
HAND_NOISE, OBJECT_NOISE = 0.01, 0.003  # in training [m]
DEMONSTRATION_LIMIT = 500  # steps
PLACES = [0, 1, 2, 7, 8, 9]  # of what is told: what is somewhere, and so may be seen from the hand
KEY = ("task", "policy", "demos", "seed", "steps", "episodes", "limit", "stay_steps", "origin", "held_out")
COLUMNS = (*KEY, "successes", "base_successes", "cost_share", "train_s", "outcomes", "base_outcomes")


@dataclass(frozen=True)
class Demonstration:
    """hand (T, 4) and objects (T, 10), what was measured before each action (T, 4); `since`: the first that teaches."""

    hand: np.ndarray
    objects: np.ndarray
    actions: np.ndarray
    since: int = 0

    @classmethod
    def of(cls, steps: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], since: int = 0) -> Demonstration:
        """Of (hand, objects, action) step by step."""
        hand, objects, actions = (np.array(part, np.float32) for part in zip(*steps, strict=True))
        return cls(hand, objects, actions, since)


def contract() -> Contract:
    """Meta-World's contract with the objects' state in place of the cloud."""
    data = load_contract(share_path("config/metaworld_cloud.yaml")).to_dict()
    del data["observations"]["cloud"]
    names = [f"object_{index}" for index in TOLD]
    data["observations"]["objects"] = {"kind": "joint_state", "topic": "/objects", "joints": names}
    data["sim"]["cameras"] = {}
    return parse_contract(yaml.safe_dump(data, sort_keys=False), "metaworld_cloud.yaml, objects told")


def observe(world: Any, origin: str) -> tuple[np.ndarray, np.ndarray]:
    """Hand (4,) and objects (10,), float32, places seen from `origin`; only Meta-World's worlds have full_state."""
    hand, objects = world.joint_state()[0], world.full_state[TOLD]
    if origin == "hand":
        objects[PLACES] -= np.tile(hand[:3], 2)
    return hand.astype(np.float32), objects.astype(np.float32)


def demonstrations(
    task: str, count: int, first: int = 0, *, limit: int, stay_steps: int, origin: str
) -> list[Demonstration]:
    """The first `count` seeds from `first` on at which the expert succeeds, and what it does for `stay_steps` after."""
    world, found, seed = make_world(f"metaworld/{task}"), [], first
    while len(found) < count:
        world.reset(seed)
        expert, steps, stayed = make_expert(world), [], -1
        while stayed < stay_steps and len(steps) < limit:
            steps.append((*observe(world, origin), expert.act()))
            world.step(steps[-1][2], world.step_s)
            stayed += stayed >= 0 or world.success()
        if stayed >= 0:
            found.append(Demonstration.of(steps))
        seed += 1
    return found


def windows(found: list[Demonstration], obs_steps: int, horizon: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """obs[key] (N, obs_steps, ...), actions (N, H, 4), mask (N, H) of every step that teaches."""
    hand, objects, actions, mask = [], [], [], []
    for demo in found:
        for step in range(demo.since, len(demo.actions)):
            past = np.maximum(np.arange(step - obs_steps + 1, step + 1), 0)
            ahead = np.arange(step, step + horizon)
            last = len(demo.actions) - 1
            hand.append(demo.hand[past])
            objects.append(demo.objects[past])
            actions.append(demo.actions[np.minimum(ahead, last)])
            mask.append(ahead <= last)
    obs = {"joints": torch.from_numpy(np.array(hand)), "objects": torch.from_numpy(np.array(objects))}
    return obs, torch.from_numpy(np.array(actions)), torch.from_numpy(np.array(mask))


def fit(
    found: list[Demonstration],
    policy: str,
    steps: int,
    seed: int,
    lr: float = 1e-3,
    corrected: int = 0,
    held_out: int = 0,
) -> PolicyNet:
    """Train as `difftop train` does: AdamW, one cycle, clipped gradients, averaged weights.

    corrected: so many of the last demonstrations are corrections, and make half of every batch. held_out:
    so many teach nothing, but say what of a learned cost is trusted.
    """
    torch.manual_seed(seed)
    net = make_net(contract(), with_equal_budget(contract(), policy_config(policy, horizon=8, obs_steps=2)))
    judges, found = found[len(found) - held_out :], found[: len(found) - held_out]
    sizes = (net.config.obs_steps, net.config.horizon)
    obs, actions, mask = windows(found, *sizes)
    for key, frames in (("joints", [d.hand for d in found]), ("objects", [d.objects for d in found])):
        every = np.concatenate(frames)
        net.normaliser.fit(key, every.mean(0), every.std(0))
    net.scaler.fit(actions.numpy().min(0), actions.numpy().max(0))
    optimiser = torch.optim.AdamW(net.parameters(), lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + 1, pct_start=0.05)
    averaged, random = copy.deepcopy(net), np.random.default_rng(seed)
    few = sum(len(demo.actions) - demo.since for demo in found[len(found) - corrected :])
    parts = [np.arange(len(actions))] if not few else np.split(np.arange(len(actions)), [len(actions) - few])
    for step in range(steps):
        drawn = [random.choice(part, min(128 // len(parts), len(part)), replace=False) for part in parts]
        some = torch.from_numpy(np.concatenate(drawn))
        clean = {key: frames[some] for key, frames in obs.items()}
        seen = {
            "joints": clean["joints"] + HAND_NOISE * torch.randn_like(clean["joints"]),
            "objects": clean["objects"] + OBJECT_NOISE * torch.randn_like(clean["objects"]),
        }
        optimiser.zero_grad()
        net.loss(clean, actions[some], mask[some], seen).total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            decay = min(0.995, (1 + step) / (10 + step))
            for kept, new in zip(averaged.state_dict().values(), net.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(new, 1 - decay)
    calibrate(averaged.eval(), ([windows([demo], *sizes)[:2]] for demo in judges))
    return averaged


@torch.no_grad()
def outcomes(
    net: PolicyNet, worlds: list[Any], limit: int, origin: str, iterations: int | None = None, replan_every: int = 4
) -> str:
    """A '1' for each world that the policy brings from its own unseen start to success within `limit` steps, or '0'."""
    for index, world in enumerate(worlds):
        world.reset(EVALUATION_SEED + index)
    history = [[observe(world, origin)] * net.config.obs_steps for world in worlds]
    going, plans, found = list(range(len(worlds))), torch.zeros(len(worlds), *net.shape), ["0"] * len(worlds)
    knots = torch.clamp(torch.arange(net.config.horizon) + replan_every, max=net.config.horizon - 1)
    commands = np.zeros((len(worlds), *net.shape))
    for step in range(limit):
        if step % replan_every == 0:
            hand, objects = (np.array([[past[part] for past in history[i]] for i in going]) for part in (0, 1))
            obs = {"joints": torch.from_numpy(hand), "objects": torch.from_numpy(objects)}
            measured = net.scaler.origin(obs)
            warm = plans[going][:, knots] if net.config.refines and step else None
            actions = net.plan(net.encode(obs), measured, warm, iterations=iterations, noise=Noise(step)).actions
            plans[going] = actions
            commands[going] = net.scaler.unscale(actions, measured).double().numpy()
        for i in list(going):
            worlds[i].step(commands[i, step % replan_every], worlds[i].step_s)
            history[i] = [*history[i][1:], observe(worlds[i], origin)]
            if worlds[i].success():
                going.remove(i)
                found[i] = "1"
        if not going:
            break
    return "".join(found)


def say_why(args: argparse.Namespace) -> None:
    """Train each policy and print its errors on its own demonstrations and on twenty others."""
    kind = {"limit": DEMONSTRATION_LIMIT, "stay_steps": args.stay_steps, "origin": args.origin}
    for task in args.tasks:
        known = demonstrations(task, args.demos, **kind)
        unseen = demonstrations(task, 20, EVALUATION_SEED, **kind)
        for policy in args.policies:
            for seed in args.seeds:
                net = fit(known, policy, args.steps, seed)
                for name, found in (("its own", known), ("unseen", unseen)):
                    obs, actions, _ = windows(found, net.config.obs_steps, net.config.horizon)
                    figures = in_words(errors(net, obs, actions))
                    print(f"{task}, {policy}, seed {seed}, {name} demonstrations: {figures}", flush=True)


def run_cells(args: argparse.Namespace) -> None:
    """Run what has no row yet, seed by seed, and print a line per policy."""
    rows = table.read(args.csv, COLUMNS)
    worlds: dict[str, list[Any]] = {}
    for seed in args.seeds:
        for task in args.tasks:
            for policy in args.policies:
                learned = isinstance(policy_config(policy).own, DifftopOptions)
                cell = (task, policy, args.demos, seed, args.steps, args.episodes, args.limit, args.stay_steps,
                        args.origin, args.held_out if learned else 0)  # fmt: skip
                key = dict(zip(KEY, map(str, cell), strict=True))
                if any(key.items() <= row.items() for row in rows):
                    continue
                if task not in worlds:
                    worlds = {task: [make_world(f"metaworld/{task}") for _ in range(args.episodes)]}
                row = {**key, **run_cell(args, worlds[task], task, policy, seed, cell[-1])}
                rows.append(row)
                table.append(args.csv, COLUMNS, row)
                print(", ".join(f"{name} {row[name]}" for name in COLUMNS[:-2] if row[name]), flush=True)


def run_cell(
    args: argparse.Namespace, worlds: list[Any], task: str, policy: str, seed: int, held_out: int
) -> dict[str, str]:
    """One training and its evaluation, of the base alone too where there is one."""
    found = demonstrations(task, args.demos, limit=DEMONSTRATION_LIMIT, stay_steps=args.stay_steps, origin=args.origin)
    began = time.monotonic()
    net = fit(found, policy, args.steps, seed, held_out=held_out)
    seconds = time.monotonic() - began
    plan = outcomes(net, worlds, args.limit, args.origin)
    base = outcomes(net, worlds, args.limit, args.origin, iterations=0) if net.config.refines else ""
    return {
        "successes": str(plan.count("1")),
        "base_successes": str(base.count("1")) if base else "",
        "cost_share": f"{net.own.cost_share:g}" if isinstance(net, DifftopNet) else "",
        "train_s": f"{seconds:.0f}",
        "outcomes": plan,
        "base_outcomes": base,
    }


def tables(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: for each set of conditions, successes and then the pairs that were run on the same starts."""
    shared = [name for name in KEY if name not in ("task", "policy", "seed", "held_out")]
    kinds: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        kinds[tuple(row[name] for name in shared)].append(row)
    return "\n\n".join(
        f"### {', '.join(f'{name} {value}' for name, value in zip(shared, kind, strict=True))}\n\n"
        f"{success_table(found)}\n\n{pair_table(found, ('task', 'seed'))}".rstrip()
        for kind, found in sorted(kinds.items())
    )


def success_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Per policy and task: mean success in per cent over the seeds, lowest and highest of them, and how many."""
    tasks = sorted({row["task"] for row in rows})
    lines = [f"| policy | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    for policy in sorted({row["policy"] for row in rows}):
        words = []
        for task in tasks:
            mine = [row for row in rows if (row["policy"], row["task"]) == (policy, task)]
            rates = [100 * int(row["successes"]) / int(row["episodes"]) for row in mine]
            words.append(f"{np.mean(rates):.0f} ({min(rates):.0f}–{max(rates):.0f}, n={len(rates)})" if rates else "–")
        lines.append(f"| `{policy}` | {' | '.join(words)} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["pick-place-v3"])
    parser.add_argument("--policies", nargs="+", default=["bc", "diffusion", "difftop"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--demos", type=int, default=10)
    parser.add_argument("--steps", type=int, default=800, help="optimisation steps of batch 128 (default: 800)")
    parser.add_argument("--episodes", type=int, default=100, help="unseen starts (default: 100)")
    parser.add_argument("--limit", type=int, default=200, help="steps of an episode; experts take 60 to 100")
    parser.add_argument("--stay-steps", type=int, default=100,
                        help="steps of a demonstration after success (default: 100)")  # fmt: skip
    parser.add_argument("--origin", choices=("world", "hand"), default="hand", help="where places are seen from")
    parser.add_argument("--held-out", type=int, default=2, help="demonstrations that teach nothing, but say how "
                        "much of a learned cost is trusted (default: 2)")  # fmt: skip
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/policy_classes.csv"), help="rows, added to")
    parser.add_argument("--why", action="store_true", help="print where the plans' errors come from, and run nothing")
    parser.add_argument("--report", action="store_true", help="print tables of the rows there are, and run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.report:
        print(tables(table.read(args.csv, COLUMNS)))
    elif args.why:
        say_why(args)
    else:
        run_cells(args)


if __name__ == "__main__":
    main()
