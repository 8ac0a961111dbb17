"""Checkpoints in a run's folder: which there are, reading one, keeping the newest. Their content is the run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from difftop_ros.learning.settings import TrainingError

KEPT = 2  # never the only one: a crash while writing must leave the one before


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, by their steps."""
    return sorted(folder.glob("step=*.ckpt"), key=checkpoint_step)


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint in `folder` with the most steps, or None."""
    found = checkpoints(folder)
    return found[-1] if found else None


def checkpoint_step(checkpoint: Path | None) -> int:
    """The step a checkpoint was made after; 0 for None."""
    return int(checkpoint.stem.split("=")[1].split("-")[0]) if checkpoint else 0


def forget_old(folder: Path) -> None:
    """Delete all but the newest KEPT."""
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What is in it, on the CPU. Raises TrainingError if it is damaged."""
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)  # a pickle could run anything
    # whatever is wrong with a damaged file, torch and pickle raise a dozen kinds of errors for it
    except Exception as error:
        raise TrainingError(
            f"checkpoint {str(checkpoint)!r} cannot be read ({type(error).__name__}); delete it to go on from the one "
            "before, or start over with fresh"
        ) from error
