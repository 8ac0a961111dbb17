"""The policy's grid in time over a recording: where it starts and ends, which message and which action each step has.

Step k is at t_k = t_0 + k / rate_hz. Its observation is the newest message of each stream with stamp <= t_k; its action
the last command with stamp in [t_k, t_k+1). Pure numpy on stamps; reading bags is ingest.py's job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.errors import BagError
from difftop_ros.messages.pipeline import GRID_TOLERANCE_NS

# A stamp this far behind its predecessor is a restarted clock, not messages that overtook one another.
JUMP_BACK_NS = 1_000_000_000


@dataclass(frozen=True)
class Grid:
    """times: int64 (T,) [ns]; leading, trailing: grid steps left out because an observation or command was lacking."""

    times: np.ndarray
    leading: int
    trailing: int


def step_times(start_ns: int, first: int, count: int, rate_hz: float) -> np.ndarray:
    """Int64 (count,) [ns]: grid times of steps first, first + 1, …; rounded once each, so that errors do not add up."""
    return start_ns + np.rint(np.arange(first, first + count) * (1e9 / rate_hz)).astype(np.int64)


def check_monotonic(topic: str, stamps: np.ndarray) -> None:
    """Raises BagError when time jumps back within int64 (n,) stamps in the order received."""
    if stamps.size > 1 and (worst := int(np.diff(stamps).min())) < -JUMP_BACK_NS:
        raise BagError(
            f"time on '{topic}' jumps back by {-worst / 1e9:.1f} s; the bag holds more than one run: record one bag "
            "per episode"
        )


def build_grid(contract: Contract, streams: Mapping[str, np.ndarray], limits_ns: Mapping[str, int | None],
               commands: np.ndarray) -> Grid:  # fmt: skip
    """The grid from the first time when every stream has a message to the last with a command and fresh streams.

    streams: topic -> sorted int64 stamps (n,) [ns], none empty; limits_ns: topic -> how long after its last message a
    stream may still be used, None for ever; commands: sorted int64 stamps (m,). Raises BagError when nothing is left.
    """
    period = 1e9 / contract.rate_hz
    start = max(int(stamps[0]) for stamps in streams.values())
    earliest = min(min(int(stamps[0]) for stamps in streams.values()), int(commands[0]))
    before = max(0, int((start - earliest + GRID_TOLERANCE_NS) // period))
    idle = max(0, int((int(commands[0]) + GRID_TOLERANCE_NS - start) // period))
    last_command = int((int(commands[-1]) + GRID_TOLERANCE_NS - start) // period)
    ends = [int(s[-1]) + limit for t, s in streams.items() if (limit := limits_ns[t]) is not None]
    last_fresh = int((min(ends) + GRID_TOLERANCE_NS - start) // period) if ends else last_command
    last = min(last_command, last_fresh)
    if last < idle:
        spans = {**streams, contract.command.topic: commands}
        shown = ", ".join(f"'{t}' {int(s[0]) / 1e9:.2f}..{int(s[-1]) / 1e9:.2f} s" for t, s in spans.items())
        raise BagError(
            f"observations and commands do not overlap in time ({shown}); were they stamped by different clocks? "
            f"Set the contract's clock to '{'receive' if contract.clock == 'header' else 'header'}' or record again"
        )
    times = step_times(start, idle, last - idle + 1, contract.rate_hz)
    return Grid(times, before + idle, max(0, last_command - last))


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
    end = np.searchsorted(stamps, np.append(times[1:], times[-1] + period) - GRID_TOLERANCE_NS, side="left")
    if contract.command.mode == "delta_position":
        sound = np.isfinite(commands).all(axis=1)
        totals = np.concatenate(
            [np.zeros((1, commands.shape[1])), np.cumsum(np.where(sound[:, None], commands, 0.0), axis=0)]
        )
        spoilt = np.concatenate([[0], np.cumsum(~sound)])
        return np.where((spoilt[end] > spoilt[begin])[:, None], np.nan, totals[end] - totals[begin])
    return commands[np.maximum(end - 1, 0)]
