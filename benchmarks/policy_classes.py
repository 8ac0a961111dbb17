"""Policy classes alone: imitation on Meta-World given the objects' true state, where nothing has to be seen.

A cell takes a minute or two, so that variants of a policy can be told apart over many starts; what they are worth with
a camera is `difftop bench imitation`'s to say. Demonstrations are those of the scripted experts, in this process.

    python -m benchmarks.policy_classes --policies bc diffusion difftop
    python -m benchmarks.policy_classes --tasks push-v3 --policies difftop difftop:proximal=0.5 --seeds 0 1 2
    python -m benchmarks.policy_classes --why --tasks basketball-v3 --policies difftop difftop:latent_modes=8 --seeds 0

With --why nothing is run in closed loop: it says where a plan's error comes from, at the states that the expert goes
through in the demonstrations and from unseen starts.
"""

from __future__ import annotations

import argparse
import copy
import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.plan_errors import errors, in_words
from difftop_ros.commands.bench.capacity import with_equal_budget
from difftop_ros.commands.bench.cells import policy_config
from difftop_ros.contract import Contract, load_contract, parse_contract
from difftop_ros.learning.evaluate import EVALUATION_SEED
from difftop_ros.paths import share_path
from difftop_ros.policies import PolicyNet, make_net
from difftop_ros.policies.decoder import Noise
from difftop_ros.sim import make_expert, make_world

TOLD = [*range(4, 11), 36, 37, 38]  # of Meta-World's state: the object's position and quaternion, and the goal
HAND_NOISE, OBJECT_NOISE = 0.01, 0.003  # in training [m]
COLUMNS = ("task", "policy", "demos", "seed", "steps", "episodes", "limit", "successes", "base_successes", "train_s")


@dataclass(frozen=True)
class Demonstration:
    """hand (T, 4) and objects (T, 10), what was measured before each action (T, 4)."""

    hand: np.ndarray
    objects: np.ndarray
    actions: np.ndarray


def contract() -> Contract:
    """Meta-World's contract with the objects' state in place of the cloud."""
    data = load_contract(share_path("config/metaworld_cloud.yaml")).to_dict()
    del data["observations"]["cloud"]
    names = [f"object_{index}" for index in TOLD]
    data["observations"]["objects"] = {"kind": "joint_state", "topic": "/objects", "joints": names}
    data["sim"]["cameras"] = {}
    return parse_contract(yaml.safe_dump(data, sort_keys=False), "metaworld_cloud.yaml, objects told")


def observe(world: Any) -> tuple[np.ndarray, np.ndarray]:
    """Hand (4,) and objects (10,), float32; only Meta-World's worlds have full_state."""
    return world.joint_state()[0].astype(np.float32), world.full_state[TOLD].astype(np.float32)


def demonstrations(task: str, count: int, limit: int = 500, first: int = 0) -> list[Demonstration]:
    """The first `count` seeds from `first` on at which the expert succeeds."""
    world, found, seed = make_world(f"metaworld/{task}"), [], first
    while len(found) < count:
        world.reset(seed)
        expert, steps = make_expert(world), []
        while not world.success() and len(steps) < limit:
            steps.append((*observe(world), expert.act()))
            world.step(steps[-1][2], world.step_s)
        if world.success():
            hand, objects, actions = (np.array(part, np.float32) for part in zip(*steps, strict=True))
            found.append(Demonstration(hand, objects, actions))
        seed += 1
    return found


def windows(found: list[Demonstration], obs_steps: int, horizon: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """obs[key] (N, obs_steps, ...), actions (N, H, 4), mask (N, H) of every step."""
    hand, objects, actions, mask = [], [], [], []
    for demo in found:
        for step in range(len(demo.actions)):
            past = np.maximum(np.arange(step - obs_steps + 1, step + 1), 0)
            ahead = np.arange(step, step + horizon)
            last = len(demo.actions) - 1
            hand.append(demo.hand[past])
            objects.append(demo.objects[past])
            actions.append(demo.actions[np.minimum(ahead, last)])
            mask.append(ahead <= last)
    obs = {"joints": torch.from_numpy(np.array(hand)), "objects": torch.from_numpy(np.array(objects))}
    return obs, torch.from_numpy(np.array(actions)), torch.from_numpy(np.array(mask))


def fit(found: list[Demonstration], policy: str, steps: int, seed: int, lr: float = 1e-3) -> PolicyNet:
    """Train as `difftop train` does: AdamW, one cycle, clipped gradients, averaged weights."""
    torch.manual_seed(seed)
    net = make_net(contract(), with_equal_budget(contract(), policy_config(policy, horizon=8, obs_steps=2)))
    obs, actions, mask = windows(found, net.config.obs_steps, net.config.horizon)
    for key, frames in (("joints", [d.hand for d in found]), ("objects", [d.objects for d in found])):
        every = np.concatenate(frames)
        net.normaliser.fit(key, every.mean(0), every.std(0))
    net.scaler.fit(actions.numpy().min(0), actions.numpy().max(0))
    optimiser = torch.optim.AdamW(net.parameters(), lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + 1, pct_start=0.05)
    averaged, random = copy.deepcopy(net), np.random.default_rng(seed)
    for step in range(steps):
        some = torch.from_numpy(random.choice(len(actions), min(128, len(actions)), replace=False))
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
    return averaged.eval()


@torch.no_grad()
def successes(
    net: PolicyNet, worlds: list[Any], limit: int, iterations: int | None = None, replan_every: int = 4
) -> int:
    """How many of the worlds, each from its own unseen start, the policy brings to success within `limit` steps."""
    for index, world in enumerate(worlds):
        world.reset(EVALUATION_SEED + index)
    history = [[observe(world)] * net.config.obs_steps for world in worlds]
    going, plans, succeeded = list(range(len(worlds))), torch.zeros(len(worlds), *net.shape), 0
    knots = torch.clamp(torch.arange(net.config.horizon) + replan_every, max=net.config.horizon - 1)
    commands = np.zeros((len(worlds), *net.shape))
    for step in range(limit):
        if step % replan_every == 0:
            hand, objects = (np.array([[past[part] for past in history[i]] for i in going]) for part in (0, 1))
            obs = {"joints": torch.from_numpy(hand), "objects": torch.from_numpy(objects)}
            origin = net.scaler.origin(obs)
            warm = plans[going][:, knots] if net.config.refines and step else None
            found = net.plan(net.encode(obs), origin, warm, iterations=iterations, noise=Noise(step)).actions
            plans[going] = found
            commands[going] = net.scaler.unscale(found, origin).double().numpy()
        for i in list(going):
            worlds[i].step(commands[i, step % replan_every], worlds[i].step_s)
            history[i] = [*history[i][1:], observe(worlds[i])]
            if worlds[i].success():
                going.remove(i)
                succeeded += 1
        if not going:
            break
    return succeeded


def say_why(args: argparse.Namespace) -> None:
    """Train each policy and print its errors on its own demonstrations and on twenty others."""
    for task in args.tasks:
        known, unseen = demonstrations(task, args.demos), demonstrations(task, 20, first=EVALUATION_SEED)
        for policy in args.policies:
            for seed in args.seeds:
                net = fit(known, policy, args.steps, seed)
                for name, found in (("its own", known), ("unseen", unseen)):
                    obs, actions, _ = windows(found, net.config.obs_steps, net.config.horizon)
                    figures = in_words(errors(net, obs, actions))
                    print(f"{task}, {policy}, seed {seed}, {name} demonstrations: {figures}", flush=True)


def main() -> None:
    """Run what has no row yet and print a line per policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["pick-place-v3"])
    parser.add_argument("--policies", nargs="+", default=["bc", "diffusion", "difftop"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--demos", type=int, default=10)
    parser.add_argument("--steps", type=int, default=800, help="optimisation steps of batch 128 (default: 800)")
    parser.add_argument("--episodes", type=int, default=100, help="unseen starts (default: 100)")
    parser.add_argument("--limit", type=int, default=200, help="steps of an episode; experts take 60 to 100")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/policy_classes.csv"), help="rows, added to")
    parser.add_argument("--why", action="store_true", help="print where the plans' errors come from, and run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.why:
        say_why(args)
        return
    rows = list(csv.DictReader(args.csv.open())) if args.csv.is_file() else []
    for task in args.tasks:
        found, worlds = (
            demonstrations(task, args.demos),
            [make_world(f"metaworld/{task}") for _ in range(args.episodes)],
        )
        for policy in args.policies:
            for seed in args.seeds:
                cell = (task, policy, args.demos, seed, args.steps, args.episodes, args.limit)
                key = dict(zip(COLUMNS, map(str, cell), strict=False))
                if any(key.items() <= row.items() for row in rows):
                    continue
                began = time.monotonic()
                net = fit(found, policy, args.steps, seed)
                seconds = time.monotonic() - began
                base = successes(net, worlds, args.limit, 0) if net.config.refines else ""
                row = {**key, "successes": str(successes(net, worlds, args.limit)), "base_successes": str(base)}
                rows.append({**row, "train_s": f"{seconds:.0f}"})
                with args.csv.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                    if not file.tell():
                        writer.writeheader()
                    writer.writerow(rows[-1])
                print(", ".join(f"{name} {value}" for name, value in rows[-1].items() if value), flush=True)


if __name__ == "__main__":
    main()
