"""Training on a few recorded demonstrations: they are learned, the folder is whole, bad data and settings refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
import zarr

from difftop_ros.contract import parse_contract
from difftop_ros.data import EpisodeDataset, WindowDataset, find_bags, ingest
from difftop_ros.learning.checkpoints import checkpoints
from difftop_ros.learning.imitation.batches import RandomBatches, as_tensors, fit_to, split_by_episode
from difftop_ros.learning.imitation.train import train
from difftop_ros.learning.settings import AugmentSettings, TrainingError, TrainSettings
from difftop_ros.policies import DifftopNet, PolicyError, load_policy

UNDISTURBED = AugmentSettings(joint_noise=0.0, cloud_jitter_m=0.0, cloud_drop=0.0, image_shift_px=0)


def errors(policy: Any, episodes: EpisodeDataset) -> np.ndarray:
    """|first planned action - expert's| [rad] over all steps (N, A)."""
    windows = WindowDataset(episodes, policy.obs_steps, policy.horizon)
    found = []
    for index in range(0, len(windows), 3):
        window = windows[index]
        found.append(policy.act(window["obs"]).actions[0] - window["action"][0])
    return np.abs(np.stack(found))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_three_demonstrations_are_learned_by_heart(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path, precision: str
) -> None:
    settings = small(
        steps=240, ema=0.95, lr=3e-3, augment=UNDISTURBED, batch=24, checkpoint_every=100, precision=precision
    )
    policy = train(episodes, settings, tmp_path / "model")
    assert errors(policy, episodes).mean() < 0.012  # commands move by up to 0.1 rad a step
    again = load_policy(tmp_path / "model")
    obs = WindowDataset(episodes, 1, 4)[5]["obs"]
    assert np.array_equal(again.act(obs).actions, policy.act(obs).actions)
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files == {
        "model.safetensors",
        "config.yaml",
        "contract.yaml",
        "novelty.safetensors",
        "manifest.json",
        "training.yaml",
        "checkpoints",
        "logs",
    }
    assert [p.name for p in checkpoints(tmp_path / "model/checkpoints")] == ["step=200.ckpt", "step=240.ckpt"]
    record = yaml.safe_load((tmp_path / "model/training.yaml").read_text())
    assert record["steps"] == 240 and record["policy"]["horizon"] == 4
    assert record["contract"] == episodes.contract.sha256


def test_pictures_train_too(arm: Any, small: Callable[..., TrainSettings], tmp_path: Path) -> None:
    ingest(find_bags([arm.bags]), parse_contract(arm.with_picture), tmp_path / "dataset")
    settings = small(steps=3, policy={"policy": "bc"})
    policy = train(EpisodeDataset(tmp_path / "dataset"), settings, tmp_path / "model")
    assert policy.config.policy == "bc" and load_policy(tmp_path / "model").contract == parse_contract(arm.with_picture)


@pytest.mark.parametrize("name", ["bc_rnn", "ibc", "diffusion", "residual"])
def test_every_policy_trains_by_the_same_loop(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path, name: str
) -> None:
    settings = small(steps=4, ema=0.5, checkpoint_every=2, policy={"policy": name, "obs_steps": 2})
    policy = train(episodes, settings, tmp_path / "model")
    obs = WindowDataset(episodes, 2, 4)[5]["obs"]
    assert np.array_equal(load_policy(tmp_path / "model").act(obs).actions, policy.act(obs).actions)
    steps = [torch.load(path, weights_only=True) for path in checkpoints(tmp_path / "model/checkpoints")]
    weights = policy.net.state_dict()
    averaged = [all(torch.equal(s["state_dict"][f"net.{key}"], weights[key]) for key in weights) for s in steps]
    raw = [s["current_model_state"] for s in steps]
    assert averaged == [False, True], "the folder has the averaged weights of the last step"
    assert any(not torch.equal(raw[-1][f"net.{key}"], weights[key]) for key in weights), "which are not the newest"


def test_a_frozen_base_comes_from_a_folder(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    base = train(episodes, small(steps=4, policy={"policy": "bc"}), tmp_path / "bc")
    borrowed = {"base_from": str(tmp_path / "bc"), "base_training": "frozen"}
    policy = train(episodes, small(steps=4, policy=borrowed), tmp_path / "model")
    obs = WindowDataset(episodes, 1, 4)[5]["obs"]
    assert np.allclose(policy.act(obs, iterations=0).actions, base.act(obs).actions, atol=1e-6)
    with pytest.raises(PolicyError, match="lacks"):
        train(episodes, small(steps=4, policy={"base_from": str(tmp_path / "nowhere")}), tmp_path / "other")


@pytest.mark.parametrize("key", ["action", "joints", "cloud"])
def test_data_that_is_not_finite_is_refused(
    dataset_folder: Path, small: Callable[..., TrainSettings], tmp_path: Path, key: str
) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset_folder, folder)
    episode = sorted(folder.glob("bags/*/part_000"))[1]
    zarr.open_array(str(episode / key), mode="r+")[7] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        train(EpisodeDataset(folder), small(steps=2), tmp_path / "model")
    assert not (tmp_path / "model/model.safetensors").exists()


def test_a_plan_longer_than_every_episode_is_refused(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"horizon is 40 but the longest episode .* has \d+ steps"):
        train(episodes, small(steps=2, policy={"horizon": 40}), tmp_path / "model")


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_its_checkpoint(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = DifftopNet.loss, iter(range(100))

    def poisoned(net: Any, *data: Any) -> Any:
        loss = real(net, *data)
        return loss if next(calls) < 7 else replace(loss, total=loss.total * float("nan"))

    settings = small(steps=10, checkpoint_every=5, threads=1)  # choosing their number asks for losses too
    with monkeypatch.context() as patch:
        patch.setattr(DifftopNet, "loss", poisoned)
        with pytest.raises(TrainingError, match="the loss is nan at step 8; try a lower lr"):
            train(episodes, settings, tmp_path)
    assert [p.name for p in checkpoints(tmp_path / "checkpoints")] == ["step=5.ckpt"]
    assert not (tmp_path / "model.safetensors").exists()
    train(episodes, settings, tmp_path)


MOVED = {
    "turned": ({"turn_joint": "shoulder", "turn_rad": 0.5}, {"turn_joint": "hip"}, [0.5, 0.0]),
    "shifted": ({"shift_joints": "elbow", "shift_m": 0.2}, {"shift_joints": "elbow,hip"}, [0.0, 0.2]),
}


@pytest.mark.parametrize(("moving", "wrong", "reach"), MOVED.values(), ids=MOVED)
def test_scenes_may_be_moved_with_joints_that_are_there(
    moving: Any, wrong: Any, reach: Any, episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    still, moved = (
        train(episodes, small(steps=2, augment=AugmentSettings(**augment)), tmp_path / name)
        for name, augment in (("still", {}), ("moved", moving))
    )
    pairs = zip(still.net.parameters(), moved.net.parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in pairs)
    net = DifftopNet(episodes.contract, small(policy={"action_frame": "absolute"}).policy)
    half = []
    for augment in (None, AugmentSettings(**moving)):
        fit_to(net, episodes, augment)
        half.append(net.scaler.get_buffer("half_range").clone())
    wider = 1.1 * torch.tensor(reach)
    assert torch.allclose(half[1] - half[0], wider.expand_as(half[0]), atol=1e-6), "moved commands fit as well"
    unknown = AugmentSettings(**{**moving, **wrong})
    with pytest.raises(TrainingError, match=r"'hip'; expected one of .*'shoulder', 'elbow'"):
        train(episodes, small(steps=2, augment=unknown), tmp_path / "other")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match="'cuda' was asked for"):
        train(episodes, small(steps=2), tmp_path / "model", device="cuda")
    assert not (tmp_path / "model").exists()


def test_whole_episodes_are_held_out() -> None:
    lengths = [5, 9, 3, 7, 4, 6, 8, 2, 5, 6]
    episodes = [SimpleNamespace(steps=n) for n in lengths]
    training, validation = split_by_episode(episodes, 0.2, seed=3)  # type: ignore[arg-type]
    owner = np.repeat(np.arange(10), lengths)
    assert set(owner[training]).isdisjoint(owner[validation]) and len(set(owner[validation])) == 2
    assert sorted([*training, *validation]) == list(range(sum(lengths)))
    other = split_by_episode(episodes, 0.2, seed=4)  # type: ignore[arg-type]
    assert not np.array_equal(other[1], validation)
    few = split_by_episode(episodes[:4], 0.2, seed=3)  # type: ignore[arg-type]
    assert few[1].size == 0, "too few episodes to hold any out"


def test_held_out_episodes_are_measured(arm: Any, small: Callable[..., TrainSettings], tmp_path: Path) -> None:
    for seed in range(5):
        arm.write_episode(tmp_path / "bags" / str(seed), seed, steps=8)
    ingest(find_bags([tmp_path / "bags"]), parse_contract(arm.text), tmp_path / "dataset")
    train(EpisodeDataset(tmp_path / "dataset"), small(steps=4, validation=0.2, checkpoint_every=2), tmp_path / "model")
    (log,) = (tmp_path / "model/logs").glob("from_step_*/metrics.csv")
    assert "valid/plan_mse" in log.read_text() and "valid/base_mse" in log.read_text()


class Numbered:
    """Windows whose content is their index."""

    def batch(self, indices: np.ndarray) -> dict:
        return {"obs": {}, "action": np.array(indices), "mask": np.ones(len(indices), bool)}


def drawn(seed: int, first: int, count: int) -> list[list[int]]:
    batches = iter(RandomBatches(Numbered(), np.arange(20), 6, seed, first))  # type: ignore[arg-type]
    return [next(batches)["action"].tolist() for _ in range(count)]


def test_the_order_of_batches_depends_on_seed_and_step_alone() -> None:
    whole = drawn(1, 0, 9)
    for first in (1, 3, 7):
        assert drawn(1, first, 9 - first) == whole[first:]
    assert drawn(2, 0, 9) != whole
    for start in (0, 3, 6):  # three batches of six are a pass over twenty windows, less a remainder
        assert len({index for batch in whole[start : start + 3] for index in batch}) == 18


def test_scaled_demonstrations_fill_the_box_without_touching_it(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings]
) -> None:
    net = DifftopNet(episodes.contract, small().policy)
    fit_to(net, episodes)
    windows = WindowDataset(episodes, 1, 4)
    batch = as_tensors(windows.batch(np.arange(len(windows))))
    scaled = net.scaler.scale(batch["action"], net.scaler.origin(batch["obs"]))
    assert float(scaled.abs().amax((0, 1)).min()) > 0.85 and float(scaled.abs().max()) < 0.95
    normal = net.normaliser(batch["obs"])
    assert normal["joints"].mean((0, 1)).abs().max() < 1e-3
    assert float(normal["cloud"].std()) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": 1.5}, {"ema": 1.0}, {"seed": -1}, {"threads": -1},
     {"checkpoint_every": 0}, {"validation": 1.0}],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be(options: Any) -> None:
    with pytest.raises(TrainingError, match=next(iter(options))):
        TrainSettings(**options)
