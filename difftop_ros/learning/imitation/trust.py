"""How much of its learned cost an optimising policy is to trust: what held-out episodes say, no evaluation's starts.

A plan that is no better than its base on episodes that nobody trained on has no business to differ from it. With a
share of 0 of the learned cost it does not, and costs added at run time are heeded all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from difftop_ros.policies import DifftopNet, PolicyNet
from difftop_ros.policies.decoder import squared_error

SHARES = (1.0, 0.5, 0.25)  # of what the configuration asks for; and none
Window = tuple[Mapping[str, Tensor], Tensor]  # obs[key] (N, obs_steps, ...), actions (N, H, A) in contract units


@torch.no_grad()
def calibrate(net: PolicyNet, episodes: Iterable[Sequence[Window]]) -> str:
    """Let the net, if it optimises a learned cost, trust the share that serves held-out episodes; a sentence about it.

    episodes: each one's windows in batches. Nothing is changed where there are none, or where nothing is optimised.
    """
    if not isinstance(net, DifftopNet):
        return ""
    asked, held_out = net.own.cost_share, [list(episode) for episode in episodes]
    if not held_out or not asked:
        return ""
    gains = {}
    base = np.array([_error(net, episode, 0) for episode in held_out])
    for share in SHARES:
        net.trust(asked * share)
        gains[asked * share] = base - np.array([_error(net, episode, None) for episode in held_out])
    net.trust(best_share(gains))
    mean = float(gains[net.own.cost_share].mean()) if net.own.cost_share else 0.0
    return (
        f"on {len(held_out)} held-out episodes the base's squared error is {base.mean():.4f}, the plan's "
        f"{base.mean() - mean:.4f} with a share of {net.own.cost_share:g} of the learned cost"
    )


def best_share(gains: Mapping[float, np.ndarray]) -> float:
    """The share whose mean gain over the base (E,), by episode, is largest; 0 if none is above its standard error.

    One episode tells no standard error: then any gain counts.
    """
    sure = {
        share: gain.mean()
        for share, gain in gains.items()
        if gain.mean() > (gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else 0.0)
    }
    return max(sure, key=lambda share: sure[share], default=0.0)


def _error(net: DifftopNet, windows: Sequence[Window], iterations: int | None) -> float:
    """Mean squared error of scaled plans over an episode."""
    total, count = 0.0, 0
    for obs, actions in windows:
        origin = net.scaler.origin(obs)
        expert = net.scaler.scale(actions, origin)
        plan = net.plan(net.encode(obs), origin, iterations=iterations).actions
        total += float(squared_error(plan, expert, torch.ones_like(expert[..., :1]))) * len(actions)
        count += len(actions)
    return total / count
