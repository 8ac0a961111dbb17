"""Small policies for a two-joint arm, untrained but scaled as training would, and frames for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_policies import small_config

from difftop_ros.contract import parse_contract
from difftop_ros.policies import Policy, make_net

SMALL: dict[str, Any] = {
    "horizon": 5, "obs_steps": 2, "features": 24, "latent": 4, "cost_outputs": 8, "point_widths": (8, 16),
    "image_widths": (4, 8, 8), "keypoints": 4, "iterations": 4,
}  # fmt: skip


@pytest.fixture
def make_policy(arm: Any) -> Callable[..., Policy]:
    """make_policy(text=…, reach=…, **config): random weights; plans stay within `reach` of what they start from."""

    def make(text: str = arm.text, reach: float = 0.3, **config: Any) -> Policy:
        torch.manual_seed(0)
        contract = parse_contract(text, "test")
        net = make_net(contract, small_config(SMALL, 24, **config))
        with torch.no_grad():
            net.base[-1].weight.mul_(10)  # plans that differ from one another
            if config.get("policy") != "bc":  # and a cost that moves them
                chunk = config.get("dynamics", "none") == "none"
                cost = net.cost
                for layer in (cost.from_actions, cost.from_context, cost.rest[-1]) if chunk else cost.stage_cost[::2]:
                    layer.weight.mul_(4)
        extent = np.full(net.shape, reach)
        net.scaler.fit(-extent, extent)
        return Policy(net, contract, torch.device("cpu"))

    return make


@pytest.fixture
def frames() -> Callable[..., dict[str, np.ndarray]]:
    """frames(policy, seed, position) -> random raw frames as the pipeline makes them; joints at `position`."""

    def make(policy: Policy, seed: int = 0, position: float | None = None) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        steps, found = policy.obs_steps, {}
        for key, obs in policy.contract.observations.items():
            if obs.kind == "joint_state":
                size = len(obs.joints) * len(obs.fields)
                frame = rng.uniform(-1, 1, (steps, size)) if position is None else np.full((steps, size), position)
                found[key] = frame.astype(np.float32)
            elif obs.kind == "image":
                found[key] = rng.integers(0, 256, (steps, *obs.resize, 3), dtype=np.uint8)
            else:
                found[key] = rng.uniform(-1, 1, (steps, obs.points, 6 if obs.color else 3)).astype(np.float32)
        return found

    return make
