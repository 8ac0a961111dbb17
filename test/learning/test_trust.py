"""What of its learned cost a plan trusts: held-out episodes decide, and without trust the plan is its base's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftop_ros.contract import parse_contract
from difftop_ros.learning.imitation.batches import held_out
from difftop_ros.learning.imitation.train import train
from difftop_ros.learning.imitation.trust import best_share, calibrate
from difftop_ros.learning.progress import Progress
from difftop_ros.policies import DifftopNet, load_policy, make_net


@pytest.mark.parametrize(
    ("gains", "share"),
    [
        ({1.0: [0.1, 0.1, 0.1], 0.5: [0.05, 0.05, 0.05]}, 1.0),
        ({1.0: [0.3, -0.2, 0.1], 0.5: [0.05, 0.04, 0.06]}, 0.5),
        ({1.0: [-0.1, -0.1, -0.2], 0.5: [0.2, -0.3, 0.0]}, 0.0),
        ({1.0: [0.001], 0.5: [0.002]}, 0.5),
        ({1.0: [0.0, 0.0]}, 0.0),
    ],
)
def test_the_share_of_the_largest_gain_that_is_sure(gains: dict[float, list[float]], share: float) -> None:
    assert best_share({name: np.array(values) for name, values in gains.items()}) == share


def windows(net: DifftopNet, gain: float, joints: tuple[str, int] = ("joints", 2)) -> list[Any]:
    """An episode of which the expert is `gain` of the way from the base to the plan."""
    torch.manual_seed(0)
    obs = {"joints": torch.rand(12, 1, 2) - 0.5, "cloud": torch.rand(12, 1, 32, 3) - 0.5}
    with torch.no_grad():
        origin = net.scaler.origin(obs)
        base, plan = (net.plan(net.encode(obs), origin, iterations=count).actions for count in (0, None))
        return [(obs, net.scaler.unscale(base + gain * (plan - base), origin))]


@pytest.mark.parametrize("dynamics", ["none", "latent"])
def test_a_plan_that_does_not_help_is_its_bases_and_heeds_added_costs_all_the_same(
    arm: Any, small: Any, dynamics: str
) -> None:
    torch.manual_seed(1)
    net = make_net(parse_contract(arm.text), small(policy={"dynamics": dynamics, "proximal": 0.1}).policy).eval()
    assert isinstance(net, DifftopNet)
    with torch.no_grad():
        for parameter in net.cost.parameters():
            parameter.mul_(3)
    assert "share of 1 of" in calibrate(net, [windows(net, 1.0)]) and net.own.cost_share == 1.0
    (found,) = windows(net, -1.0)
    calibrate(net, [[found]])
    assert net.own.cost_share == net.config.own.cost_share == 0.0
    with torch.no_grad():
        encoding, origin = net.encode(found[0]), net.scaler.origin(found[0])
        base = net.plan(encoding, origin, iterations=0).actions
        warm = base + 0.3
        assert torch.equal(net.plan(encoding, origin, warm).actions, base), "also from a warm start"

        def away(actions: torch.Tensor) -> torch.Tensor:
            return 5.0 * (actions - 1).square().flatten(1).sum(1)

        pushed = net.plan(encoding, origin, terms=[(away, ())]).actions
    assert (pushed - base).abs().amax() > 0.1


def test_training_calibrates_and_the_model_keeps_it(arm: Any, small: Any, tmp_path: Path) -> None:
    from difftop_ros.data import EpisodeDataset, ingest

    bags = [arm.write_episode(tmp_path / "bags" / str(number), number) for number in range(6)]
    ingest(bags, parse_contract(arm.text), tmp_path / "dataset")
    episodes = EpisodeDataset(tmp_path / "dataset")
    settings = small(steps=8, validation=0.34)
    told: list[Progress] = []
    policy = train(episodes, settings, tmp_path / "model", report=told.append)
    (said,) = [p.message for p in told if p.message.startswith("on ")]
    assert "on 2 held-out episodes" in said
    again = load_policy(tmp_path / "model")
    assert again.config.own.to_dict()["cost_share"] == policy.config.own.to_dict()["cost_share"]
    assert f"share of {again.config.own.to_dict()['cost_share']:g}" in said
    steps = np.arange(episodes.steps)
    assert [sum(len(a) for _, a in batches) for batches in held_out(episodes, settings, steps)] == [24, 24]
    assert list(held_out(episodes, settings.replace(validation=0.0), steps)) == []
    assert calibrate(policy.net, []) == ""  # type: ignore[arg-type]
