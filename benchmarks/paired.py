"""Tables of policy_classes.csv: success per task, and differences on the same starts with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

Row = Mapping[str, str]
SHARED = ("demos", "steps", "episodes", "limit", "stay_steps", "origin")  # what must be equal in a comparison
DRAWS = 10_000


def tables(rows: Sequence[Row]) -> str:
    """Markdown: for each set of conditions, successes and then the pairs that were run on the same starts."""
    kinds: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        kinds[tuple(row[name] for name in SHARED)].append(row)
    return "\n\n".join(
        f"### {', '.join(f'{name} {value}' for name, value in zip(SHARED, kind, strict=True))}\n\n"
        f"{success_table(found)}\n\n{pair_table(found)}".rstrip()
        for kind, found in sorted(kinds.items())
    )


def success_table(rows: Sequence[Row]) -> str:
    """Per policy and task: mean success in per cent over the seeds, lowest and highest of them, and how many."""
    tasks = sorted({row["task"] for row in rows})
    lines = [f"| policy | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    for policy in sorted({row["policy"] for row in rows}):
        words = []
        for task in tasks:
            rates = [_percent(row) for row in rows if (row["policy"], row["task"]) == (policy, task)]
            words.append(f"{np.mean(rates):.0f} ({min(rates):.0f}–{max(rates):.0f}, n={len(rates)})" if rates else "–")
        lines.append(f"| `{policy}` | {' | '.join(words)} |")
    return "\n".join(lines)


def pair_table(rows: Sequence[Row]) -> str:
    """Each plan against its own base, and each two policies, on the same tasks, seeds and starts; '' if none."""
    lines = []
    for policy in sorted({row["policy"] for row in rows}):
        mine = [(_bits(r["outcomes"]), _bits(r["base_outcomes"])) for r in rows if r["policy"] == policy]
        lines += _line(f"`{policy}`", "its own base", [pair for pair in mine if len(pair[0]) == len(pair[1]) > 0])
    known = {(row["policy"], row["task"], row["seed"]): _bits(row["outcomes"]) for row in rows if row["outcomes"]}
    for one, other in combinations(sorted({policy for policy, _, _ in known}), 2):
        pairs = [
            (bits, known[other, task, seed])
            for (policy, task, seed), bits in known.items()
            if policy == one and (other, task, seed) in known
        ]
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
    for column, gap in enumerate(gaps):  # the mean of n starts drawn with replacement, by their counts
        means[:, column] = random.multinomial(len(gap), np.full(len(gap), 1 / len(gap)), DRAWS) @ gap / len(gap)
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


def _percent(row: Row) -> float:
    return 100 * int(row["successes"]) / int(row["episodes"])
