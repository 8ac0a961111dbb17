"""Two equally good ways around an obstacle: which policies take one, and which take the mean of both and crash.

A point starts left of a disc and must get behind it; half of the demonstrations pass above, half below, whatever the
start. State alone, a chunk of 8 positions, every policy with the same budget of parameters and steps.

    python -m benchmarks.bimodal --out docs/images/bimodal.png
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from difftop_ros.commands.bench.capacity import with_equal_budget
from difftop_ros.contract import Contract, parse_contract
from difftop_ros.policies import Noise, PolicyConfig, PolicyNet, make_net
from difftop_ros.policies.config import registered

CONTRACT = """
name: two_ways
rate_hz: 10
control_rate_hz: 50
command:
  topic: /toy/command
  type: sensor_msgs/msg/JointState
  mode: position
  joints:
    - {name: x, position: [-2, 2], velocity: 10}
    - {name: y, position: [-2, 2], velocity: 10}
observations:
  state: {kind: joint_state, topic: /toy/state, joints: [x, y], max_age_ms: 200}
episode: {max_seconds: 5}
"""
SHARED: dict[str, Any] = {"horizon": 8, "features": 64}
DIFFTOP = {"bc_width": 64, "prior_width": 64, "posterior_width": 64, "cost_width": 64, "latent": 4, "cost_outputs": 32,
           "state": 32}  # fmt: skip
POLICIES: dict[str, dict[str, Any]] = {
    "bc": {"policy": "bc"},
    "bc_rnn": {"policy": "bc_rnn"},
    "ibc": {"policy": "ibc"},
    "diffusion": {"policy": "diffusion"},
    "flow": {"policy": "flow"},
    "residual on bc": {"policy": "residual"},
    "difftop": {"policy": "difftop"},
    "difftop, 4 latent modes": {"policy": "difftop", "latent_modes": 4},
    "difftop, best of 8 latents": {"policy": "difftop", "latent_samples": 8},
    "difftop, latent dynamics": {"policy": "difftop", "dynamics": "latent"},
    "difftop on diffusion": {"policy": "difftop", "base": "diffusion"},
    "difftop on flow": {"policy": "difftop", "base": "flow"},
}
RADIUS = 0.35  # of the disc around the origin [m]
HEIGHT = 0.7  # of both ways [m]


@dataclass(frozen=True)
class Result:
    """Of one policy: starts (N, 2) and chunks (N, H, 2) [m], and what became of them."""

    starts: np.ndarray
    chunks: np.ndarray

    @property
    def clear(self) -> np.ndarray:
        """Which chunks (N,) keep out of the disc and end behind it."""
        path = np.concatenate([self.starts[:, None], self.chunks], axis=1)
        share = np.linspace(0, 1, 11)[:, None, None, None]
        between = path[:, :-1] + share * np.diff(path, axis=1)  # (11, N, H, 2)
        outside = (np.linalg.norm(between, axis=-1) > RADIUS).all((0, 2))
        return outside & (np.linalg.norm(self.chunks[:, -1] - [1.0, 0.0], axis=-1) < 0.15)

    @property
    def above(self) -> np.ndarray:
        """Which chunks (N,) pass above."""
        return self.chunks[:, :, 1].mean(1) > 0


def demonstrations(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts (N, 2) and expert chunks (N, H, 2) [m]; the way is drawn by chance."""
    rng = np.random.default_rng(seed)
    starts = np.stack([rng.uniform(-1.1, -0.9, count), rng.uniform(-0.1, 0.1, count)], axis=1)
    along = np.arange(1, SHARED["horizon"] + 1) / SHARED["horizon"]
    side = rng.choice([-1.0, 1.0], count)
    x = starts[:, :1] + along * (1.0 - starts[:, :1])
    y = starts[:, 1:] * (1 - along) + side[:, None] * HEIGHT * np.sin(np.pi * along)
    return starts, np.stack([x, y], axis=2)


def observed(starts: np.ndarray) -> dict[str, torch.Tensor]:
    """Raw frames of the starts."""
    return {"state": torch.from_numpy(starts[:, None]).float()}


def config(contract: Contract, options: dict[str, Any]) -> PolicyConfig:
    """Small, and with about as many parameters for every policy."""
    reference = PolicyConfig(**SHARED, **DIFFTOP)
    kinds = [registered()[name] for name in (options["policy"], options.get("base", "bc"))]
    sizes = {name: value for name, value in DIFFTOP.items() if any(name in kind.model_fields for kind in kinds)}
    sizes = sizes if options["policy"] in ("difftop", "bc") else {}
    return with_equal_budget(contract, PolicyConfig(**{**SHARED, **sizes, **options}), reference)


def train(contract: Contract, options: dict[str, Any], steps: int, seed: int = 0) -> PolicyNet:
    """A policy from 200 demonstrations, batch 64, AdamW on a one-cycle schedule, averaged weights: as difftop train."""
    torch.manual_seed(seed)
    net = make_net(contract, config(contract, options))
    starts, chunks = demonstrations(200, seed)
    net.normaliser.fit("state", starts.mean(0), starts.std(0))
    offsets = chunks - starts[:, None]
    net.scaler.fit(offsets.min(0), offsets.max(0))
    obs, actions = observed(starts)["state"], torch.from_numpy(chunks).float()
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps + 1, pct_start=0.05)
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    mask = torch.ones(64, SHARED["horizon"], dtype=torch.bool)
    for _ in range(steps):
        rows = torch.randint(0, len(obs), (64,))
        optimiser.zero_grad()
        net.loss({"state": obs[rows]}, actions[rows], mask).total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(net)
    return averaged.module.eval()


def evaluate(net: PolicyNet, count: int = 100) -> Result:
    """Chunks from unseen starts, each with fresh random numbers."""
    torch.manual_seed(1)
    starts, _ = demonstrations(count, 1_000_000)
    obs = observed(starts)
    with torch.no_grad():
        origin = net.scaler.origin(obs)
        plans = net.plan(net.encode(obs), origin, noise=Noise())
        chunks = net.scaler.unscale(plans.actions, origin).double().numpy()
    return Result(starts, chunks)


def draw(results: dict[str, Result], path: Path) -> None:
    """A panel per policy: its chunks, red where they crash or miss."""
    import matplotlib
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 5
    rows = -(-len(results) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(11, 2.4 * rows), squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, (name, found) in zip(panels.flat, results.items(), strict=False):
        axes.add_patch(pyplot.Circle((0, 0), RADIUS, color="0.8"))
        for start, chunk, good in zip(found.starts, found.chunks, found.clear, strict=True):
            path_xy = np.vstack([start, chunk])
            axes.plot(*path_xy.T, color="tab:blue" if good else "tab:red", linewidth=0.6, alpha=0.5)
        axes.plot([1], [0], "k*", markersize=5)
        share = f"{found.clear.mean():.0%} clear, {found.above.mean():.0%} above"
        axes.set(xlim=(-1.3, 1.3), ylim=(-1.05, 1.05), aspect="equal")
        axes.set_title(f"{name}\n{share}", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    with Image.open(path) as picture:  # few colours are enough, and a fraction of the bytes
        few = picture.convert("RGB").quantize(48)
    few.save(path, optimize=True)


def main() -> None:
    """Train, print a table, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="picture to write")
    parser.add_argument("--steps", type=int, default=600, help="optimisation steps of each policy (default: 600)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    contract = parse_contract(CONTRACT, "bimodal")
    results = {}
    print("| policy | clear | above | parameters | step [ms] |\n|---|---|---|---|---|")
    for name in args.policies:
        began = time.monotonic()
        net = train(contract, POLICIES[name], args.steps, args.seed)
        step_ms = 1e3 * (time.monotonic() - began) / args.steps
        found = results[name] = evaluate(net)
        share = f"{found.clear.mean():.0%} | {found.above.mean():.0%}"
        print(f"| {name} | {share} | {sum(net.parts().values()):,} | {step_ms:.1f} |", flush=True)
    if args.out:
        draw(results, args.out)


if __name__ == "__main__":
    main()
