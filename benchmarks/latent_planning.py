"""What a plan and an update cost in a latent model: by gradients and by sampling (MPPI 512 x 6), on the same networks.

    python -m benchmarks.latent_planning --width 128 --out table.md

The networks are trained for a moment on episodes at random, so that plans are of some use. Times are those of the
processor, one thread, which others on the machine disturb less than the clock's; returns are the model's own, of each
plan from the same states, less the prior's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from difftop_ros.learning.memory import keep_freed_memory
from difftop_ros.learning.reinforcement.acting import WAYS, Actor, acting, try_episode
from difftop_ros.learning.reinforcement.environments import Trial, make_trial
from difftop_ros.learning.reinforcement.learner import Learner
from difftop_ros.learning.reinforcement.losses import encoded
from difftop_ros.learning.reinforcement.replay import Replay
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import make_agent

HEAD = ("what", "CPU ms", "of MPPI's", "return of the plan in the model, over the prior's")


def cpu_ms(call: Callable[[], Any], repeats: int) -> float:
    """The processor's time of one call, the median of several."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(1e3 * (time.process_time() - start))
    return float(np.median(found))


def learner_of(settings: TryingSettings, trial: Trial, episodes: int) -> tuple[Learner, Replay]:
    """A learner with so many episodes at random to learn from."""
    torch.manual_seed(settings.seed)
    agent = make_agent(trial, settings)
    replay, random = Replay(10**6), np.random.default_rng(settings.seed)
    for number in range(episodes):
        replay.add(try_episode(None, trial, number, 0.0, random).episode)
    for key in agent.normaliser.fitted:
        agent.normaliser.fit(key, replay.frames(key).mean(0), replay.frames(key).std(0))
    return Learner(agent, settings, torch.device("cpu")), replay


def compare(values: dict[str, Any], updates: int, repeats: int) -> list[tuple[str, ...]]:
    """Rows of the table."""
    settings = TryingSettings.from_values({"plan_after": 0, **values})
    trial = make_trial(settings)
    learner, replay = learner_of(settings, trial, 4)
    learner.prepare()
    rows = []
    for _ in range(updates):
        learner.update(replay)
    frames = [trial.reset(0)]
    some = replay.sample(16, 1, np.random.default_rng(0)).frames
    with torch.no_grad():
        state = encoded(learner.agent, {key: torch.from_numpy(column[:1]) for key, column in some.items()})[0]
        proposal = learner.agent.propose(state)
        objective = learner.agent.problem(state, proposal).objective
        base = objective(proposal, state)
        times, gains = {}, {}
        for way in WAYS:
            agent = acting(learner.agent, way)
            actor = Actor(agent)
            actor(frames)
            times[way] = cpu_ms(lambda actor=actor: actor(frames), repeats)  # type: ignore[misc]
            gains[way] = float((objective(agent.plan(state).actions, state) - base).mean())
    for way, name in (
        ("mppi", "an action, MPPI 512 x 6"),
        ("plan", "an action, by gradients"),
        ("prior", "an action, prior"),
    ):
        rows.append((name, f"{times[way]:.1f}", f"1/{times['mppi'] / times[way]:.1f}", f"{gains[way]:+.3f}"))
    whole = 4 * settings.plan_every
    costs = []
    for weight in (settings.plan_loss, 0.0):
        other = Learner(learner.agent, settings.replace(plan_loss=weight), torch.device("cpu"))
        other.update(replay)
        costs.append(cpu_ms(lambda other=other: [other.update(replay) for _ in range(whole)], 3) / whole)  # type: ignore[misc]
    rows.append(("an update, with the loss through the plan", f"{costs[0]:.1f}", "–", "–"))
    rows.append(("an update, without it", f"{costs[1]:.1f}", "–", f"with: {costs[0] / costs[1]:.2f} times"))
    trial.close()
    return rows


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="cartpole-swingup")
    parser.add_argument("--width", type=int, default=128, help="of the hidden layers")
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--updates", type=int, default=200, help="before anything is measured")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--compile", default="none", choices=("none", "plan", "all"))
    parser.add_argument("--out", type=Path, help="file for the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    values = {"env": args.env, "model_width": args.width, "latent_size": args.latent, "compile": args.compile}
    rows = [HEAD, ("---",) * len(HEAD), *compare(values, args.updates, args.repeats)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
