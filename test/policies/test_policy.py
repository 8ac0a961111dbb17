"""What a policy promises whoever acts with it: bounds, warm starts, a model folder that means the same elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftop_ros.errors import UserError
from difftop_ros.policies import load_policy
from difftop_ros.trajopt import Status


def test_a_saved_policy_acts_identically(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], tmp_path: Path
) -> None:
    policy = make_policy()
    other = load_policy(policy.save(tmp_path / "model"))
    assert other.contract == policy.contract and other.config == policy.config
    for seed in range(3):
        obs = frames(policy, seed)
        assert np.array_equal(policy.act(obs).actions, other.act(obs).actions)


def test_without_iterations_its_base_acts(make_policy: Any, frames: Callable[..., dict[str, np.ndarray]]) -> None:
    policy = make_policy()
    obs = frames(policy)
    output = policy.act(obs, iterations=0)
    tensors = {key: torch.from_numpy(frame)[None] for key, frame in obs.items()}
    origin = policy.net.scaler.origin(tensors)
    low, high = policy.net.scaler.bounds(origin)
    chunk = policy.net.base_chunk(policy.net.encode(tensors))
    expected = policy.net.scaler.unscale(torch.maximum(torch.minimum(chunk, high), low), origin)
    assert np.allclose(output.actions, expected[0].numpy(), atol=1e-6)
    assert output.iterations == 0 and output.initial_cost == output.final_cost
    refined = policy.act(obs)
    assert refined.iterations > 0 and not np.allclose(refined.actions, output.actions, atol=1e-3)


@pytest.mark.parametrize("solver", ["qn", "polyak"])
def test_more_iterations_never_cost_more(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], solver: str
) -> None:
    policy = make_policy(solver=solver)
    for seed in range(4):
        obs = frames(policy, seed)
        costs = [policy.act(obs, iterations=count).final_cost for count in (0, 1, 2, 4, 8, 16)]
        assert all(later <= earlier for earlier, later in itertools.pairwise(costs)), costs
        # the published step of constant length lowers a return of this size rarely, but never raises it
        assert solver == "polyak" or costs[-1] < costs[0]


def test_a_warm_start_is_never_worse(make_policy: Any, frames: Callable[..., dict[str, np.ndarray]]) -> None:
    policy = make_policy()
    rng = np.random.default_rng(1)
    for seed in range(5):
        obs = frames(policy, seed)
        cold = policy.act(obs, iterations=0)
        solved = policy.act(obs, iterations=16)
        good = policy.act(obs, warm_start=solved.actions, iterations=0)
        assert good.final_cost == pytest.approx(solved.final_cost, rel=1e-4)
        anything = rng.uniform(-2, 2, policy.net.shape)
        assert policy.act(obs, warm_start=anything, iterations=0).final_cost <= cold.final_cost


@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("compile", marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize("samples", [1, 3])
def test_prepared_plans_are_the_same(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], backend: str, samples: int
) -> None:
    if backend == "compile" and samples == 3:
        pytest.skip("compiled once is enough, it takes half a minute")
    policy = make_policy(latent_samples=samples)
    plain = [policy.act(frames(policy, seed)) for seed in range(3)]
    warm = policy.act(frames(policy, 0), warm_start=plain[1].actions)
    policy.prepare(backend)
    for seed, expected in enumerate(plain):
        found = policy.act(frames(policy, seed))
        assert np.allclose(found.actions, expected.actions, atol=1e-3) and found.iterations > 0
        assert found.final_cost == pytest.approx(expected.final_cost, rel=1e-3)
    assert policy.act(frames(policy, 0), iterations=0).iterations == 0, "the base, not the prepared solve"
    again = policy.act(frames(policy, 0), warm_start=plain[1].actions)
    assert again.final_cost == pytest.approx(warm.final_cost, rel=1e-3)
    assert policy.act(frames(policy, 0), deadline_ms=1e-3).status == Status.DEADLINE.name
    policy.prepare("none")
    assert np.array_equal(policy.act(frames(policy, 2)).actions, plain[2].actions)


def test_what_cannot_be_prepared_is_said(make_policy: Any) -> None:
    with pytest.raises(UserError, match="'bc' solves nothing"):
        make_policy(policy="bc").prepare("compile")
    with pytest.raises(UserError, match="'mppi' cannot be prepared"):
        make_policy(solver="mppi").prepare("compile")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="needs the problem on a CUDA device"):
            make_policy().prepare("cuda_graph")


def test_a_plan_does_not_depend_on_its_neighbours_in_a_batch(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]]
) -> None:
    policy = make_policy()
    singles = [frames(policy, seed) for seed in range(6)]
    together = {key: torch.from_numpy(np.stack([obs[key] for obs in singles])) for key in singles[0]}
    with torch.no_grad():
        origin = policy.net.scaler.origin(together)
        solution = policy.net.plan(policy.net.encode(together), origin)
        plans = policy.net.scaler.unscale(solution.actions, origin).numpy()
    for row, obs in enumerate(singles):
        alone = policy.act(obs)
        assert np.allclose(alone.actions, plans[row], atol=2e-4)
        assert alone.status == solution.statuses()[row].name


@pytest.mark.parametrize("mode", ["position", "velocity", "delta_position"])
@pytest.mark.parametrize("frame", ["relative", "absolute"])
def test_actions_are_inside_the_contracts_bounds(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], arm: Any, mode: str, frame: str
) -> None:
    policy = make_policy(arm.text.replace("mode: position", f"mode: {mode}"), reach=50.0, action_frame=frame)
    low, high = (np.array(bound) for bound in policy.contract.command.bounds())
    with torch.no_grad():
        policy.net.base[-1].bias.copy_(torch.tensor([-1.0, 1.0]).repeat(5))
    reached = False
    for position in (-1.99, 0.0, 1.99):
        actions = policy.act(frames(policy, position=position)).actions
        assert actions.shape == (5, 2) and actions.dtype == np.float64
        assert (actions >= low).all() and (actions <= high).all()
        reached |= bool((np.isclose(actions, low) | np.isclose(actions, high)).any())
    assert reached, "the test is meant to reach the bounds"


def test_relative_actions_move_with_the_arm_and_absolute_ones_do_not(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]]
) -> None:
    for frame, expected in (("relative", 0.5), ("absolute", 0.0)):
        policy = make_policy(action_frame=frame)
        obs = frames(policy, position=0.1)
        moved = {**obs, "joints": obs["joints"] + np.float32(0.5)}
        policy.net.normaliser.get_buffer("scale_joints").fill_(1e9)  # the networks see no difference
        change = policy.act(moved, iterations=0).actions - policy.act(obs, iterations=0).actions
        assert np.allclose(change, expected, atol=1e-5)


def test_velocity_commands_are_never_offsets(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], arm: Any
) -> None:
    policy = make_policy(arm.text.replace("mode: position", "mode: velocity"), action_frame="relative")
    obs = {key: torch.from_numpy(frame)[None] for key, frame in frames(policy).items()}
    assert float(policy.net.scaler.origin(obs).abs().max()) == 0


def test_a_joint_that_never_moved_stays(make_policy: Any, frames: Callable[..., dict[str, np.ndarray]]) -> None:
    policy = make_policy(action_frame="absolute")
    low, high = np.full(policy.net.shape, -0.3), np.full(policy.net.shape, 0.3)
    low[:, 1] = high[:, 1] = 0.25  # the elbow was always commanded to 0.25
    policy.net.scaler.fit(low, high)
    actions = policy.act(frames(policy)).actions
    assert np.isfinite(actions).all()
    assert np.abs(actions[:, 1] - 0.25).max() <= 0.005 * 4.0 + 1e-6  # half of 1 % of its range of 4 rad
    assert np.abs(np.diff(actions[:, 0])).max() > 0


def test_status_and_times_are_told(make_policy: Any, frames: Callable[..., dict[str, np.ndarray]]) -> None:
    policy = make_policy()
    assert policy.warm_up() > 0
    output = policy.act(frames(policy), deadline_ms=1000.0)
    assert output.message == Status[output.status].sentence
    assert output.encode_ms > 0 and output.solve_ms > 0 and output.final_cost < output.initial_cost
    late = policy.act(frames(policy), deadline_ms=1e-3)
    assert late.status == "DEADLINE" and late.iterations == 0 and np.isfinite(late.actions).all()


def test_bc_is_the_base_and_says_so(make_policy: Any, frames: Callable[..., dict[str, np.ndarray]]) -> None:
    policy = make_policy(policy="bc")
    obs = frames(policy)
    output = policy.act(obs, warm_start=np.zeros(policy.net.shape))
    assert (output.status, output.iterations) == ("CONVERGED", 0)
    assert np.array_equal(output.actions, policy.act(obs).actions)
    assert not hasattr(policy.net, "cost")


def test_pictures_work_like_clouds(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], arm: Any, tmp_path: Path
) -> None:
    policy = make_policy(arm.with_picture)
    obs = frames(policy)
    other = load_policy(policy.save(tmp_path))
    assert np.array_equal(policy.act(obs).actions, other.act(obs).actions)
    brighter = {**obs, "picture": 255 - obs["picture"]}
    assert not np.array_equal(policy.act(brighter).actions, policy.act(obs).actions)
