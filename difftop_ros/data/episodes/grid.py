"""The policy's grid in time over a recording: where it starts and ends, which message and which action each step has.

Step k is at t_k = t_0 + k / rate_hz. Its observation is the newest message of each stream with stamp <= t_k; its action
the last command with stamp in [t_k, t_k+1). Pure numpy on stamps; reading bags is ingest.py's job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.errors import BagError
from difftop_ros.messages.pipeline import GRID_TOLERANCE_NS

# A stamp this far behind its predecessor is a restarted clock, not messages that overtook one another.
JUMP_BACK_NS = 1_000_000_000


# A stream is held over a gap of at most this many times its max_age_ms; over a longer one the episode is split.
HOLD_FACTOR = 5
# What splits an episode where no stream has an age limit [ns].
SILENCE_NS = 5_000_000_000


@dataclass(frozen=True)
class Grid:
    """times: int64 (T,) [ns], with jumps where a gap was left out.

    leading, trailing: grid steps left out at the ends because an observation or command was lacking; gaps: those left
    out between, where streams were silent; splits: (begin, end) [ns] of each such silence.
    """

    times: np.ndarray
    leading: int
    trailing: int
    gaps: int = 0
    splits: tuple[tuple[int, int], ...] = ()


def step_times(start_ns: int, first: int, count: int, rate_hz: float) -> np.ndarray:
    """Int64 (count,) [ns]: grid times of steps first, first + 1, …; rounded once each, so that errors do not add up."""
    return start_ns + np.rint(np.arange(first, first + count) * (1e9 / rate_hz)).astype(np.int64)


def check_monotonic(topic: str, stamps: np.ndarray) -> None:
    """Raises BagError when time jumps back within int64 (n,) stamps in the order received."""
    if stamps.size < 2:
        return
    steps = np.diff(stamps)
    at = int(steps.argmin())
    if steps[at] < -JUMP_BACK_NS:
        raise BagError(
            f"time on '{topic}' jumps back by {-steps[at] / 1e9:.1f} s after {(stamps[at] - stamps[0]) / 1e9:.1f} s; "
            "the bag holds more than one run: record one bag per episode"
        )


def limits_ns(contract: Contract, named: Callable[[str, str], str]) -> dict[str, int | None]:
    """Stream -> how long after its last message it may be used [ns], None for ever; named(key, topic) names streams.

    Where several observations are made of one stream, the strictest counts.
    """
    limits: dict[str, int | None] = {}
    for key, obs in contract.observations.items():
        limit = int(obs.max_age_ms * 1e6) if obs.resample == "as_of" else None
        for name in (named(key, topic) for topic in obs.streams):
            limits[name] = min(limits.get(name) or limit, limit) if limit else limits.get(name)
    return limits


def build_grid(contract: Contract, streams: Mapping[str, np.ndarray], limits_ns: Mapping[str, int | None],
               commands: np.ndarray) -> Grid:  # fmt: skip
    """The grid from the first time when every stream has a message to the last with a command and fresh streams.

    streams: topic -> sorted int64 stamps (n,) [ns], none empty; limits_ns: topic -> how long after its last message a
    stream may still be used, None for ever; commands: sorted int64 stamps (m,). Left out are steps where a stream is
    silent for longer than HOLD_FACTOR times its limit, or all are for longer than the longest limit: nothing is
    allocated for them, whatever a clock says. Raises BagError when nothing is left.
    """
    period = 1e9 / contract.rate_hz
    start = max(int(stamps[0]) for stamps in streams.values())
    limited = {topic: limit for topic, limit in limits_ns.items() if limit is not None}
    counted = [streams[topic] for topic in limited] or list(streams.values())
    earliest = min(min(int(stamps[0]) for stamps in counted), int(commands[0]))
    before = max(0, int((start - earliest + GRID_TOLERANCE_NS) // period))
    idle = max(0, int((int(commands[0]) + GRID_TOLERANCE_NS - start) // period))
    last_command = int((int(commands[-1]) + GRID_TOLERANCE_NS - start) // period)
    ends = [int(streams[topic][-1]) + limit for topic, limit in limited.items()]
    last_fresh = int((min(ends) + GRID_TOLERANCE_NS - start) // period) if ends else last_command
    last = min(last_command, last_fresh)
    if last < idle:
        spans = {**streams, contract.command.topic: commands}
        shown = ", ".join(f"'{t}' {int(s[0]) / 1e9:.2f}..{int(s[-1]) / 1e9:.2f} s" for t, s in spans.items())
        raise BagError(
            f"observations and commands do not overlap in time ({shown}); were they stamped by different clocks? "
            f"Set the contract's clock to '{'receive' if contract.clock == 'header' else 'header'}' or record again"
        )
    silences = _silences(streams, limited, commands)
    runs, splits, first = [], [], idle
    for begin, end in silences:
        # Without a command of its own time a step would repeat that of before the silence.
        resumed = commands[np.searchsorted(commands, end - GRID_TOLERANCE_NS) :]
        end = max(end, int(resumed[0])) if resumed.size else end
        stop = int((begin + GRID_TOLERANCE_NS - start) // period)
        again = int(-((start + GRID_TOLERANCE_NS - end) // period))
        if again > last or again <= first or again <= stop + 1:
            continue
        runs.append((first, stop))
        splits.append((begin, end))
        first = again
    runs.append((first, last))
    times = [step_times(start, a, b - a + 1, contract.rate_hz) for a, b in runs if b >= a]
    taken = sum(t.size for t in times)
    joined = np.concatenate(times) if times else np.zeros(0, np.int64)
    if not joined.size:
        raise BagError("no step is left between the silences of the streams; record again without pauses")
    gaps = last - idle + 1 - taken
    return Grid(joined, before + idle, max(0, last_command - last), gaps, tuple(splits))


def _silences(
    streams: Mapping[str, np.ndarray], limited: Mapping[str, int], commands: np.ndarray
) -> list[tuple[int, int]]:
    """(begin, end) [ns], sorted and apart, of the times that cannot be held over; begin is after the last held step."""
    together = [streams[topic] for topic in limited] or [*streams.values(), commands]
    longest = max(limited.values(), default=SILENCE_NS)
    found = _gaps(np.sort(np.concatenate(together)), longest, longest)
    for topic, limit in limited.items():
        found += _gaps(streams[topic], HOLD_FACTOR * limit, limit)
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(found):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _gaps(stamps: np.ndarray, longest: int, held: int) -> list[tuple[int, int]]:
    at = np.flatnonzero(np.diff(stamps) > longest + GRID_TOLERANCE_NS)
    return [(int(stamps[i]) + held, int(stamps[i + 1])) for i in at.tolist()]


def newest_at(stamps: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Int64 (T,): index into sorted `stamps` of the newest not after each time, -1 where there is none."""
    return np.searchsorted(stamps, times + GRID_TOLERANCE_NS, side="right") - 1


def actions_at(contract: Contract, stamps: np.ndarray, commands: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Float64 (T, A): the action of each step from commands (m, A) with sorted stamps (m,); the first step has one.

    The last command within [t_k, t_k+1), else the one before is held; for delta_position the sum of those within. A
    step whose command is not finite has NaN.
    """
    period = round(1e9 / contract.rate_hz)
    begin = np.searchsorted(stamps, times - GRID_TOLERANCE_NS, side="left")
    # Where the grid jumps over a silence, a step still has one period.
    ends = np.minimum(np.append(times[1:], times[-1] + period), times + period + 1)
    end = np.searchsorted(stamps, ends - GRID_TOLERANCE_NS, side="left")
    if contract.command.mode == "delta_position":
        sound = np.isfinite(commands).all(axis=1)
        totals = np.concatenate(
            [np.zeros((1, commands.shape[1])), np.cumsum(np.where(sound[:, None], commands, 0.0), axis=0)]
        )
        spoilt = np.concatenate([[0], np.cumsum(~sound)])
        return np.where((spoilt[end] > spoilt[begin])[:, None], np.nan, totals[end] - totals[begin])
    return commands[np.maximum(end - 1, 0)]
