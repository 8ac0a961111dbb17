"""An optimisation step of each policy on the device and on the CPU, on the same made-up windows."""

from __future__ import annotations

import copy
import statistics

import torch

from benchmarks.solvers.measure import timed
from benchmarks.training_step import POLICIES, a_step, made_up
from difftop_ros.commands.bench.cells import policy_config
from difftop_ros.contract import load_contract
from difftop_ros.paths import share_path
from difftop_ros.policies import make_net

DRAWING = ("difftop", "diffusion", "ibc")  # whose loss draws random numbers: the CPU's and the device's differ
WORST = 1e-3  # relative difference of the loss of the others


def difference(policy: str, here: float, there: float) -> float:
    """Of the device's loss to the CPU's, relative. Raises SystemExit where it is more than rounding."""
    off = abs(there - here) / abs(here)
    if not off <= WORST:
        raise SystemExit(f"{policy}: the loss on the device is {there:.6g}, on the CPU {here:.6g}")
    return off


def table(device: str, quick: bool) -> str:
    """Markdown. Raises SystemExit where a loss on the device is not the CPU's."""
    torch.manual_seed(0)
    contract = load_contract(share_path("config/metaworld_cloud.yaml"))
    batch, repeats = (8, 2) if quick else (128, 20)
    obs = made_up(contract, batch, 2)
    actions = 0.5 * torch.randn(batch, 8, len(contract.command.joints))
    mask = torch.ones(actions.shape[:2], dtype=torch.bool)
    lines = ["| policy | step [ms] | CPU's [ms] | times faster | loss against the CPU's |", "|---" * 5 + "|"]
    for policy in POLICIES[:2] if quick else POLICIES:
        here = make_net(contract, policy_config(policy, horizon=8, obs_steps=2))
        there = copy.deepcopy(here).to(device)
        moved = {key: frames.to(device) for key, frames in obs.items()}
        losses = [
            float(net.loss(seen, actions.to(where), mask.to(where)).total.detach())
            for net, seen, where in ((here, obs, "cpu"), (there, moved, device))
        ]
        said = "draws at random" if policy.startswith(DRAWING) else f"{difference(policy, *losses):.1e}"
        ms = []
        for net, seen, where, count in ((there, moved, device, repeats), (here, obs, "cpu", 2)):
            step = a_step(net, seen, actions.to(where))
            for _ in range(2):
                step()
            ms.append(statistics.median(1e3 * timed(step, where) for _ in range(count)))
        lines.append(f"| `{policy}` | {ms[0]:.1f} | {ms[1]:.0f} | {ms[1] / ms[0]:.1f} | {said} |")
    return "\n".join(lines)
