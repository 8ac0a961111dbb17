"""Stores observations and the plans that the shipped policies make of them, for test/policies/test_stored_plans.py.

    python tools/store_plans.py            writes test/policies/stored/<model>.npz for every model

Run it when a shipped policy is trained anew, never to make a failing test pass: the test is what says that a change of
the code left the policies' plans as they were.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from difftop_ros.policies import load_policy
from difftop_ros.sim.robot import SimulatedRobot

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "test/policies/stored"
SEED, EVERY, STORED = 1_000_000, 8, 6


def main() -> None:
    """Follow each policy closed loop and keep every 8th observation with its warm start and plan."""
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for folder in sorted(path.parent for path in (ROOT / "models").glob("*/model.safetensors")):
        policy = load_policy(folder)
        robot = SimulatedRobot(policy.contract)
        robot.reset(SEED)
        kept: dict[str, np.ndarray] = {}
        history = [robot.observe()] * policy.obs_steps
        plan: np.ndarray | None = None
        for step in range(EVERY * STORED):
            history = [*history, robot.observe()][-policy.obs_steps :]
            frames = {key: np.stack([past[key] for past in history]) for key in policy.contract.observations}
            warm = None if plan is None else np.concatenate([plan[1:], plan[-1:]])
            plan = policy.act(frames, warm_start=warm).actions
            if step % EVERY == 0:
                kept |= {f"{step}/obs/{key}": frame for key, frame in frames.items()}
                kept |= {f"{step}/plan": plan, f"{step}/base": policy.act(frames, iterations=0).actions}
                kept |= {} if warm is None else {f"{step}/warm_start": warm}
            robot.apply(plan[0], 1 / policy.contract.rate_hz)
        robot.close()
        np.savez_compressed(OUT / f"{folder.name}.npz", **kept)  # type: ignore[arg-type]
        print(f"{OUT / folder.name}.npz: {STORED} observations")


if __name__ == "__main__":
    main()
