"""Policies compared on the same starts: differences of success with intervals. Rows are of any table of trainings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

Row = Mapping[str, str]
DRAWS = 10_000


def pair_table(rows: Sequence[Row], unit: Sequence[str]) -> str:
    """Markdown: each plan against its own base, and each two policies, where all columns `unit` agree; '' if none.

    rows: of trainings, with policy, outcomes and base_outcomes ('1' or '0' per start; '' where they were not kept).
    """
    lines = []
    for policy in sorted({row["policy"] for row in rows}):
        mine = [(_bits(r["outcomes"]), _bits(r["base_outcomes"])) for r in rows if r["policy"] == policy]
        lines += _line(f"`{policy}`", "its own base", [pair for pair in mine if len(pair[0]) == len(pair[1]) > 0])
    known: dict[str, dict[tuple[str, ...], np.ndarray]] = defaultdict(dict)
    for row in rows:
        if row["outcomes"]:
            known[row["policy"]][tuple(row[name] for name in unit)] = _bits(row["outcomes"])
    for one, other in combinations(sorted(known), 2):
        pairs = [(bits, known[other][key]) for key, bits in known[one].items() if key in known[other]]
        lines += _line(f"`{one}`", f"`{other}`", pairs)
    head = ["| policy | against | points of 100 | 95 % interval | trainings |", "|---|---|---|---|---|"]
    return "\n".join(head + lines) if lines else ""


def difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> tuple[float, float, float]:
    """Mean of the first minus the second, in points of 100, and its 95 % interval.

    pairs: outcomes (n,) of 0 and 1 on the same starts, one pair per training. Trainings are drawn with replacement,
    and starts within each (a two-level bootstrap), because trainings differ by more than starts do.
    """
    gaps = [100.0 * (one - other) for one, other in pairs]
    random = np.random.default_rng(seed)
    means = np.zeros((DRAWS, len(gaps)))
    for column, gap in enumerate(
        gaps
    ):  # of n starts drawn with replacement only how often each difference comes counts
        kinds, counts = np.unique(gap, return_counts=True)
        means[:, column] = random.multinomial(len(gap), counts / len(gap), DRAWS) @ kinds / len(gap)
    drawn = np.take_along_axis(means, random.integers(len(gaps), size=means.shape), axis=1).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(np.mean([gap.mean() for gap in gaps])), float(low), float(high)


def _line(one: str, other: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    if not pairs:
        return []
    mean, low, high = difference(pairs)
    return [f"| {one} | {other} | {mean:+.1f} | {low:+.1f} to {high:+.1f} | {len(pairs)} |"]


def _bits(text: str) -> np.ndarray:
    return np.array([float(sign) for sign in text])
