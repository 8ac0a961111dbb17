"""Novelty comes with training, and can be had for a policy from before; of another contract's dataset it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.cli import main
from difftop_ros.contract import Contract
from difftop_ros.data import EpisodeDataset, WindowDataset
from difftop_ros.learning.imitation.train import train
from difftop_ros.learning.settings import TrainSettings
from difftop_ros.manifest import sign
from difftop_ros.policies import load_policy
from difftop_ros.policies.policy import CONTRACT, NOVELTY


@pytest.fixture
def folder(episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path) -> Path:
    train(episodes, small(steps=2, policy={"obs_steps": 2}), tmp_path / "model")
    return tmp_path / "model"


def test_a_trained_policy_tells_its_demonstrations_from_others(folder: Path, episodes: EpisodeDataset) -> None:
    policy = load_policy(folder)
    windows = WindowDataset(episodes, 2, policy.horizon)
    obs = [windows[index]["obs"] for index in range(0, len(windows), 4)]
    assert all(policy.act(frames).novelty < 1 for frames in obs)
    for frames in obs:
        nothing = {**frames, "cloud": frames["cloud"] * np.float32(0)}
        result = policy.act(nothing)
        assert result.novelty > 1.5 and result.novelty_of.startswith("cloud")
        past = {**frames, "cloud": np.stack([nothing["cloud"][0], frames["cloud"][1]])}
        assert policy.act(past).novelty < 1, "the older frame was judged when it was new"


def test_a_plan_that_costs_more_than_trainings_is_novel(
    folder: Path, episodes: EpisodeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy(folder)
    obs = WindowDataset(episodes, 2, policy.horizon)[9]["obs"]
    usual, solve = policy.act(obs), policy.net.plan

    def dear(*words: Any, **named: Any) -> Any:
        solution = solve(*words, **named)
        return replace(solution, final_cost=solution.final_cost + 100)

    monkeypatch.setattr(policy.net, "plan", dear)
    found = policy.act(obs)
    assert found.novelty > 4 > 1 > usual.novelty and found.novelty_of == "plan cost"
    assert policy.act(obs, iterations=0).novelty == usual.novelty, "no solve of training's"


def test_a_policy_from_before_is_calibrated(
    folder: Path, dataset_folder: Path, episodes: EpisodeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    obs = WindowDataset(episodes, 2, 4)[9]["obs"]
    trained = load_policy(folder).act(obs)
    (folder / NOVELTY).unlink()
    sign(folder)
    unknown = load_policy(folder).act(obs)
    assert (unknown.novelty, unknown.novelty_of) == (-1.0, "")
    assert main(["model", "calibrate", str(folder), "--dataset", str(dataset_folder)]) == 0
    assert f"novelty from 3 episodes, {episodes.steps} steps" in capsys.readouterr().out
    calibrated = load_policy(folder).act(obs)
    assert (calibrated.novelty, calibrated.novelty_of) == (trained.novelty, trained.novelty_of)


def test_another_contracts_dataset_is_refused(
    folder: Path, dataset_folder: Path, arm_contract: Contract, capsys: pytest.CaptureFixture[str]
) -> None:
    other = arm_contract.to_yaml().replace("rate_hz: 20.0", "rate_hz: 10.0")
    (folder / CONTRACT).write_text(other)
    sign(folder)
    before = (folder / NOVELTY).read_bytes()
    assert main(["model", "calibrate", str(folder), "--dataset", str(dataset_folder)]) == 2
    assert "was made under contract" in capsys.readouterr().err
    assert (folder / NOVELTY).read_bytes() == before


def test_an_untrained_policy_in_its_place_takes_the_old_one_away(folder: Path) -> None:
    policy = load_policy(folder)
    policy.novelty = None
    assert load_policy(policy.save(folder)).novelty is None
