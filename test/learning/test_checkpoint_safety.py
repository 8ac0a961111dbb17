"""What is read to go on with a run may not run code."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from difftop_ros.data import EpisodeDataset
from difftop_ros.learning.imitation.train import train, training_seconds
from difftop_ros.learning.progress import Stopped
from difftop_ros.learning.settings import TrainingError, TrainSettings


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_code_is_refused(
    episodes: EpisodeDataset, small: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    asked = iter([False, False])
    settings, out, trap = small(steps=6, ema=0.9), tmp_path / "model", tmp_path / "trap"
    with pytest.raises(Stopped):
        train(episodes, settings, out, stop=lambda: next(asked, True))
    (checkpoint,) = (out / "checkpoints").glob("*.ckpt")
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state, "hyper_parameters": Malicious(trap)}, checkpoint)
    with pytest.raises(TrainingError, match=r"step=3\.ckpt' cannot be read \(UnpicklingError\)"):
        train(episodes, settings, out)
    with pytest.raises(TrainingError, match="cannot be read"):
        training_seconds(out)
    assert not trap.exists()
    torch.load(checkpoint, weights_only=False)
    assert trap.exists(), "the trap was one"
    torch.save(state, checkpoint)
    train(episodes, settings, out)
