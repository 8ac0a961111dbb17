"""Checkpoints in a run's folder: which there are, reading one, keeping the newest. Their content is the run's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from difftop_ros.errors import UserError
from difftop_ros.learning.settings import TrainingError

NAME = re.compile(r"step=(\d{1,12})(-v\d+)?\.ckpt")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, by their steps. Files of other names are somebody's copies."""
    return sorted((path for path in folder.glob("step=*.ckpt") if NAME.fullmatch(path.name)), key=checkpoint_step)


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in `folder` with the most steps, or None."""
    found = checkpoints(folder)
    return found[-1] if found else None


def checkpoint_step(checkpoint: Path | None) -> int:
    """The step a checkpoint was made after; 0 for None."""
    return int(checkpoint.stem.split("=")[1].split("-")[0]) if checkpoint else 0


def forget_old(folder: Path, keep: int = 2) -> None:
    """Delete all but the newest `keep`, never the only one: a crash while writing must leave the one before."""
    for old in checkpoints(folder)[: -max(keep, 2)]:
        old.unlink(missing_ok=True)


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What is in it, on the CPU. Raises TrainingError if it is damaged."""
    with restoring(checkpoint):
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)  # a pickle could run anything
        if not isinstance(state, dict):
            raise TypeError(f"a {type(state).__name__} is in it")
    return state


@contextmanager
def restoring(checkpoint: Path | None, begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """What fails under it is the fault of `checkpoint` and raises TrainingError, until `begun()`.

    A damaged file, or one of another run, makes torch, pickle and Lightning raise a dozen kinds of errors.
    """
    try:
        yield
    except (UserError, MemoryError):  # the second is this machine's
        raise
    except Exception as error:
        if checkpoint is None or begun():
            raise
        raise TrainingError(
            f"checkpoint {str(checkpoint)!r} cannot be read ({type(error).__name__}); delete it to go on from the one "
            "before, or start over with fresh"
        ) from error


def averaged_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The net's weights in a checkpoint: the moving average where there is one."""
    return {name.removeprefix("net."): tensor for name, tensor in read_checkpoint(checkpoint)["state_dict"].items()}
