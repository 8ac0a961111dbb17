"""A contract's task as a gymnasium environment: gymnasium's own checks, spaces, rewards, ends of episodes, seeds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the extra [sim] is not installed")

from gymnasium.utils.env_checker import check_env

from difftop_ros.contract import Contract, load_contract
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError
from difftop_ros.paths import share_path
from difftop_ros.sim import make_expert
from difftop_ros.sim.env import ContractEnv


def contract_of(name: str) -> Contract:
    return load_contract(share_path(f"config/{name}.yaml"))


def joints_alone(max_seconds: float = 8.0) -> Contract:
    contract = contract_of("panda_table")
    return contract.model_copy(
        update={
            "observations": {"joints": contract.observations["joints"]},
            "episode": contract.episode.model_copy(update={"max_seconds": max_seconds}),
        }
    )


@pytest.fixture
def reach() -> Iterator[ContractEnv]:
    env = ContractEnv(joints_alone(), "reach")
    yield env
    env.close()


@pytest.mark.parametrize(
    ("name", "task"),
    [("panda_table", "lift"), ("panda_table_image", "push"), ("metaworld_cloud", None), ("metaworld_image", None)],
)
def test_gymnasium_finds_nothing_wrong(name: str, task: str | None) -> None:
    if name.startswith("metaworld"):
        pytest.importorskip("metaworld", reason="the extra [metaworld] is not installed")
    env = ContractEnv(contract_of(name), task, render_mode="rgb_array")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*(normalized|-inf|inf|unwrapped|spec).*")
            check_env(env, skip_close_check=True)
    finally:
        env.close()


def test_spaces_are_the_contract_s() -> None:
    env = ContractEnv(contract_of("panda_table"), "lift")
    try:
        frames, _ = env.reset(seed=1)
        assert set(frames) == set(env.contract.observations)
        assert frames["cloud"].dtype == np.float32 and env.observation_space["cloud"].shape == frames["cloud"].shape
        low, high = env.contract.command.bounds()
        np.testing.assert_allclose(env.action_space.low, low, rtol=1e-6)
        np.testing.assert_allclose(env.action_space.high, high, rtol=1e-6)
    finally:
        env.close()


def test_the_expert_ends_an_episode_by_success_with_a_higher_reward(reach: ContractEnv) -> None:
    reach.reset(seed=3)
    expert, rewards, done = make_expert(reach.robot.world), [reach.robot.world.reward()], False
    while not done:
        frames, reward, done, truncated, info = reach.step(expert.act())
        rewards.append(reward)
        assert not truncated and info["seed"] == 3
    assert info["success"] and rewards[-1] > rewards[0] + 1
    assert frames["joints"].shape == reach.observation_space["joints"].shape


def test_an_arm_that_stays_is_truncated_at_the_contract_s_time() -> None:
    env = ContractEnv(joints_alone(max_seconds=0.5), "reach")
    try:
        env.reset(seed=0)
        still = env.robot.world.joint_state()[0].astype(np.float32)
        ends = [env.step(still)[2:4] for _ in range(round(0.5 * env.contract.rate_hz))]
        assert ends[:-1] == [(False, False)] * (len(ends) - 1) and ends[-1] == (False, True)
    finally:
        env.close()


def test_seeds_are_the_world_s_and_those_drawn_repeat(reach: ContractEnv) -> None:
    first, _ = reach.reset(seed=7)
    drawn = [reach.reset()[1]["seed"] for _ in range(3)]
    again, _ = reach.reset(seed=7)
    np.testing.assert_array_equal(first["joints"], again["joints"])
    assert drawn == [reach.reset()[1]["seed"] for _ in range(3)] and len(set(drawn)) == 3
    reach.robot.reset(7)
    np.testing.assert_array_equal(first["joints"], reach.robot.observe()["joints"])


def test_actions_beyond_the_bounds_count_as_the_end(reach: ContractEnv) -> None:
    results = []
    for factor in (1.0, 3.0):
        reach.reset(seed=0)
        results.append(reach.step(np.where(reach.action_space.high > 0, reach.action_space.high * factor, 0.0))[0])
    np.testing.assert_array_equal(results[0]["joints"], results[1]["joints"])


def test_an_observation_that_cannot_be_made_cuts_the_episode_short(
    reach: ContractEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = reach.reset(seed=0)

    def blind() -> dict[str, np.ndarray]:
        raise ObservationError("the cloud is empty")

    monkeypatch.setattr(reach.robot, "observe", blind)
    frames, _, terminated, truncated, info = reach.step(reach.action_space.low)
    assert truncated and not terminated and info["note"] == "the cloud is empty"
    np.testing.assert_array_equal(frames["joints"], before["joints"])


def test_a_camera_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"camera is 'roof'.*'front'"):
        ContractEnv(joints_alone(), "reach", camera="roof", render_mode="rgb_array")
