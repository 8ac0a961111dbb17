"""Dense rewards: finite, rising along the expert's way, higher at success than at the start."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy.stats import spearmanr

from difftop_ros.sim import make_expert, make_world

METAWORLD = ["metaworld/push-v3", "metaworld/reach-v3", "metaworld/drawer-open-v3"]


@pytest.mark.parametrize("task", ["reach", "push", "lift", *METAWORLD])
def test_the_reward_rises_along_the_expert_s_path(task: str) -> None:
    if "/" in task and importlib.util.find_spec("metaworld") is None:
        pytest.skip("the extra [metaworld] is not installed")
    world = make_world(task)
    expert = make_expert(world)
    for seed in range(3):
        world.reset(seed)
        rewards = [world.reward()]
        while not world.success() and world.time < world.task.max_seconds:
            world.step(expert.act(), expert.step_s)
            rewards.append(world.reward())
        assert world.success() and np.isfinite(rewards).all()
        assert rewards[-1] > rewards[0]
        assert spearmanr(np.arange(len(rewards)), rewards).statistic > 0.8, (seed, rewards)


@pytest.mark.parametrize("task", ["reach", "push", "lift"])
def test_progress_is_between_0_and_1_and_an_arm_that_stays_earns_no_bonus(task: str) -> None:
    world = make_world(task)
    for seed in range(5):
        world.reset(seed)
        still = world.joint_state()[0]
        for _ in range(10):
            world.step(still, 0.05)
            assert 0 <= world.reward() < 1


def test_no_task_no_reward() -> None:
    assert make_world("none").reward() == 0.0
