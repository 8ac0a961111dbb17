"""A bag as the policy would live through it: at each of its steps the newest messages, and what is observed of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.data.bags.reader import open_bag
from difftop_ros.data.errors import BagError
from difftop_ros.messages.commands import TRAJECTORY, command_to_array, way_points
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.joints import shared_topics, slot
from difftop_ros.messages.pipeline import Observation, ObservationPipeline
from difftop_ros.messages.places.whereabouts import transforms_followed
from difftop_ros.messages.types import message_stamp


@dataclass(frozen=True)
class Step:
    """time_ns: of the step; latest: topic -> (stamp [ns], newest message); seen: the observation, None for `reason`.

    command: the last one (A,) by joint, empty before the first.
    """

    time_ns: int
    latest: dict[str, tuple[int, Any]]
    seen: Observation | None
    reason: str
    command: dict[str, float]
    pipeline: ObservationPipeline


def steps(path: Path, contract: Contract) -> Iterator[Step]:
    """Steps of the contract's rate from the first moment when every stream has sent. Raises BagError."""
    with open_bag(path) as bag:
        contract = contract.as_recorded(bag.topics)
        pipeline = ObservationPipeline(contract, readings_kept=None)
        pipeline.where.require()
        bag.require(pipeline.topics)
        command = contract.command
        followed = {*pipeline.where.topics, *transforms_followed(contract)} & set(bag.topics)
        for topic, received, raw in bag.messages(followed) if followed else ():
            with suppress(BagError):
                message = bag.deserialize(raw, topic)
                pipeline.follow(topic, _stamp(contract, topic, message, received), message)
        slots = shared_topics(contract.observations)
        latest: dict[str, tuple[int, Any]] = {}
        sent: dict[str, float] = {}
        period, next_ns = 1e9 / contract.rate_hz, 0
        wanted = {*pipeline.topics} | ({command.topic} if command.topic in bag.topics else set())
        for topic, received, raw in bag.messages(wanted):
            try:
                message = bag.deserialize(raw, topic)
            except BagError:
                continue
            stamp = _stamp(contract, topic, message, received)
            while next_ns and stamp > next_ns:
                yield _step(pipeline, latest, next_ns, sent)
                next_ns += round(period)
            if topic == command.topic:
                sent = _command(contract, message) or sent
                continue
            for name in (topic, *(slot(topic, k) for k, js in slots.get(topic, {}).items() if js <= set(message.name))):
                if stamp >= latest.get(name, (0, None))[0]:
                    latest[name] = (stamp, message)
            if not next_ns and latest.keys() >= pipeline.topics.keys():
                next_ns = stamp
        if next_ns:
            yield _step(pipeline, latest, next_ns, sent)


def _stamp(contract: Contract, topic: str, message: Any, received: int) -> int:
    return received if topic in contract.unstamped else message_stamp(contract.clock, message, received)


def _step(
    pipeline: ObservationPipeline, latest: dict[str, tuple[int, Any]], now_ns: int, sent: dict[str, float]
) -> Step:
    seen, reason = None, ""
    try:
        seen = pipeline.observe(latest, now_ns, hold=True)
    except ObservationError as error:
        reason = str(error)
    return Step(now_ns, dict(latest), seen, reason, sent, pipeline)


def _command(contract: Contract, message: Any) -> dict[str, float]:
    """What is commanded by joint; nothing where that cannot be told."""
    try:
        if contract.command.type == TRAJECTORY:
            values = way_points(contract, message)[1][0]
        else:
            values = command_to_array(contract, message)
    except ObservationError:
        return {}
    return dict(zip(contract.command.joint_names, map(float, values), strict=True))
