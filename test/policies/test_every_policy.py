"""What holds for every policy on every base: it learns, it saves, zero iterations are its base, rows stand alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_policies import small_config

from difftop_ros.contract import parse_contract
from difftop_ros.policies import (
    DifftopNet,
    Noise,
    Policy,
    PolicyConfig,
    PolicyError,
    load_policy,
    make_net,
    take_base,
    with_sizes_of_base,
)
from difftop_ros.policies.config import base_names, policy_names

BASES = tuple(base_names())
ALONE: list[dict[str, Any]] = [{"policy": name} for name in policy_names() if name in BASES] + [
    {"policy": "bc", "point_encoder": "tokens", "point_groups": 8, "point_neighbours": 4},
    {"policy": "ibc", "ibc_sampler": "dfo"},
    {"policy": "bc_rnn", "gmm_act": "sample"},
    {"policy": "bc_rnn", "gmm_over": "step", "gmm_act": "sample"},
    {"policy": "diffusion", "diffusion_target": "epsilon"},
    {"policy": "flow", "flow_steps": 1},
]
REFINING: list[dict[str, Any]] = [
    {"policy": name, "base": base} for name in ("difftop", "residual") for base in BASES
] + [
    {"policy": "difftop", "latent_samples": 4},
    {"policy": "difftop", "latent_modes": 3},
    {"policy": "difftop", "latent_modes": 3, "latent_samples": 4},
    {"policy": "difftop", "dynamics": "latent"},
    {"policy": "difftop", "dynamics": "latent", "solver": "ilqr"},
]
SMALL: dict[str, Any] = {
    "horizon": 4, "obs_steps": 2, "features": 32, "latent": 4, "cost_outputs": 16, "state": 16,
    "point_widths": (8, 16), "image_widths": (4, 8, 8), "keypoints": 4, "iterations": 5, "ibc_negatives": 16,
    "ibc_candidates": 32, "diffusion_steps": 20, "diffusion_inference_steps": 5,
}  # fmt: skip
Data = tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]


def named(options: dict[str, Any]) -> str:
    return ",".join(str(value) for value in options.values())


def on(*cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("options", [case for group in cases for case in group], ids=named)


def build(text: str, **options: Any) -> Policy:
    torch.manual_seed(0)
    contract = parse_contract(text, "test")
    return Policy(make_net(contract, small_config(SMALL, **options)), contract, torch.device("cpu"))


@pytest.fixture(scope="session")
def joints_only(arm: Any) -> str:
    return "\n".join(line for line in arm.text.splitlines() if "cloud:" not in line) + "\n"


@pytest.fixture(scope="session")
def data(arm: Any) -> Data:
    """Windows of 3 synthetic episodes of 10 steps: the arm moves to where the cloud is."""
    rng = np.random.default_rng(0)
    frames: dict[str, list[Any]] = {"joints": [], "cloud": []}
    chunks = []
    for _ in range(3):
        position, target = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2)
        cloud = (np.append(target, 0) + rng.normal(0, 0.02, (32, 3))).astype(np.float32)
        path = [position]
        for _ in range(14):
            path.append(path[-1] + np.clip(target - path[-1], -0.1, 0.1))
        for step in range(10):
            frames["joints"].append(np.stack([path[max(step - 1, 0)], path[step]]))
            frames["cloud"].append(np.stack([cloud, cloud]))
            chunks.append(np.stack(path[step + 1 : step + 5]))
    obs = {key: torch.from_numpy(np.stack(value)).float() for key, value in frames.items()}
    actions = torch.from_numpy(np.stack(chunks)).float()
    return obs, actions, torch.ones(actions.shape[:2], dtype=torch.bool)


def scaled(policy: Policy, data: Data) -> Policy:
    """The policy with the scales that training would give it."""
    obs, actions, _ = data
    for key in policy.net.normaliser.kinds:
        flat = obs[key].flatten(0, -2).numpy()
        policy.net.normaliser.fit(key, flat.mean(0), flat.std(0))
    offset = (actions - policy.net.scaler.origin(obs)).numpy()
    policy.net.scaler.fit(offset.min(0), offset.max(0))
    return policy


def fit(policy: Policy, data: Data, steps: int, lr: float = 5e-3) -> float:
    """Train on all windows; returns the mean squared error of scaled plans as they are made at run time."""
    net = scaled(policy, data).net
    net.train().requires_grad_(True)
    if getattr(net.config.own, "base_training", "") == "frozen":
        take_base(net)
    learned = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learned, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + 1, pct_start=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        net.loss(*data).total.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
    net.eval().requires_grad_(False)
    with torch.no_grad():
        errors = net.errors(data[0], data[1])
    return float(errors["plan_mse" if net.config.refines else "base_mse"])


def window(data: Data, row: int) -> dict[str, np.ndarray]:
    return {key: frames[row].numpy() for key, frames in data[0].items()}


HEART: list[dict[str, Any]] = [
    {"policy": "bc"},
    {"policy": "bc_rnn", "steps": 400},
    {"policy": "ibc", "steps": 300, "ibc_negatives": 32, "ibc_candidates": 256, "error": 0.02},  # found by sampling
    {"policy": "bc_rnn", "gmm_over": "step", "steps": 400},
    {"policy": "act", "steps": 300, "act_dropout": 0.0},
    {"policy": "diffusion", "steps": 400},
    {"policy": "flow", "steps": 500, "error": 0.05},  # each step's target is the net's own
    {"policy": "residual"},
    {"policy": "difftop"},
    {"policy": "difftop", "base": "zero"},
    {"policy": "difftop", "dynamics": "latent"},
]


@pytest.mark.parametrize("case", HEART, ids=named)
def test_three_episodes_are_learned_by_heart(arm: Any, data: Any, case: Any) -> None:
    options = dict(case)
    steps, enough = options.pop("steps", 150), options.pop("error", 0.01)
    assert fit(build(arm.text, **options), data, steps) < enough  # scaled actions fill [-1, 1]


@on(ALONE, REFINING)
def test_a_saved_policy_acts_identically(arm: Any, data: Any, options: Any, tmp_path: Path) -> None:
    policy = scaled(build(arm.text, **options), data)
    other = load_policy(policy.save(tmp_path / "model"))
    assert other.config == policy.config
    for row in (0, 17):
        obs = window(data, row)
        first = policy.act(obs)
        assert np.isfinite(first.actions).all()
        assert np.array_equal(first.actions, other.act(obs).actions)
        assert np.array_equal(first.actions, policy.act(obs).actions), "a policy is a function of its observation"


def moved(policy: Policy) -> Policy:
    """With weights that make plans differ from their base."""
    with torch.no_grad():
        for name, parameter in policy.net.named_parameters():
            if name.split(".")[0] in ("cost", "correction"):
                parameter.mul_(2)
    return policy


@on(REFINING)
def test_without_iterations_its_base_acts(arm: Any, data: Any, options: Any) -> None:
    policy = moved(scaled(build(arm.text, **options), data))
    obs = {key: frames[:6] for key, frames in data[0].items()}
    with torch.no_grad():
        encoding, origin = policy.net.encode(obs), policy.net.scaler.origin(obs)
        box = policy.net.scaler.bounds(origin)
        base = torch.maximum(torch.minimum(policy.net.base_chunk(encoding, box), box[1]), box[0])
        assert torch.equal(policy.net.plan(encoding, origin, iterations=0).actions, base)
        refined = policy.net.plan(encoding, origin).actions
    assert (refined - base).abs().amax((1, 2)).min() > 1e-3, "with iterations it does something"
    low, high = box
    assert (refined >= low).all() and (refined <= high).all()


@on([case for case in REFINING if case["policy"] == "difftop"])
def test_more_iterations_never_raise_the_learned_cost(arm: Any, data: Any, options: Any) -> None:
    policy = moved(scaled(build(arm.text, **options), data))
    for row in range(0, 30, 7):
        costs = [policy.act(window(data, row), iterations=count).final_cost for count in (0, 1, 2, 4, 8)]
        # qn takes a step to a smaller gradient at a cost that is equal up to 4 units of float32's last place
        rounding = 4 * np.finfo(np.float32).eps * costs[0]
        assert all(later <= earlier + rounding for earlier, later in itertools.pairwise(costs)), costs
        assert costs[-1] < costs[0]


@on(ALONE, REFINING)
def test_a_row_does_not_depend_on_its_neighbours(arm: Any, data: Any, options: Any) -> None:
    policy = scaled(build(arm.text, **options), data)
    rows = [3, 11, 20, 29]
    obs = {key: frames[rows] for key, frames in data[0].items()}
    with torch.no_grad():
        origin = policy.net.scaler.origin(obs)
        plans = policy.net.plan(policy.net.encode(obs), origin, noise=Noise(policy.noise_seed)).actions
        together = policy.net.scaler.unscale(plans, origin).numpy()
    for index, row in enumerate(rows):
        assert np.allclose(policy.act(window(data, row)).actions, together[index], atol=5e-4)


@on(ALONE, REFINING)
def test_the_gradient_reaches_every_part(arm: Any, data: Any, options: Any) -> None:
    net = scaled(build(arm.text, **options), data).net.train().requires_grad_(True)
    net.loss(*data).total.backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_latent_dynamics_learn_through_the_solve_alone(arm: Any, data: Any) -> None:
    net = scaled(build(arm.text, policy="difftop", dynamics="latent"), data).net.train().requires_grad_(True)
    assert isinstance(net, DifftopNet)
    with torch.no_grad():
        encoding = net.encode(data[0])
    obs, actions, _ = data
    origin = net.scaler.origin(obs)
    box, expert = net.scaler.bounds(origin), net.scaler.scale(actions, origin)
    from difftop_ros.trajopt import solve

    latent = torch.zeros(len(expert), 4)
    plan = solve(net.problem(encoding, latent, torch.zeros_like(expert), box), torch.zeros_like(expert))
    (plan.actions - expert).square().mean().backward()
    for part in (net.cost.start, net.cost.change, net.cost.stage_cost, net.cost.final_cost):  # type: ignore[union-attr]
        assert all(p.grad is not None and p.grad.any() for p in part.parameters() if p.ndim == 2)


@pytest.mark.parametrize("base", [name for name in BASES if name != "zero"])
def test_a_base_may_come_from_a_folder_and_stay_as_it_is(arm: Any, data: Any, base: str, tmp_path: Path) -> None:
    trained = scaled(build(arm.text, policy=base), data)
    with torch.no_grad():
        for parameter in trained.net.parameters():
            parameter.add_(0.01)
    folder = trained.save(tmp_path / base)
    policy = build(arm.text, policy="difftop", base=base, base_from=str(folder), base_training="frozen")
    take_base(policy.net)
    obs = window(data, 4)
    assert np.allclose(policy.act(obs, iterations=0).actions, trained.act(obs).actions, atol=1e-6)
    fit(policy, data, 3)
    assert np.allclose(policy.act(obs, iterations=0).actions, trained.act(obs).actions, atol=1e-6)
    assert not np.allclose(policy.act(obs).actions, trained.act(obs).actions, atol=1e-4)
    policy.save(tmp_path / "model")
    again = load_policy(tmp_path / "model")
    assert np.array_equal(again.act(obs).actions, policy.act(obs).actions)
    joint = build(arm.text, policy="difftop", base=base, base_from=str(folder))
    take_base(joint.net)
    joint.net.requires_grad_(True)
    fit(joint, data, 3)
    assert not np.allclose(joint.act(obs, iterations=0).actions, trained.act(obs).actions, atol=1e-4)


def test_a_base_that_does_not_fit_is_refused(arm: Any, data: Any, tmp_path: Path) -> None:
    folder = str(scaled(build(arm.text, policy="bc"), data).save(tmp_path / "bc"))
    cases = [
        ({"horizon": 6}, "horizon 4 instead of 6"),
        ({"point_widths": (8, 24)}, "tensors, such as"),
    ]
    for options, words in cases:
        policy = build(arm.text, policy="difftop", base_from=folder, **options)
        with pytest.raises(PolicyError, match=words):
            take_base(policy.net)
    for other, words in (({"base": "diffusion", "base_from": folder}, "has policy 'bc'; expected 'diffusion'"),
                         ({"base_from": str(tmp_path / "nowhere")}, "lacks")):  # fmt: skip
        with pytest.raises(PolicyError, match=words):
            with_sizes_of_base(PolicyConfig(**other))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "gpt"}, "policy is 'gpt'"),
        ({"base": "gpt"}, "base is 'gpt'"),
        (
            {"policy": "bc", "base": "ibc"},
            "policy bc has no settings \\['base'\\], which belong to \\['residual', 'difftop'\\]",
        ),
        ({"base_training": "frozen"}, "without base_from"),
        ({"base": "zero", "base_from": "models/x"}, "has no weights"),
        ({"solver": "ilqr"}, "solver is 'ilqr'"),
        ({"policy": "bc", "diffusion_steps": 9}, r"no settings \['diffusion_steps'\], which belong to \['diffusion'\]"),
        ({"latent_samples": 0}, "latent_samples is 0"),
        ({"policy": "ibc", "ibc_negatives": 1}, "ibc_negatives is 1"),
        ({"policy": "diffusion", "diffusion_inference_steps": 200}, "at most the 100"),
        ({"policy": "act", "act_width": 20}, "act_width is 20; expected a multiple of 2 act_heads, 8"),
        ({"point_encoder": "tokens", "point_widths": (8, 9)}, "expected a multiple of 4 as the last, with tokens"),
        ({"image_encoder": "vit"}, "image_encoder is 'vit'"),
        ({"image_sharpness": 0.0}, "image_sharpness is 0.0; expected more than 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(options: Any, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        PolicyConfig(**options)


def test_a_temporal_ensemble_goes_on_from_the_plan_in_force(arm: Any, data: Any) -> None:
    policy = scaled(build(arm.text, policy="act", act_ensemble=0.8), data)
    with torch.no_grad():
        encoding, origin = policy.net.encode(data[0]), policy.net.scaler.origin(data[0])
        fresh = policy.net.plan(encoding, origin).actions
        low, high = policy.net.scaler.bounds(origin)
        before = low + 0.3 * (high - low)
        found = policy.net.plan(encoding, origin, before).actions
    share = 0.8 * torch.tensor([1.0, 0.75, 0.5, 0.25])[:, None]
    torch.testing.assert_close(found, fresh + share * (before - fresh))
    alone, obs = scaled(build(arm.text, policy="act"), data), window(data, 3)
    plan = alone.act(obs).actions
    np.testing.assert_array_equal(alone.act(obs, warm_start=plan + 0.1).actions, plan)


def test_a_picture_encoder_without_pictures_is_refused(arm: Any) -> None:
    with pytest.raises(PolicyError, match="image_encoder is 'resnet18' but the contract 'small_arm' has no pictures"):
        build(arm.text, image_encoder="resnet18")


def test_pictures_through_resnet(arm: Any) -> None:
    policy = build(arm.with_picture, policy="bc", image_encoder="resnet18")
    assert policy.net.parts()["encoder"] > 11_000_000
    assert "bc: " in policy.card() and "encoder 11," in policy.card()
