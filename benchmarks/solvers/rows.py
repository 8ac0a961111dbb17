"""The row of the table, and how much of the benchmark is run. No measuring here."""

from __future__ import annotations

from dataclasses import dataclass

NAN = float("nan")


@dataclass(frozen=True)
class Plan:
    """How much is run.

    repeats: most runs of one job; group_s: seconds of repeats for one form at one batch size; limit_s: longest single
    solve, longer ones are stopped and extrapolated, and say so. samples: problems the cost gap is the mean of; starts,
    best_iterations: of the multi-start that gives the best known plans.
    """

    device: str = "cpu"
    quick: bool = False
    batches: tuple[int, ...] = (1, 128)
    only: tuple[str, ...] | None = None
    repeats: int = 40
    group_s: float = 30.0
    limit_s: float = 10.0
    samples: int = 64
    starts: int = 32
    best_iterations: int = 100


@dataclass
class Row:
    """One line of the table. Times in ms; gap: mean cost above the best known plans.

    forward_ratio, both_ratio: the time of the paper's form over this one's, in the same interleaved rounds.
    gradient_ms: median over the runs of a run's time over its own gradients (of one start: several share a reading).
    floor_ratio: that over reading the weights of a gradient once, at batch 1, the median in the same rounds.
    """

    form: str
    batch: int
    method: str
    iterations: int
    mode: str
    adjoint: str
    role: str = ""
    forward_ms: float = NAN
    forward_p99_ms: float = NAN
    both_ms: float = NAN
    both_p99_ms: float = NAN
    gradients: float = NAN
    gradient_ms: float = NAN
    cost: float = NAN
    gap: float = NAN
    statuses: str = ""
    forward_ratio: float = NAN
    both_ratio: float = NAN
    floor_ratio: float = NAN
    note: str = ""

    def say(self, sentence: str) -> None:
        """Add to the note."""
        self.note = f"{self.note}; {sentence}".removeprefix("; ")
