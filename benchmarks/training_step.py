"""What an optimisation step costs, policy by policy at equal encoder; each as a ratio to behaviour cloning's.

Processor time of loss, backward and AdamW on made-up windows, in interleaved rounds, on one core.

    python -m benchmarks.training_step
    python -m benchmarks.training_step --contract config/metaworld_image.yaml --policies bc difftop --batch 64
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from difftop_ros.commands.bench.capacity import with_equal_budget
from difftop_ros.commands.bench.cells import policy_config
from difftop_ros.contract import Contract, load_contract
from difftop_ros.policies import PolicyNet, make_net
from difftop_ros.policies.normalisation import observation_spec

POLICIES = [
    "bc",
    "bc_rnn",
    "ibc",
    "diffusion",
    "residual",
    "difftop",
    "difftop:base=diffusion",
    "difftop:base=diffusion,latent_modes=8",
    "difftop:dynamics=latent",
]


def made_up(contract: Contract, batch: int, obs_steps: int) -> dict[str, Tensor]:
    """obs[key] (batch, obs_steps, ...) of the contract's shapes, at random."""
    obs = {}
    for key, (kind, shape) in observation_spec(contract).items():
        size = (batch, obs_steps, *shape)
        obs[key] = torch.randint(0, 256, size, dtype=torch.uint8) if kind == "image" else torch.randn(size)
    return obs


def a_step(net: PolicyNet, obs: dict[str, Tensor], actions: Tensor) -> Callable[[], None]:
    """One optimisation step, as a function."""
    optimiser = torch.optim.AdamW(net.parameters(), 1e-4)
    mask = torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device)

    def step() -> None:
        optimiser.zero_grad()
        net.loss(obs, actions, mask).total.backward()
        optimiser.step()

    return step


def encoding(net: PolicyNet, obs: dict[str, Tensor]) -> Callable[[], None]:
    """The encoder's part of a step, forwards and backwards."""

    def step() -> None:
        net.zero_grad()
        net.encode(obs).features.square().sum().backward()

    return step


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contract", type=Path, default=Path("config/metaworld_cloud.yaml"))
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--obs-steps", type=int, default=2)
    parser.add_argument("--horizon", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    contract = load_contract(args.contract)
    obs = made_up(contract, args.batch, args.obs_steps)
    actions = 0.5 * torch.randn(args.batch, args.horizon, len(contract.command.joints))
    sizes = {"horizon": args.horizon, "obs_steps": args.obs_steps}
    nets = {
        text: make_net(contract, with_equal_budget(contract, policy_config(text, **sizes)))
        for text in dict.fromkeys(["bc", *args.policies])
    }
    jobs = {text: a_step(net, obs, actions) for text, net in nets.items()}
    jobs["the encoder's part"] = encoding(nets["bc"], obs)
    seconds: dict[str, list[float]] = {text: [] for text in jobs}
    for turn in range(args.rounds + 2):  # the first two are warm-ups
        for text, job in jobs.items():
            began = time.process_time()
            job()
            if turn > 1:
                seconds[text].append(time.process_time() - began)
    usual = statistics.median(seconds["bc"])
    print(f"{contract.name}, batch {args.batch}, {args.obs_steps} frames, horizon {args.horizon}, one core\n")
    print("| policy | step [ms] | of bc | parameters |\n|---|---|---|---|")
    for text, taken in seconds.items():
        median = statistics.median(taken)
        size = sum(p.numel() for p in nets[text].parameters()) if text in nets else ""
        print(f"| {text} | {1e3 * median:.0f} | {median / usual:.2f} | {size} |")


if __name__ == "__main__":
    main()
