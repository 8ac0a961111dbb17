"""Tasks of dm_control as environments: gymnasium's own checks, starts by seed, action repeat, pictures, near names."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("dm_control", reason="the extra [dmcontrol] is not installed")

from gymnasium.utils.env_checker import check_env

from difftop_ros.sim.control_suite import ControlSuiteEnv, names
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.gl import choose_backend


@pytest.mark.parametrize("name", ["cartpole-swingup", "cup-catch", "finger-spin", "reacher-easy"])
def test_gymnasium_finds_nothing_wrong(name: str) -> None:
    env = ControlSuiteEnv(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(-inf|inf|unwrapped|spec).*")
        check_env(env, skip_render_check=True, skip_close_check=True)
    env.close()


def test_the_same_seed_and_actions_give_the_same_episode() -> None:
    env, random = ControlSuiteEnv("reacher-easy"), np.random.default_rng(0)
    actions = random.uniform(-1, 1, (20, 2))

    def episode(seed: int) -> np.ndarray:
        frames = [env.reset(seed=seed)[0]["state"]]
        return np.stack(frames + [env.step(action)[0]["state"] for action in actions])

    first, other = episode(3), episode(4)
    np.testing.assert_array_equal(first, episode(3))
    assert not np.allclose(first[0], other[0])
    env.close()


def test_an_action_is_held_and_its_reward_is_the_mean() -> None:
    held, plain = ControlSuiteEnv("cartpole-swingup"), ControlSuiteEnv("cartpole-swingup", action_repeat=1)
    assert held.action_repeat == 8
    for env in (held, plain):
        env.reset(seed=5)
    for value in (1.0, -0.3):
        seen, reward, _, _, info = held.step(np.array([value]))
        rewards = [plain.step(np.array([value]))[1] for _ in range(8)]
        assert reward == pytest.approx(np.mean(rewards))
    np.testing.assert_array_equal(
        seen["state"], plain._observation(plain._env.task.get_observation(plain._env.physics))["state"]
    )
    steps, truncated, total = 2, False, info["return"]
    while not truncated:
        _, reward, terminated, truncated, info = held.step(np.zeros(1))
        steps, total = steps + 1, total + 8 * reward
        assert not terminated
    assert steps == 125 and info["return"] == pytest.approx(total)
    held.close()
    plain.close()


def test_pictures_are_three_in_a_row() -> None:
    try:
        choose_backend()
    except SimError as error:
        pytest.skip(str(error))
    env = ControlSuiteEnv("cartpole-swingup", pixels=True)
    first = env.reset(seed=0)[0]["pixels"]
    assert first.shape == (84, 84, 9) and first.dtype == np.uint8 and first.std() > 5
    np.testing.assert_array_equal(first[..., :3], first[..., 6:])
    second = env.step(np.ones(1))[0]["pixels"]
    np.testing.assert_array_equal(second[..., 3:6], first[..., 6:])
    assert (second[..., 6:] != second[..., 3:6]).any()
    env.close()


def test_a_task_there_is_not_is_refused_with_near_ones() -> None:
    assert "ball_in_cup-catch" in names() and "walker-walk" in names()
    with pytest.raises(SimError, match=r"no task 'walker-wark'; did you mean walker-walk"):
        ControlSuiteEnv("walker-wark")
    env = ControlSuiteEnv("pendulum-swingup")
    env.reset(seed=0)
    with pytest.raises(SimError, match="not finite"):
        env.step(np.array([np.nan]))
    env.close()
