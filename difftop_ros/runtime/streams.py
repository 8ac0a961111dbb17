"""Newest messages, kept as they came: raw bytes by topic, and which of them make an observation at a given time.

Subscription callbacks only store here; nothing is decoded before a planner or the control loop needs it. Turning
messages into frames is messages.ObservationPipeline's job, in worker.py. No rclpy here.
"""

from __future__ import annotations

import bisect
import struct
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from difftop_ros.contract import Contract, JointStateObs
from difftop_ros.messages import ObservationError, StaleObservation
from difftop_ros.messages.joints import joint_names, names_of, shared_topics, slot
from difftop_ros.messages.pipeline import FUTURE_LIMIT_NS
from difftop_ros.messages.places.whereabouts import followed, transforms_followed
from difftop_ros.messages.types import header_stamp

MOST_BYTES = 256_000_000  # of one topic's history
MOST_TRANSFORM_BYTES = 1_000_000
MOST_TRANSFORMS, MOST_FIXED = 1024, 256  # messages of /tf and of /tf_static
MOST_OTHERS = 16  # other publishers of a topic that are told apart
SERVED_NS = 1_000_000_000  # after so long without the joints asked for, a message that lacks them is told
WENT_BACK_NS = 1_000_000_000  # a stamp so far behind is a clock that began anew, not a message overtaken
Deserialize = Callable[[bytes | memoryview, str], Any]


@dataclass(frozen=True, eq=False)
class RawMessage:
    """One message as received: time by the contract's clock [ns], serialized bytes, a number no other message has."""

    stamp_ns: int
    raw: bytes | memoryview
    kind: str
    number: int


@dataclass(frozen=True)
class Request:
    """What a worker needs for one observation window: for each time [ns], oldest first, topic (or slot) -> message.

    turns: continuous joint -> its angle [rad] now, as counted by who has seen every message; followed: all messages of
    the window by which it is known where the robot was, with their topics.
    """

    times_ns: tuple[int, ...]
    picks: tuple[dict[str, RawMessage], ...]
    turns: dict[str, float] = field(default_factory=dict)
    followed: tuple[tuple[str, RawMessage], ...] = ()


class StreamBuffers:
    """The newest messages of each topic, spanning what an observation history of `span_s` seconds needs.

    History is by time: all messages of the span, in the order of their stamps, one for each stamp, and the one before.
    A message that cannot be stored (too large, no header) is its topic's fault until a good one comes.
    """

    def __init__(
        self,
        topics: dict[str, str],
        unstamped: Collection[str],
        span_s: float,
        contract: Contract | None = None,
        ahead_ns: int = FUTURE_LIMIT_NS,
    ) -> None:
        """topics: topic -> type; unstamped: those whose messages count from when they come (Contract.unstamped).

        contract: what its observations say of sizes, joints and messages that may be sent once is respected. ahead_ns:
        how far ahead of now a stamp may lie [ns].
        """
        self._ahead_ns = ahead_ns
        self.topics, self._unstamped, self._span_ns = topics, frozenset(unstamped), round(span_s * 1e9)
        self._lock = threading.Lock()
        # What is kept, by topic; and by slot too, where observations need messages of their own on one topic.
        self._slots = {} if contract is None else shared_topics(contract.observations)
        names = [*topics, *(slot(topic, key) for topic, by_key in self._slots.items() for key in by_key)]
        self._kept: dict[str, list[RawMessage]] = {name: [] for name in names}
        self._bytes = dict.fromkeys(names, 0)
        self._cut_ns: dict[str, int] = {}
        self._faults: dict[str, str] = {}
        self.refused = 0
        self._number = 0
        self._most: dict[str, float] = {}
        self._joints: dict[str, list[frozenset[str]]] = {}
        self._serving: dict[str, int] = {}
        self._odd: dict[str, frozenset[str]] = {}
        self._others: dict[str, set[frozenset[str]]] = {}
        seen = {} if contract is None else dict(contract.observations)
        # Under which name, of which topic, messages are that tell where the robot was.
        self._followed = {self._name(k, seen[k].topic): seen[k].topic for k in (followed(contract) if contract else ())}
        transforms = transforms_followed(contract) if contract else {}
        fixed = contract.robot.tf_static if contract else ""
        # What TF tells has no one stamp; it is kept in order of arrival, the fixed part beyond `clear`.
        self._transforms: dict[str, deque[RawMessage]] = {
            topic: deque(maxlen=MOST_FIXED if topic == fixed else MOST_TRANSFORMS) for topic in transforms
        }
        self._fixed, self._kinds = fixed, {**topics, **transforms}
        for obs in seen.values():
            for topic in obs.topics:
                self._most[topic] = max(self._most.get(topic, 0.0), obs.max_mb * 1e6)
            if isinstance(obs, JointStateObs):
                self._joints.setdefault(obs.topic, []).append(frozenset(obs.sent_names))
        regular = {self._name(key, t) for key, obs in seen.items() if obs.resample == "as_of" for t in obs.streams}
        regular |= {
            topic for topic, by_key in self._slots.items() if any(slot(topic, key) in regular for key in by_key)
        }
        self._once = frozenset(names) - regular if seen else frozenset[str]()
        self.listener: Callable[[int], None] | None = None

    def _name(self, key: str, topic: str) -> str:
        """Under which name the messages for observation `key` on `topic` are kept."""
        return slot(topic, key) if key in self._slots.get(topic, ()) else topic

    def push(self, topic: str, raw: bytes, receive_ns: int) -> None:
        """Store one message; called from subscription callbacks. Then `listener`, if set, is told `receive_ns`."""
        if topic in self._transforms and len(raw) <= MOST_TRANSFORM_BYTES:
            with self._lock:
                self._number += 1
                self._transforms[topic].append(RawMessage(receive_ns, raw, self._kinds[topic], self._number))
        if topic not in self.topics:
            return
        fault, stamp = "", receive_ns
        most = self._most.get(topic, float("inf"))
        if len(raw) > most:
            fault = (
                f"a message on '{topic}' has {len(raw) / 1e6:.1f} MB; max_mb is {most / 1e6:g}: raise it, or send less"
            )
        elif topic not in self._unstamped:
            try:
                stamp = header_stamp(raw)
            except (struct.error, IndexError):
                fault = f"a message on '{topic}' has {len(raw)} bytes and no header; check its publisher"
        if fault:
            self.refused += 1
            self._faults[topic] = fault
        elif self._serves(topic, raw, stamp):
            self._faults.pop(topic, None)
            self._number += 1
            message = RawMessage(stamp, raw, self.topics[topic], self._number)
            with self._lock:
                for name in (topic, *self._slots_served(topic, raw)):
                    self._keep(name, message)
        if self.listener is not None:
            self.listener(receive_ns)

    def _serves(self, topic: str, raw: bytes, stamp: int) -> bool:
        """False for a joint state that holds no observation's joints and comes from another publisher.

        It does where the joints asked for came again after one like it, and not long ago.
        """
        wanted = self._joints.get(topic)
        if wanted is None:
            return True
        try:
            names = joint_names(raw)
        except (struct.error, UnicodeDecodeError):
            return True  # decoding it will say what is wrong
        odd, others = self._odd.get(topic), self._others.setdefault(topic, set())
        if any(joints <= names for joints in wanted):
            if odd is not None and len(others) < MOST_OTHERS:
                others.add(odd)
            self._serving[topic] = stamp
            return True
        self._odd[topic] = names
        return names not in others or abs(stamp - self._serving[topic]) > SERVED_NS

    def _slots_served(self, topic: str, raw: bytes) -> list[str]:
        """Names under which a message is kept beside that of its topic."""
        if topic not in self._slots:
            return []
        names = names_of(raw)
        return [slot(topic, key) for key, joints in self._slots[topic].items() if joints <= names]

    def _keep(self, name: str, message: RawMessage) -> None:
        """Under the lock."""
        kept, stamp = self._kept[name], message.stamp_ns
        if kept and stamp < kept[-1].stamp_ns - WENT_BACK_NS:
            self._forget(name)  # its publisher's clock began anew
        at = bisect.bisect_left(kept, stamp, key=lambda m: m.stamp_ns)
        if at < len(kept) and kept[at].stamp_ns == stamp:
            self._bytes[name] -= len(kept[at].raw)
            kept[at] = message
        else:
            kept.insert(at, message)
        self._bytes[name] += len(message.raw)
        # The newest message at or before the start of the history must stay: it is what counts there.
        begin, drop = kept[-1].stamp_ns - self._span_ns, 0
        while drop < len(kept) - 1 and (kept[drop + 1].stamp_ns <= begin or self._bytes[name] > MOST_BYTES):
            if kept[drop + 1].stamp_ns > begin:
                self._cut_ns[name] = kept[drop + 1].stamp_ns
            self._bytes[name] -= len(kept[drop].raw)
            drop += 1
        del kept[:drop]

    def _forget(self, topic: str) -> None:
        self._kept[topic].clear()
        self._bytes[topic] = 0
        self._cut_ns.pop(topic, None)

    def clear(self) -> None:
        """Forget all messages (time went back, or the node was cleaned up)."""
        with self._lock:
            for name in self._kept:
                self._forget(name)
            for topic in self._transforms.keys() - {self._fixed}:
                self._transforms[topic].clear()
            self._faults.clear()
            for known in (self._serving, self._odd, self._others):
                known.clear()

    def newest(self, topic: str) -> RawMessage | None:
        """The newest message of `topic`, or None."""
        kept = self._kept[topic]
        try:
            return kept[-1]
        except IndexError:
            return None

    def since(self, topic: str, number: int) -> list[RawMessage]:
        """What came on `topic` after the message `number`, in order of arrival."""
        with self._lock:
            new = [message for message in self._kept[topic] if message.number > number]
        return sorted(new, key=lambda message: message.number)

    def numbers(self) -> dict[str, int]:
        """Topic that must go on -> number of its newest message, 0 if none: to tell later whether there is a newer."""
        found = {name: self.newest(name) for name in self._kept if name not in self._once}
        return {name: message.number if message else 0 for name, message in found.items()}

    def missing(self) -> list[str]:
        """Topics that have delivered nothing yet."""
        return [topic for topic in self.topics if not self._kept[topic]]

    def refuse_stale(self, contract: Contract, now_ns: int) -> None:
        """Raises StaleObservation when a stream's newest message is older than its max_age_ms at `now_ns`.

        The pipeline judges ages at the observation's own time, which may lie a little back (`synchronised_ns`); what a
        robot may act on is decided by the age now. Streams with resample 'hold' are never stale.
        """
        ahead = ""
        for key, obs in contract.observations.items():
            fault = next((self._faults[topic] for topic in obs.topics if topic in self._faults), "")
            if fault:
                raise ObservationError(f"observation '{key}': {fault}")
            of_each = (self.newest(self._name(key, topic)) for topic in obs.streams)
            newest = min(of_each, key=lambda m: m.stamp_ns if m else 0)
            if newest is not None and newest.stamp_ns - now_ns > self._ahead_ns:
                ahead_s = round((newest.stamp_ns - now_ns) / 1e9, 3)
                ahead = ahead or (
                    f"observation '{key}': '{obs.topic}' is stamped {ahead_s} s ahead of now; the clocks differ: set "
                    "use_sim_time, synchronise the machines, or set the contract's clock to 'receive'"
                )
            age_ms = (now_ns - newest.stamp_ns) / 1e6 if newest is not None else 0.0
            if obs.resample == "as_of" and age_ms > obs.max_age_ms:
                raise StaleObservation(
                    f"observation '{key}' is stale: the newest message on '{obs.topic}' is {age_ms:.0f} ms old, "
                    f"max_age_ms is {obs.max_age_ms:g}: check the publisher's rate and clock",
                    obs.topic,
                )
        if ahead:
            raise ObservationError(ahead)

    def synchronised_ns(self, now_ns: int, most_ns: int) -> int:
        """The newest time [ns] for which every topic has delivered, but at most `most_ns` before `now_ns`.

        Observed at that time, a picture goes with the joint positions of its own moment, as in training; observed now,
        it would be older than they are by its way through camera and network.
        """
        with self._lock:
            newest = [kept[-1].stamp_ns for name, kept in self._kept.items() if kept and name not in self._once]
        return max(min([now_ns, *newest]), now_ns - most_ns)

    def request(self, now_ns: int, steps: int, step_s: float) -> Request:
        """The window of `steps` observations ending at `now_ns`, `step_s` apart: newest message at or before each."""
        times = tuple(now_ns - round((steps - 1 - i) * step_s * 1e9) for i in range(steps))
        with self._lock:
            told = tuple((topic, message) for name, topic in self._followed.items() for message in self._kept[name])
            told += tuple((topic, message) for topic, kept in self._transforms.items() for message in kept)
            return Request(times, tuple(self._pick(time_ns) for time_ns in times), followed=told)

    def _pick(self, time_ns: int) -> dict[str, RawMessage]:
        chosen = {}
        for name, kept in self._kept.items():
            at = bisect.bisect_right(kept, time_ns, key=lambda m: m.stamp_ns)
            if not at and name in self._cut_ns and time_ns >= self._cut_ns[name] - self._span_ns:
                raise ObservationError(
                    f"the history of '{name}' is cut: it holds more than {MOST_BYTES / 1e6:g} MB; lower its rate or "
                    "its size"
                )
            if at or (kept and name in self._once):
                chosen[name] = kept[max(at - 1, 0)]
        return chosen


class Renewed:
    """Called, it tells whether every topic has delivered something since this was made."""

    def __init__(self, buffers: StreamBuffers) -> None:
        self._buffers, self._before = buffers, buffers.numbers()

    def __call__(self) -> bool:
        """True when nothing that was stored before need be used."""
        return not self.waiting()

    def waiting(self) -> list[str]:
        """Topics that have not delivered since."""
        return [topic for topic, number in self._buffers.numbers().items() if number <= self._before[topic]]
