"""A training by trying as a whole: it goes on exactly where it was stopped, and what goes wrong is a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium", reason="the extra [sim] is not installed")
pytest.importorskip("tensorboard", reason="the extra [train] is not installed")

from difftop_ros.learning.checkpoints import checkpoint_step, checkpoints
from difftop_ros.learning.progress import Progress, Stopped
from difftop_ros.learning.reinforcement.environments import make_trial
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import read_returns, train_by_trying
from difftop_ros.learning.settings import TrainingError
from tools.patience import patience

from .conftest import small, trial


def weights(out: Path) -> dict[str, Any]:
    return torch.load(checkpoints(out / "checkpoints")[-1], weights_only=True)["learner"]


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


@pytest.mark.parametrize("policy", ["difftop_rl", "tdmpc", "prior"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, policy: str) -> None:
    small_search = {"mppi_samples": 16, "mppi_elites": 4, "mppi_iterations": 2} if policy == "tdmpc" else {}
    settings = small(policy=policy, eval_with="plan+prior", **small_search)
    train_by_trying(trial, settings, tmp_path / "whole")
    asked = iter([False] * 4 + [True] + [False] * 100)
    with pytest.raises(Stopped, match="stopped after step 80 of 120"):
        train_by_trying(trial, settings, tmp_path / "parts", stop=lambda: next(asked))
    said: list[Progress] = []
    train_by_trying(trial, settings, tmp_path / "parts", report=said.append)
    assert said[0].message == "going on from step 80"
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert read_returns(tmp_path / "whole/returns.csv") == read_returns(tmp_path / "parts/returns.csv")
    rows = read_returns(tmp_path / "whole/returns.csv")
    assert [(int(row["step"]), row["acting"]) for row in rows[::2]] == [
        (step, way) for step in (60, 120) for way in ("plan", "prior")
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without evaluations to its end."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train_by_trying(trial, small(eval_episodes=0), out)
    return out


def test_more_steps_go_on_and_another_setting_is_refused(tmp_path: Path, undisturbed: Path) -> None:
    train_by_trying(trial, small(eval_episodes=0, steps=80), tmp_path)
    train_by_trying(trial, small(eval_episodes=0), tmp_path)
    assert equal(weights(tmp_path), weights(undisturbed))
    with pytest.raises(TrainingError, match=r"lr was 0\.001, is 0\.01"):
        train_by_trying(trial, small(lr=0.01), tmp_path)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (float("nan"), r"env 'point' gave the reward nan for the action .*finite number"),
        (np.zeros(3, np.float32), r"env 'point' gave shape \(3,\) for observation 'state'; expected \(2,\)"),
        (np.full(2, np.nan, np.float32), r"values that are not finite in observation 'state'"),
        (RuntimeError("the physics blew up"), r"env 'point' died \(RuntimeError: the physics blew up\)"),
    ],
    ids=["reward", "shape", "values", "death"],
)
def test_an_environment_that_fails_is_a_sentence_and_nothing_is_lost(tmp_path: Path, fault: Any, sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        train_by_trying(lambda: trial({95: fault}), small(eval_episodes=0), tmp_path / "run")
    assert checkpoint_step(checkpoints(tmp_path / "run/checkpoints")[-1]) == 80
    train_by_trying(trial, small(eval_episodes=0), tmp_path / "run")
    train_by_trying(trial, small(eval_episodes=0), tmp_path / "whole")
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_a_full_disk_in_mid_save_loses_nothing(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = torch.save, iter(range(100))

    def full(state: Any, path: Any) -> None:
        if next(calls) == 1:
            Path(path).write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        real(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            train_by_trying(trial, small(eval_episodes=0), tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*.partial"))
    train_by_trying(trial, small(eval_episodes=0), tmp_path)
    assert equal(weights(tmp_path), weights(undisturbed))


def test_a_loss_that_is_not_finite_is_told_before_a_step_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: torch.full_like(like, torch.nan))
        with pytest.raises(TrainingError, match=r"the loss is nan.*at update 1; try a lower lr"):
            train_by_trying(trial, small(), tmp_path)


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from conftest import small, trial
from difftop_ros.learning.reinforcement.train import train_by_trying
train_by_trying(trial, small(steps=100_000, checkpoint_every=20, eval_episodes=0), sys.argv[1])
"""


def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    """Wherever the kill falls: a whole checkpoint is there, and its episodes."""
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out), str(Path(__file__).parent)])
    try:
        deadline = time.monotonic() + patience(100)
        while len(checkpoints(out / "checkpoints")) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    step = checkpoint_step(checkpoints(out / "checkpoints")[-1])
    assert step >= 40
    train_by_trying(trial, small(steps=step + 40, checkpoint_every=20, eval_episodes=0), out)
    assert checkpoint_step(checkpoints(out / "checkpoints")[-1]) == step + 40


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("cartpole-swingupp", r"did you mean cartpole-swingup"),
        ("liftt", r"did you mean lift"),
        ("gymnasium:Pendulum-v11", r"Pendulum-v1"),
        ("nowhere/reach", r"needs a robot: give its contract"),
    ],
)
def test_an_environment_there_is_not_is_refused_with_near_names(env: str, sentence: str) -> None:
    pytest.importorskip("dm_control", reason="the extra [dmcontrol] is not installed")
    with pytest.raises(TrainingError, match=sentence):
        make_trial(TryingSettings.from_values({"env": env}))
