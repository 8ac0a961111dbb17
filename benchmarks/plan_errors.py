"""Where the errors of trained policies come from, on demonstrations that they have not seen.

Nothing is run in closed loop: at the states the expert goes through, each policy's chunk is compared with the expert's.
A dataset of other seeds than those trained on, and then any number of models (folders of `difftop train` and `difftop
bench`); a row each, on standard output:

    difftop record --expert --contract config/metaworld_cloud.yaml --task metaworld/peg-insert-side-v3 \\
        --seed 1000000 --episodes 10 --stay-steps 0 --out runs/unseen/bags
    difftop bag ingest runs/unseen/bags --contract config/metaworld_cloud.yaml --out runs/unseen/dataset
    python -m benchmarks.plan_errors runs/unseen/dataset runs/bench/cells/*peg-insert-side*cloud*

base, plan: mean squared errors of scaled chunks, as at run time. Of DiffTOP also, told: with the latent that the
posterior finds in the expert's own chunk, which nothing at run time knows; best mode: with that of the prior's modes
nearest to it; right: how often that is the mode taken at run time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difftop_ros.data import EpisodeDataset, WindowDataset
from difftop_ros.errors import UserError
from difftop_ros.learning.imitation.batches import as_tensors
from difftop_ros.policies import PolicyNet, load_policy
from difftop_ros.policies.difftop import DifftopNet, divergences
from difftop_ros.trajopt import solve

ROWS = 256  # windows at a time: those of clouds are large


@torch.no_grad()
def errors(net: PolicyNet, obs: dict[str, Tensor], actions: Tensor) -> dict[str, float]:
    """The figures named above, of obs[key] (N, obs_steps, ...) and the expert's actions (N, H, A)."""
    encoding, origin = net.encode(obs), net.scaler.origin(obs)
    expert, box = net.scaler.scale(actions, origin), net.scaler.bounds(origin)

    def off(chunk: Tensor) -> float:
        return float((chunk.clamp(*box) - expert).square().mean())

    base = net.base_chunk(encoding, box)
    found = {"base": off(base), "plan": off(net.plan(encoding, origin).actions)}
    if not isinstance(net, DifftopNet):
        return found
    latent, log_variance = net.posterior(torch.cat([encoding.features, expert.flatten(1)], dim=1))
    weights, means, log_variances = net.prior_modes(encoding, base)
    nearest, taken = divergences(latent, log_variance, means, log_variances).argmin(1), weights.argmax(1)

    def solved(with_code: Tensor) -> float:
        problem = net.problem(encoding, with_code, base, box)
        return off(solve(problem, problem.clamp(base), net.solver_options()).actions)

    return {
        **found,
        "told": solved(latent),
        "best mode": solved(means[torch.arange(len(latent)), nearest]),
        "right": float((nearest == taken).float().mean()),
    }


def in_words(found: dict[str, float]) -> str:
    """'base 0.0281, plan 0.0270'."""
    return ", ".join(f"{key} {value:.4f}" for key, value in found.items())


def of_dataset(net: PolicyNet, episodes: EpisodeDataset) -> dict[str, float]:
    """The means over every window of the dataset."""
    windows = WindowDataset(episodes, net.config.obs_steps, net.config.horizon, keys=list(net.normaliser.kinds))
    sums: dict[str, float] = {}
    for start in range(0, len(windows), ROWS):
        some = np.arange(start, min(start + ROWS, len(windows)))
        batch = as_tensors(windows.batch(some))
        for key, value in errors(net, batch["obs"], batch["action"]).items():
            sums[key] = sums.get(key, 0.0) + value * len(some) / len(windows)
    return sums


def main() -> None:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        episodes = EpisodeDataset(args.dataset)
        for path in args.models:
            print(f"{path.name}: {in_words(of_dataset(load_policy(path).net, episodes))}", flush=True)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
