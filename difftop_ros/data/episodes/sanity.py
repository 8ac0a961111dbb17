"""Whether a recording's times and readings can be what they say: clocks that differ, zero stamps, degrees, wrap-around.

Pure numpy on what ingest.py read in its first pass. Each function raises BagError with what was measured and a remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.errors import BagError

# Time that a command may be under way, or lie ahead in a trajectory, without another clock being the reason.
COMMAND_DELAY_NS = 250_000_000
FAR_OUTSIDE = 2.0  # of a joint's range: what lies further beyond its limits is no position in the contract's unit
FROZEN_NS = 1_000_000_000  # for which readings that do not change at all are odd
FROZEN_SHARE, FROZEN_BY = 0.02, 0.2  # of a joint's range, and of what is commanded in all, that commands move meanwhile
PARTS = 10  # of a recording, looked at one by one for a clock that steps


def check_clocks(
    contract: Contract, received: Mapping[str, np.ndarray], stamps: Mapping[str, np.ndarray], lead_ns: int = 0
) -> None:
    """Raise BagError when streams count by clocks that differ by more than a message may be old.

    received, stamps: topic -> int64 (n,) [ns] in the order recorded, of observed streams and command. The stream
    with most header stamps is the ruler: what it says at the reception of each message of the others is compared with
    what those say, so that a simulation that runs at another speed than the wall is no difference. lead_ns: how far a
    command's stamps may rightly lie ahead, as those of trajectories that begin later do.
    """
    stamped = [t for t in stamps if t not in contract.unstamped and stamps[t].size > 1]
    if not stamped:
        return
    ruler = max(stamped, key=lambda topic: stamps[topic].size)
    order = np.argsort(received[ruler], kind="stable")
    base_received, base_stamps = int(received[ruler][0]), int(stamps[ruler][0])
    x, y = received[ruler][order] - base_received, stamps[ruler][order] - base_stamps
    lags: dict[str, float] = {}
    begins: dict[str, float] = {}  # where the largest lag of a topic begins [s]
    for topic, values in stamps.items():
        at = received[topic] - base_received
        # Before the ruler's first and after its last message its clock is taken to go on at the recorder's speed.
        shown = np.interp(at, x, y) + np.minimum(at - x[0], 0) + np.maximum(at - x[-1], 0)
        lag = shown - (values - base_stamps)
        parts = np.array_split(np.arange(lag.size), min(PARTS, lag.size))
        if topic == contract.command.topic:
            lag = np.where(lag < 0, np.minimum(lag + lead_ns, 0), lag)
        medians = [float(np.median(lag[part])) for part in parts]
        worst = _lasting(medians) if topic in stamped else int(np.argmax(np.abs(medians)))
        lags[topic], begins[topic] = medians[worst], float(at[parts[worst][0]] - at[0]) / 1e9
    allowed = {obs.topic: obs.max_age_ms * 1e6 for obs in contract.observations.values()}
    first = min(lags, key=lambda topic: lags[topic])
    for topic, lag in lags.items():
        behind = lag - lags[first]
        if behind > max(allowed.get(topic, 0.0), COMMAND_DELAY_NS if topic == contract.command.topic else 0.0):
            how = "the time they were received" if first in contract.unstamped else "their header stamps"
            begin = max(begins[topic], begins[first])
            raise BagError(
                f"two clocks are mixed: messages on '{topic}' are {behind / 1e9:.2f} s behind those on '{first}' from "
                f"{begin:.1f} s on, which count by {how}; set the contract's clock to 'receive', or synchronise and "
                "record again"
            )


def _lasting(lags: list[float]) -> int:
    """Where the largest lag stands that two parts in a row have, at the beginning or at the end of a recording.

    What comes and goes in between is late delivery on a busy machine, which does not touch stamps.
    """
    if len(lags) < 4:
        return int(np.argmax(np.abs(lags)))
    last = len(lags) - 1
    ends = [min(pair, key=lambda part: abs(lags[part])) for pair in ((0, 1), (last - 1, last))]
    return max(ends, key=lambda part: abs(lags[part]))


def check_degrees(contract: Contract, topic: str, positions: Mapping[str, np.ndarray]) -> None:
    """Raise BagError when positions lie far outside the limits of the commanded joints.

    positions: joint -> float64 (n, 2) of time [ns] and reading, in the order of time; so below.
    """
    for joint in contract.command.joints:
        if joint.name not in positions:
            continue
        times, values = positions[joint.name].T
        low, high = joint.position
        margin = FAR_OUTSIDE * (high - low)
        outside = (values < low - margin) | (values > high + margin)
        if outside.mean() > 0.01:
            hint = "; are they degrees?" if joint.unit == "rad" else "; are they millimetres?"
            begin = (times[outside][0] - times[0]) / 1e9
            raise BagError(
                f"'{joint.name}' on '{topic}' reads {values.min():.4g} to {values.max():.4g}, its limits are {low:g} "
                f"to {high:g} {joint.unit}, from {begin:.1f} s on{hint} Correct the driver's unit or the contract's "
                "limits"
            )


def remarks(
    contract: Contract, stamps: np.ndarray, commands: np.ndarray, positions: Mapping[str, Mapping[str, np.ndarray]]
) -> list[str]:
    """What is odd but may be meant, a sentence each: commands beyond limits, positions that stand while told to move.

    stamps (m,) [ns] of commands (m, A); positions: topic -> joint -> (n, 2) as above.
    """
    low, high = (np.array(side) for side in contract.command.bounds())
    outside = (commands < low - 1e-6 * (high - low)) | (commands > high + 1e-6 * (high - low))
    found = []
    if outside.any():
        names = [name for name, bad in zip(contract.command.joint_names, outside.any(0), strict=True) if bad]
        farthest = commands[outside][np.abs(commands[outside]).argmax()]
        found.append(
            f"{outside.any(1).sum()} of {len(commands)} commands on '{contract.command.topic}' go beyond the limits of "
            f"{names}, as far as {farthest:.4g}: correct the contract's limits"
        )
    if contract.command.mode != "position":
        return found
    moving = np.ptp(commands, axis=0) > FROZEN_SHARE * (high - low) if len(commands) else np.zeros(0, bool)
    names = [name for name, moves in zip(contract.command.joint_names, moving, strict=True) if moves]
    for topic, readings in positions.items():
        for name in names:
            if name in readings and (still := _frozen(readings[name], stamps, commands[:, names.index(name)])):
                found.append(f"'{name}' on '{topic}' reads the same to the last bit {still} while commands moved it")
                break
    return found


def _frozen(readings: np.ndarray, stamps: np.ndarray, commands: np.ndarray) -> str:
    """When readings (n, 2) stood still to the last bit for long, though `commands` (m,) [unit] moved; '' if never."""
    times, values = readings.T
    change = np.flatnonzero(np.diff(values)) + 1
    begins, ends = np.concatenate([[0], change]), np.concatenate([change, [len(values)]]) - 1
    for first, last in zip(begins.tolist(), ends.tolist(), strict=True):
        within = commands[(stamps >= times[first]) & (stamps <= times[last])]
        if times[last] - times[first] >= FROZEN_NS and within.size and np.ptp(within) > FROZEN_BY * np.ptp(commands):
            return f"from {(times[first] - times[0]) / 1e9:.1f} to {(times[last] - times[0]) / 1e9:.1f} s"
    return ""


def check_wrap_around(topic: str, positions: Mapping[str, np.ndarray], metres: Sequence[str]) -> None:
    """Raise BagError when a joint's readings jump by a whole turn."""
    for name, (times, values) in ((name, found.T) for name, found in positions.items()):
        jumps = np.abs(np.diff(values))
        turns = np.flatnonzero(np.abs(jumps - 2 * np.pi) < 0.5)
        if name not in metres and turns.size:
            first = (times[turns[0]] - times[0]) / 1e9
            raise BagError(
                f"'{name}' on '{topic}' jumps by a whole turn {turns.size} times (first at {first:.1f} s): its "
                "readings wrap around at pi, which a policy would see as motion; say 'continuous: true' of the joint "
                "in the contract, or let the driver publish angles that go on counting"
            )


def refuse_empty(bag: str, topic: str, zeros: int, count: int, why: str) -> NoReturn:
    """Raises BagError for a topic none of whose `count` messages is of use; `zeros` of them have a zero stamp."""
    if zeros == count:
        raise BagError(
            f"all {count} header stamps on '{topic}' are 0: its driver sets no time; set the contract's clock to "
            "'receive'"
        )
    raise BagError(f"bag '{bag}' gives no step: {why}")
