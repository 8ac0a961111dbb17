"""JointState to arrays, by joint name, and back. Commands, though they may be JointStates, are commands.py's."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from difftop_ros.contract import JointStateObs, Observation
from difftop_ros.messages.coupling import Coupling, read, sent_names, spread
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.types import Types, float_field, stamped

TURN = 2 * np.pi
FLOAT32_MOST = float(np.finfo(np.float32).max)


def next_to(angles: Any, known: Any) -> Any:
    """`angles` [rad] with whole turns added, each within half a turn of what is `known`."""
    return angles + TURN * np.round((known - angles) / TURN)


class Turns:
    """Counts the turns of continuous joints, whose messages wrap around at pi: each reading is next to the one before.

    last: joint -> its angle [rad] as counted; a joint that is not in it begins with its next reading. Whoever has seen
    more of the messages may set it.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)
        self.last: dict[str, float] = {}

    def follow(self, names: Sequence[str], values: np.ndarray) -> np.ndarray:
        """Positions (n,) of the joints `names` as counted; those that are not continuous or not finite as they are."""
        if self.names.isdisjoint(names):
            return values
        counted = values.copy()
        for i, name in enumerate(names):
            if name in self.names and np.isfinite(values[i]):
                counted[i] = self.last[name] = float(next_to(values[i], self.last.get(name, values[i])))
        return counted

    def frame(self, obs: Observation, frame: np.ndarray) -> np.ndarray:
        """An observation's frame with its positions as counted."""
        if self.names.isdisjoint(obs.positions):
            return frame
        index = list(obs.positions.values())
        counted = frame.copy()
        counted[index] = self.follow(list(obs.positions), frame[index])
        return counted


def slot(topic: str, key: str) -> str:
    """What the messages for observation `key` on a topic are called where drivers of different joints share it."""
    return f"{topic} ({key})"


def shared_topics(observations: Mapping[str, Observation]) -> dict[str, dict[str, frozenset[str]]]:
    """Topics on which several observations want different joints: topic -> observation -> joints a message must name.

    Each driver's messages serve one of them, so that the newest on the topic does not serve all.
    """
    wanted: dict[str, dict[str, frozenset[str]]] = {}
    for key, obs in observations.items():
        if isinstance(obs, JointStateObs):
            wanted.setdefault(obs.topic, {})[key] = frozenset(obs.sent_names)
    return {topic: by_key for topic, by_key in wanted.items() if len(set(by_key.values())) > 1}


def joint_frame(obs: JointStateObs, messages: Mapping[str, Any]) -> np.ndarray:
    """Float32 (len(fields) * len(joints),), field-major, joints in the contract's order. Raises ObservationError."""
    message, where = read(messages[obs.topic], obs.coupling), f"JointState on '{obs.topic}'"
    values = np.concatenate([by_name(message, f, list(obs.joints), where) for f in obs.fields])
    if np.abs(values).max() > FLOAT32_MOST:
        raise ObservationError(f"{where} has a value of {values[np.abs(values).argmax()]:g}; no joint is there")
    return values.astype(np.float32)


def joint_state(
    types: Types,
    names: Sequence[str],
    time_s: float,
    position: np.ndarray | None = None,
    velocity: np.ndarray | None = None,
    effort: np.ndarray | None = None,
    coupling: Coupling | None = None,
) -> Any:
    """sensor_msgs/msg/JointState; each of position, velocity and effort (n,) may be absent.

    coupling: names the driver's joints for those of `names` that it has otherwise, see coupling.py.
    """
    message = stamped(types, "sensor_msgs/msg/JointState", time_s, "")
    message.name = sent_names(names, coupling)
    for field, values in (("position", position), ("velocity", velocity), ("effort", effort)):
        sent = np.empty(0) if values is None else spread(names, values, coupling, adds_up=field == "effort")
        setattr(message, field, float_field(types, sent))
    return message


def joint_names(raw: bytes) -> frozenset[str]:
    """Joint names of a serialised JointState, without making the message. Raises struct.error, UnicodeDecodeError."""
    number = struct.Struct("<I" if len(raw) > 1 and raw[1] & 1 else ">I")

    def text(at: int) -> tuple[bytes, int]:
        at += -at % 4  # aligned after the 4 bytes that begin every message
        (size,) = number.unpack_from(raw, at)
        if at + 4 + size > len(raw):
            raise struct.error("a text is cut short")
        return raw[at + 4 : at + 4 + size].rstrip(b"\0"), at + 4 + size

    _, at = text(12)
    at += -at % 4
    (count,) = number.unpack_from(raw, at)
    names, at = [], at + 4
    for _ in range(min(count, len(raw) // 4)):
        name, at = text(at)
        names.append(name.decode())
    return frozenset(names)


def names_of(raw: bytes) -> frozenset[str]:
    """Joint names of a serialised message, none where it is no JointState; a few microseconds, for every message."""
    try:
        return joint_names(raw)
    except (struct.error, UnicodeDecodeError):
        return frozenset()


def by_name(message: Any, field: str, names: list[str], where: str) -> np.ndarray:
    """Float64 (n,): `field` of a JointState for `names`, in their order. Raises ObservationError."""
    present = list(message.name)
    index = indices(present, names, where)
    values = np.asarray(getattr(message, field), dtype=np.float64)
    if values.size != len(present):
        raise ObservationError(
            f"{where} has {values.size} {field} values for {len(present)} names; the contract needs '{field}' for each"
        )
    return finite(values[index], names, field, where)


def indices(present: list[str], names: list[str], where: str) -> list[int]:
    """Where each of `names` stands in `present`. Raises ObservationError naming those that do not, or do twice."""
    lacking = [name for name in names if name not in present]
    if lacking:
        shown = ", ".join(f"'{name}'" for name in lacking)
        raise ObservationError(
            f"{where} lacks {shown}; the contract expects {len(names)} joints: {names}; start the driver of each"
        )
    if len(set(present)) < len(present) and any(present.count(name) > 1 for name in names):
        twice = [name for name in names if present.count(name) > 1]
        raise ObservationError(f"{where} names {twice} more than once; correct its driver")
    return [present.index(name) for name in names]


def finite(values: np.ndarray, names: list[str], field: str, where: str) -> np.ndarray:
    """`values` as they are. Raises ObservationError naming the joints whose value is not finite."""
    if not np.all(np.isfinite(values)):
        bad = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value)]
        raise ObservationError(f"{where} has a {field} that is not finite for {bad}; check its driver")
    return values
