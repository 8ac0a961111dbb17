"""The whole job, bags to card, as the command line and the trainer node run it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from difftop_ros.contract import parse_contract
from difftop_ros.data.errors import BagError, DatasetError
from difftop_ros.errors import UserError
from difftop_ros.learning.evaluate import Evaluation, Outcome
from difftop_ros.learning.progress import Progress, Stopped
from difftop_ros.learning.report import write_card
from difftop_ros.learning.run import TrainingJob, prepare_dataset, run_training
from difftop_ros.learning.threads import choose_threads


@pytest.fixture
def job(arm: Any, small: Any, tmp_path: Path) -> TrainingJob:
    settings = small(steps=12, checkpoint_every=5)
    return TrainingJob(
        (arm.bags,), parse_contract(arm.text), tmp_path / "model", settings, dataset=tmp_path / "dataset", device="cpu",
        made_by="difftop train --some options",
    )  # fmt: skip


def test_bags_become_a_model_with_its_card(job: TrainingJob) -> None:
    told: list[Progress] = []
    policy, evaluations = run_training(job, told.append)
    assert policy.horizon == 4 and evaluations == [], "a contract without a simulation is not evaluated"
    assert list(dict.fromkeys(p.stage for p in told)) == ["ingest", "train", "done"]
    assert told[0].message == "episode_0: ingested, 24 steps" and told[3].message.startswith("3 episodes, 72 steps, in")
    training = [p for p in told if p.stage == "train"]
    assert training[-1].step == training[-1].total_steps == 12 and training[-1].metrics["train/plan_mse"] > 0
    assert training[-1].epoch == 3, "72 windows in batches of 16 are seen in 4 steps"
    card = (job.out / "README.md").read_text()
    for words in ("small_arm", "3 episodes, 72 steps", "12 of batch 16", "`difftop train --some options`", "loss.png"):
        assert words in card
    assert (job.out / "loss.png").stat().st_size > 5000


def test_episodes_shorter_than_a_plan_are_used_and_counted(
    arm: Any, job: TrainingJob, small: Any, tmp_path: Path
) -> None:
    short = arm.write_episode(tmp_path / "short" / "bag", 9, steps=5)
    settings = small(steps=2, policy={"horizon": 8})
    told: list[Progress] = []
    run_training(dataclasses.replace(job, bags=(arm.bags, short), settings=settings), told.append)
    counted = next(p.message for p in told if p.message.startswith("4 episodes"))
    assert "(1 shorter than the horizon of 8 steps are used with their last command repeated" in counted
    assert "with 5)" in counted and "1 shorter than the horizon" in (job.out / "README.md").read_text()


def test_each_stage_can_be_stopped_and_the_same_job_goes_on(job: TrainingJob) -> None:
    with pytest.raises(Stopped, match="after bag 1 of 3"):
        run_training(job, stop=lambda: True)
    told: list[Progress] = []
    asked = iter([False] * (3 + 6))
    with pytest.raises(Stopped, match="after step 7 of 12"):
        run_training(job, told.append, stop=lambda: next(asked, True))
    assert [p.message.split(":")[1][1:7] for p in told[:2]] == ["cached", "ingest"]
    told.clear()
    run_training(job, told.append)
    assert any(p.message == "going on from step 7" for p in told)


def test_what_cannot_be_trained_on(arm: Any, job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bags were given"):
        dataclasses.replace(job, bags=(), dataset=None)
    with pytest.raises(UserError, match="'/nowhere' do not exist"):
        dataclasses.replace(job, bags=(tmp_path / "/nowhere",))
    with pytest.raises(UserError, match="eval_episodes is -1"):
        dataclasses.replace(job, eval_episodes=-1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="no bag in"):
        run_training(dataclasses.replace(job, bags=(tmp_path / "empty",)))
    broken = arm.write_episode(tmp_path / "cut" / "bag", 0)
    for file in broken.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DatasetError, match="none of the 1 bags gave an episode"):
        run_training(dataclasses.replace(job, bags=(broken.parent,)))
    assert not job.out.exists()


def test_failures_are_left_out_unless_asked_for(arm: Any, job: TrainingJob, tmp_path: Path) -> None:
    arm.write_episode(tmp_path / "bags" / "good", 0)
    arm.write_episode(tmp_path / "bags" / "bad", 1, success=False)
    told: list[Progress] = []
    mixed = dataclasses.replace(job, bags=(tmp_path / "bags",))
    assert len(prepare_dataset(mixed, told.append)) == 1 and "(1 marked as failed left out)" in told[-1].message
    assert len(prepare_dataset(dataclasses.replace(mixed, include_failures=True))) == 2


def test_data_goes_beside_the_bags_by_default(arm: Any, job: TrainingJob, tmp_path: Path) -> None:
    arm.write_episode(tmp_path / "bags" / "one", 0)
    episodes = prepare_dataset(dataclasses.replace(job, bags=(tmp_path / "bags",), dataset=None))
    assert episodes.folder.parent == tmp_path and episodes.folder.name.startswith("bags_dataset_")


def test_a_card_shows_what_was_measured(job: TrainingJob) -> None:
    policy, _ = run_training(job)
    found = [Evaluation("reach", label, [Outcome(n, n < good, 9, [2.0]) for n in range(10)]) for label, good in
             (("difftop", 9), ("its own base", 6))]  # fmt: skip
    text = write_card(job.out, policy, found, {"data": "some"}).read_text()
    assert "| reach | difftop | 9 of 10 | 60% to 98% | 2.0 | 2.0 |" in text and "| its own base | 6 of 10 |" in text


@pytest.fixture
def threads_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("took_ms", "most", "wanted", "tried"),
    [
        ({1: 20, 2: 40, 4: 10}, 4, 1, [1, 2]),  # no further once more threads bring nothing
        ({1: 40, 2: 20, 4: 10}, 4, 4, [1, 2, 4]),
        ({1: 40, 2: 20, 4: 20}, 7, 2, [1, 2, 4]),
        ({1: 20}, 1, 1, [1]),
    ],
)
def test_torch_gets_the_fewest_threads_that_are_fastest(
    threads_after: None, took_ms: dict[int, int], most: int, wanted: int, tried: list[int]
) -> None:
    chosen, took = choose_threads(lambda: time.sleep(took_ms[torch.get_num_threads()] / 1e3), most)
    assert chosen == wanted == torch.get_num_threads() and sorted(took) == tried
    assert all(took[count] >= took_ms[count] for count in tried)
