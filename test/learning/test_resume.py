"""A run that was stopped, killed or ended goes on as if nothing had been; another run's folder is refused."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from difftop_ros.contract import parse_contract
from difftop_ros.data import EpisodeDataset, find_bags, ingest
from difftop_ros.learning.checkpoints import checkpoints
from difftop_ros.learning.imitation.train import train, training_seconds
from difftop_ros.learning.progress import Progress, Stopped
from difftop_ros.learning.report import plot_losses
from difftop_ros.learning.settings import RECORD, TrainingError
from difftop_ros.policies.policy import WEIGHTS


def after(steps: int) -> Callable[[], bool]:
    """A Stop that turns true after so many steps."""
    asked = iter([False] * (steps - 1))
    return lambda: next(asked, True)


def kept(out: Path) -> list[str]:
    return [path.stem for path in checkpoints(out / "checkpoints")]


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=0, atol=1e-6), name


@pytest.fixture
def thirty(small: Any) -> Any:
    """Settings of a run of thirty steps with a moving average."""
    return small(steps=30, checkpoint_every=12, ema=0.9)


@pytest.fixture(scope="module")
def in_one_go(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """in_one_go(settings): folder of that run, never stopped, made once; not to be written into."""
    folder = tmp_path_factory.mktemp("runs")

    def run(settings: Any) -> Path:
        if not (folder / WEIGHTS).exists():
            train(EpisodeDataset(dataset_folder), settings, folder)
        return folder

    return run


def test_stopping_and_going_on_is_the_same_run(
    episodes: EpisodeDataset, thirty: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(Stopped, match="after step 15 of 30"):
        train(episodes, thirty, tmp_path, stop=after(15))
    assert not (tmp_path / WEIGHTS).exists() and kept(tmp_path) == ["step=12", "step=15"]
    first_part = training_seconds(tmp_path)
    told: list[Progress] = []
    train(episodes, thirty, tmp_path, report=told.append)
    assert "windows to learn from" in told[0].message and told[0].step == 15
    assert told[1].message == "going on from step 15" and told[-1].step == 30
    assert kept(tmp_path) == ["step=24", "step=30"]
    assert_same_weights(in_one_go(thirty), tmp_path)
    assert training_seconds(tmp_path) > first_part > 0


def test_a_signal_right_behind_a_step_keeps_that_step(
    episodes: EpisodeDataset, thirty: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    """SIGTERM after `stop()` was asked: Lightning leaves before the next step, in which it would be asked again."""
    asked = iter(range(1, 31))

    def stop() -> bool:
        if next(asked) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as `difftop train` has a handler of its own
    try:
        with pytest.raises(Stopped, match="after step 5 of 30"):
            train(episodes, thirty, tmp_path, stop=stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert kept(tmp_path) == ["step=5"]
    train(episodes, thirty, tmp_path)
    assert_same_weights(in_one_go(thirty), tmp_path)


def test_a_run_killed_between_checkpoints_is_the_same_run(
    episodes: EpisodeDataset, thirty: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    def crash(progress: Progress) -> None:
        if progress.step >= 1:
            raise MemoryError("as good as a power cut")

    with pytest.raises(Stopped):
        train(episodes, thirty, tmp_path, stop=after(12))
    with pytest.raises(MemoryError):
        train(episodes, thirty, tmp_path, report=crash)
    assert kept(tmp_path) == ["step=12"]
    train(episodes, thirty, tmp_path)
    assert_same_weights(in_one_go(thirty), tmp_path)


def test_a_complete_run_is_taken_as_it_is(
    episodes: EpisodeDataset, thirty: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(in_one_go(thirty), tmp_path / "copy")
    (tmp_path / "copy" / WEIGHTS).unlink()
    told: list[Progress] = []
    train(episodes, thirty, tmp_path / "copy", report=told.append)
    assert not told, "nothing was to be trained"
    assert_same_weights(in_one_go(thirty), tmp_path / "copy")


def test_a_run_goes_on_with_more_steps_under_their_schedule(
    episodes: EpisodeDataset, thirty: Any, small: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(in_one_go(thirty), tmp_path / "more")
    longer = small(steps=45, checkpoint_every=5, ema=0.9)
    train(episodes, longer, tmp_path / "more")
    train(episodes, longer, tmp_path / "whole", stop=lambda: False)
    rates = []
    for name in ("more", "whole"):
        state = torch.load(tmp_path / name / "checkpoints/step=45.ckpt", weights_only=True)
        rates.append(state["optimizer_states"][0]["param_groups"][0]["lr"])
    assert rates[0] == pytest.approx(rates[1]) and rates[0] < 1e-6
    with pytest.raises(TrainingError, match="has gone 45 steps already, more than the 30 asked"):
        train(episodes, thirty, tmp_path / "more")


@pytest.mark.parametrize("steps", [1, 2, 19])
def test_any_number_of_steps_has_a_schedule(episodes: EpisodeDataset, small: Any, tmp_path: Path, steps: int) -> None:
    train(episodes, small(steps=steps, policy={"policy": "bc"}), tmp_path)
    assert kept(tmp_path) == [f"step={steps}"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(
    episodes: EpisodeDataset, thirty: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        train(episodes, thirty, tmp_path, stop=after(15))
    broken = tmp_path / "checkpoints/step=15.ckpt"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"step=15\.ckpt' cannot be read .* delete it to go on from the one before"):
        train(episodes, thirty, tmp_path)
    broken.unlink()
    train(episodes, thirty, tmp_path)
    assert_same_weights(in_one_go(thirty), tmp_path)


def test_other_settings_are_refused_and_fresh_starts_over(
    episodes: EpisodeDataset, thirty: Any, small: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(in_one_go(thirty), tmp_path / "copy")
    usual = thirty.to_dict()
    for other, says in (
        (small(steps=30, ema=0.9, lr=5e-3), f"lr was {thirty.lr}, is 0.005"),
        (small(steps=30, ema=0.9, seed=1, batch=9), f"batch was {thirty.batch}, is 9; seed was 0, is 1"),
        (small(steps=30, ema=0.9, policy={"horizon": 5}), f"policy.horizon was {usual['policy']['horizon']}, is 5"),
    ):
        with pytest.raises(TrainingError, match=re.escape(f"({says})")):
            train(episodes, other, tmp_path / "copy")
    assert_same_weights(in_one_go(thirty), tmp_path / "copy")
    policy = train(episodes, small(steps=2, policy={"horizon": 5}), tmp_path / "copy", fresh=True)
    assert policy.horizon == 5 and kept(tmp_path / "copy") == ["step=2"]
    assert len(list((tmp_path / "copy/logs").glob("from_step_*"))) == 1


def test_a_run_from_before_an_option_existed_goes_on(
    episodes: EpisodeDataset, thirty: Any, small: Any, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        train(episodes, thirty, tmp_path, stop=after(3))
    record = tmp_path / RECORD
    data = yaml.safe_load(record.read_text())
    assert data["policy"].pop("cloud_origin") == "" and data["augment"].pop("shift_m") == 0.0
    record.write_text(yaml.safe_dump(data))
    with pytest.raises(TrainingError, match=r"\(policy.cloud_origin was '', is 'a,b,c'\)"):
        train(episodes, small(steps=30, ema=0.9, policy={"cloud_origin": "a,b,c"}), tmp_path)
    with pytest.raises(Stopped):
        train(episodes, thirty, tmp_path, stop=after(3))
    assert yaml.safe_load(record.read_text())["policy"]["cloud_origin"] == ""


def test_other_data_is_refused(
    arm: Any, episodes: EpisodeDataset, thirty: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(in_one_go(thirty), tmp_path / "copy")
    for seed in (0, 7):
        arm.write_episode(tmp_path / "bags" / str(seed), seed)
    ingest(find_bags([tmp_path / "bags"]), episodes.contract, tmp_path / "other")
    with pytest.raises(TrainingError, match=r"\(other episodes\)"):
        train(EpisodeDataset(tmp_path / "other"), thirty, tmp_path / "copy")
    slower = parse_contract(arm.text.replace("velocity: 4.0", "velocity: 3.0"))
    ingest(find_bags([arm.bags]), slower, tmp_path / "slower")
    with pytest.raises(TrainingError, match=r"\(other contract\)"):
        train(EpisodeDataset(tmp_path / "slower"), thirty, tmp_path / "copy")


def test_copied_data_is_the_same_data(arm: Any, thirty: Any, episodes: EpisodeDataset, tmp_path: Path) -> None:
    shutil.copytree(arm.bags, tmp_path / "bags")  # other file times, hence other names in the dataset
    for file in (tmp_path / "bags").rglob("*.mcap"):
        file.touch()
    ingest(find_bags([tmp_path / "bags"]), episodes.contract, tmp_path / "copied")
    with pytest.raises(Stopped):
        train(episodes, thirty, tmp_path / "model", stop=after(3))
    with pytest.raises(Stopped, match="after step 4 of"):
        train(EpisodeDataset(tmp_path / "copied"), thirty, tmp_path / "model", stop=after(1))


def test_a_policy_without_its_run_is_not_overwritten(
    episodes: EpisodeDataset, thirty: Any, in_one_go: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copy(in_one_go(thirty) / WEIGHTS, tmp_path / WEIGHTS)
    with pytest.raises(TrainingError, match="holds a policy without its training"):
        train(episodes, thirty, tmp_path)
    assert_same_weights(in_one_go(thirty), tmp_path)


def test_the_losses_before_and_after_a_stop_are_drawn(episodes: EpisodeDataset, thirty: Any, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(episodes, thirty, tmp_path, stop=after(15))
    train(episodes, thirty, tmp_path)
    steps = set()
    for path in (tmp_path / "logs").glob("from_step_*/metrics.csv"):
        with path.open() as file:
            steps |= {int(row["step"]) for row in csv.DictReader(file) if row["train/plan_mse"]}
    assert {9, 29} <= steps
    picture = plot_losses(tmp_path)
    assert picture and picture.stat().st_size > 5000
    assert yaml.safe_load((tmp_path / "training.yaml").read_text())["steps"] == 30
