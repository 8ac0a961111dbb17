"""What a run tells while it goes, and how it is ended early. No torch here: the command line imports it at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

UNKNOWN = -1.0  # eta_s of a stage whose end cannot be estimated


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    stage: 'ingest' (step counts bags), 'train' (optimisation steps), 'evaluate' (episodes), 'done', 'stopped' or
    'failed'. metrics: newest value by name. epoch: passes over the training windows. eta_s: rest of this stage [s].
    """

    stage: str
    step: int
    total_steps: int
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: int = 0
    steps_per_second: float = 0.0
    eta_s: float = UNKNOWN


Report = Callable[[Progress], None]
Stop = Callable[[], bool]  # asked after every step: shall the run end here?


class Stopped(Exception):
    """A run that ended early because it was asked to. What it did is kept, and the same call goes on from there."""


def silent(progress: Progress) -> None:
    """A Report that tells nobody."""


def never() -> bool:
    """A Stop that never does."""
    return False
