"""Interventions in the data: which steps are learned from, how often, and the whole job with --corrections."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import parse_contract
from difftop_ros.data import EpisodeDataset, ingest
from difftop_ros.data.episodes.windows import WindowDataset
from difftop_ros.errors import UserError
from difftop_ros.learning.imitation.batches import Passes, RandomBatches
from difftop_ros.learning.imitation.corrections import summary, teaching
from difftop_ros.learning.progress import Progress
from difftop_ros.learning.run import TrainingJob, run_training
from difftop_ros.learning.settings import TrainingError


@pytest.fixture
def mixed(arm: Any, tmp_path: Path) -> tuple[EpisodeDataset, list[Path]]:
    """Three demonstrations, a correction at steps 6 to 9, a policy's run without any; and the bags of these two."""
    corrections = [
        arm.write_episode(tmp_path / "runs" / "a", 7, flag={6: True, 10: False}),
        arm.write_episode(tmp_path / "runs" / "b", 8, flag={0: False}),
    ]
    ingest([*sorted(arm.bags.iterdir()), *corrections], parse_contract(arm.text), tmp_path / "dataset")
    return EpisodeDataset(tmp_path / "dataset"), corrections


def test_what_a_policy_did_by_itself_teaches_nothing(mixed: tuple[EpisodeDataset, list[Path]]) -> None:
    episodes, corrections = mixed
    shown, corrected = teaching(episodes, corrections)
    np.testing.assert_array_equal(shown, np.arange(72))
    np.testing.assert_array_equal(corrected, 72 + np.arange(6, 10))
    shown, corrected = teaching(episodes)
    assert len(shown) == 96 and len(corrected) == 4, "an episode without interventions is a demonstration elsewhere"
    said = summary(episodes, corrections)
    assert "1 interventions with 4 steps" in said and "nobody took over in 1 episodes" in said and "b-" in said


def test_corrections_have_their_share_of_every_batch(mixed: tuple[EpisodeDataset, list[Path]]) -> None:
    episodes, corrections = mixed
    shown, corrected = teaching(episodes, corrections)
    windows = WindowDataset(episodes, 1, 4)
    batches = RandomBatches(windows, shown, 12, 0, 0, corrected, share=0.25)
    drawn = [np.concatenate([part.at(step) for part in batches._parts]) for step in range(40)]
    few = np.array([np.isin(steps, corrected).sum() for steps in drawn])
    assert (few == 3).all() and all(len(steps) == 12 for steps in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=120)
    assert counts[corrected].min() >= 25, "each of the four again and again"
    assert counts[shown].min() >= 4
    later = RandomBatches(windows, shown, 12, 0, 17, corrected, share=0.25)
    here, there = (next(iter(source)) for source in (later, _skipped(windows, shown, corrected, 17)))
    np.testing.assert_array_equal(here["action"], there["action"])
    alone = RandomBatches(windows, np.zeros(0, np.int64), 12, 0, 0, corrected)
    assert alone.batch == 4, "corrections alone"
    np.testing.assert_array_equal(np.sort(Passes(corrected, 4, 0).at(3)), corrected)


def _skipped(windows: WindowDataset, shown: np.ndarray, corrected: np.ndarray, steps: int) -> Any:
    source = iter(RandomBatches(windows, shown, 12, 0, 0, corrected, share=0.25))
    for _ in range(steps):
        next(source)
    return source


def test_the_whole_job_with_corrections(arm: Any, small: Any, tmp_path: Path) -> None:
    correction = arm.write_episode(tmp_path / "runs" / "a", 7, flag={6: True, 10: False})
    job = TrainingJob(
        (arm.bags,), parse_contract(arm.text), tmp_path / "model", small(steps=6), corrections=(tmp_path / "runs",),
        dataset=tmp_path / "dataset", device="cpu",
    )  # fmt: skip
    told: list[Progress] = []
    run_training(job, told.append)
    assert any("4 episodes, 96 steps; 1 interventions with 4 steps, in" in p.message for p in told)
    again = dataclasses.replace(job, corrections=(), bags=(arm.bags, correction))
    run_training(again, told.append)  # the same data, named otherwise: it goes on, and is done
    other = dataclasses.replace(job, corrections=())
    with pytest.raises(TrainingError, match="other episodes"):
        run_training(other)
    idle = arm.write_episode(tmp_path / "idle" / "a", 8)
    lone = dataclasses.replace(job, bags=(idle,), corrections=(idle,), dataset=tmp_path / "d", out=tmp_path / "m")
    with pytest.raises(TrainingError, match="nobody took over"):
        run_training(lone)
    with pytest.raises(UserError, match="without bags"):
        dataclasses.replace(job, bags=(), dataset=tmp_path / "dataset")
    with pytest.raises(UserError, match="do not exist"):
        dataclasses.replace(job, corrections=(tmp_path / "nowhere",))
