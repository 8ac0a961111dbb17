"""A topic of plain numbers in a bag, such as a reward, at the times of an episode's steps. No grid is made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.bags.reader import open_bag
from difftop_ros.data.errors import BagError
from difftop_ros.messages.types import HEADER_BYTES, header_stamp

NUMBERS = tuple(
    f"std_msgs/msg/{name}"
    for name in ("Float64", "Float32", "Bool", "Int64", "Int32", "Int16", "Int8", "UInt64", "UInt32", "UInt16", "UInt8")
)


def numbers_at(path: str | Path, topic: str, contract: Contract, times_ns: np.ndarray) -> np.ndarray:
    """The newest number on `topic` at each of `times_ns` (T,) int64 [ns], float64 (T,); the first one before that.

    Numbers have no stamp. Under clock 'header' each counts from the newest stamp of the measured joints received before
    it, so that simulated time and a recorder that came late do not matter; under 'receive' from when it was received.
    A relative topic is looked for in whatever namespace was recorded. Raises BagError if there is no such topic, if it
    carries no numbers, or one that is not finite.
    """
    with open_bag(path) as bag:
        recorded = contract.as_recorded(bag.topics)
        name = topic if topic in bag.topics else _in_a_namespace(topic, list(bag.topics))
        if name is None:
            raise BagError(f"bag '{path}' has no topic '{topic}'; it has {sorted(bag.topics)}: record it too")
        kind = bag.topics[name].type
        if kind not in NUMBERS:
            raise BagError(f"'{name}' in bag '{path}' is a {kind}; expected a number of std_msgs, such as {NUMBERS[0]}")
        stamped = recorded.clock == "header"
        joints = {recorded.observations[key].topic for key, _ in recorded.measured} if stamped else set()
        now, stamps, values = 0, list[int](), list[float]()
        for found, received, raw in bag.messages({name, *joints}):
            if found == name:
                value = float(bag.deserialize(raw, name).data)
                if not np.isfinite(value):
                    raise BagError(f"'{name}' in bag '{path}' is {value} at one moment; expected finite numbers")
                stamps.append(now if stamped else received)
                values.append(value)
            elif len(raw) >= HEADER_BYTES:
                now = max(now, header_stamp(raw))
    if not values:
        raise BagError(f"bag '{path}' has no message on '{name}'; was its publisher running?")
    at = np.searchsorted(np.array(stamps, np.int64), times_ns, side="right") - 1
    return np.array(values)[np.maximum(at, 0)]


def _in_a_namespace(topic: str, there: list[str]) -> str | None:
    """The only topic that ends with a relative name, or None."""
    fits = [] if topic.startswith("/") else [name for name in there if name.endswith(f"/{topic}")]
    return fits[0] if len(fits) == 1 else None
