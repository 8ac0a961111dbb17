"""Compares a contract with what a bag or a running graph offers: what is missing, too slow, too old, undecodable.

Collecting the messages is done by those who call it; the same findings serve `contract check --bag` and `--live`.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, JointStateObs, Observation
from difftop_ros.data.bags.frames import FrameComparison
from difftop_ros.data.bags.reader import Bag
from difftop_ros.data.bags.timing import Timing, bag_timings
from difftop_ros.data.bags.topics import topic_finding
from difftop_ros.data.errors import BagError
from difftop_ros.messages.commands import command_to_array
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.joints import names_of
from difftop_ros.messages.pipeline import ObservationPipeline
from difftop_ros.messages.places.whereabouts import Whereabouts, transform_topics
from difftop_ros.messages.types import message_stamp

SAMPLES = 5  # messages of each topic, and of each driver's joints on it, that are decoded
MOST_DRIVERS = 64  # of all topics, that samples are taken of
JOINT_STATE = "sensor_msgs/msg/JointState"


@dataclass(frozen=True)
class Finding:
    """level: 'ok', 'warning' or 'error'; subject: observation key or 'command'; text: one sentence."""

    level: str
    subject: str
    text: str


@dataclass
class Offer:
    """What is there: topic -> type, topic -> Timing, topic -> a few messages with the time each was received [ns].

    followed: every message by which it is known where the robot was, as (topic, received [ns], message); frames: has
    heard all joint states and TF.
    """

    kinds: dict[str, str]
    timings: dict[str, Timing]
    samples: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    followed: list[tuple[str, int, Any]] = field(default_factory=list)
    frames: FrameComparison | None = None


def wanted_topics(contract: Contract) -> dict[str, str]:
    """Topic -> type of the observations and the command."""
    return {**ObservationPipeline(contract).topics, contract.command.topic: contract.command.type}


def offer_of_bag(bag: Bag, contract: Contract) -> Offer:
    """What an open bag offers, with samples spread over its length; `contract` as recorded (Contract.as_recorded)."""
    contract = contract.as_recorded(bag.topics)
    kinds = {topic: info.type for topic, info in bag.topics.items()}
    offer = Offer(kinds, bag_timings(bag), {})
    wanted = wanted_topics(contract)
    usable = [topic for topic in wanted if topic in kinds and not topic_finding(topic, wanted[topic], kinds)]
    picks = {t: set(np.linspace(0, bag.topics[t].count - 1, SAMPLES).astype(int).tolist()) for t in usable}
    seen = dict.fromkeys(usable, -1)
    drivers: set[tuple[str, frozenset[str]]] = set()
    follows, frames = Whereabouts(contract).topics, FrameComparison(contract)
    transforms = [topic for topic, kind in transform_topics(contract).items() if kinds.get(topic) == kind]
    compares = frames.topics if transforms else ()
    offer.frames = frames if transforms else None
    for topic, received, raw in bag.messages([*usable, *(transforms if {*follows, *compares} & {*transforms} else [])]):
        if topic in transforms:
            with suppress(BagError):
                _hear(offer, topic, received, bag.deserialize(raw, topic), follows, compares)
            continue
        seen[topic] += 1
        driver = (topic, sampled(wanted[topic], raw))
        chosen = seen[topic] in picks[topic] or (driver not in drivers and len(drivers) < MOST_DRIVERS)
        if not (chosen or topic in follows or topic in compares):
            continue
        with suppress(BagError):  # counted by ingest, whose verdict it is
            message = bag.deserialize(raw, topic)
            if chosen:
                drivers.add(driver)
                offer.samples.setdefault(topic, []).append((received, message))
            _hear(offer, topic, received, message, follows, compares)
    return offer


def _hear(
    offer: Offer, topic: str, received: int, message: Any, follows: Collection[str], compares: Collection[str]
) -> None:
    if topic in follows:
        offer.followed.append((topic, received, message))
    if topic in compares and offer.frames is not None:
        offer.frames.take(topic, received, message)


def check(contract: Contract, offer: Offer, *, live: bool) -> list[Finding]:
    """One finding or more per observation, and for the command; errors are what would keep a policy from working.

    live: a command topic without messages is not an error there, for the policy is yet to send them.
    A robot that is alone in a namespace is found there (Contract.as_recorded).
    """
    contract = contract.as_recorded(offer.kinds)
    pipeline = ObservationPipeline(contract, readings_kept=None)
    for topic, received, message in offer.followed:
        pipeline.follow(topic, message_stamp(contract.clock, message, received), message)
    found: list[Finding] = []
    for key in contract.observations:
        found += _check_observation(contract, pipeline, key, offer, live)
    told = None if offer.frames is None else offer.frames.finding()
    found += [Finding(told[0], "tf", told[1])] if told else []
    return found + _check_command(contract, offer, live) + _check_success(contract, offer)


def _check_observation(
    contract: Contract, pipeline: ObservationPipeline, key: str, offer: Offer, live: bool
) -> list[Finding]:
    obs = contract.observations[key]
    for topic in pipeline.inputs[key]:
        sentence = topic_finding(topic, pipeline.topics[topic], offer.kinds)
        if not sentence and not offer.timings.get(topic, Timing()).count:
            sentence = f"topic '{topic}' is there but no message came; is its driver running?"
        if sentence:
            return [Finding("error", key, sentence)]
    timing = offer.timings[obs.topic]
    found = _check_timing(contract, key, timing, live)
    infos = [offer.samples.get(topic, []) for topic in pipeline.inputs[key][1:]]
    for sample in _serving(obs, offer.samples.get(obs.topic, [])) if all(infos) else []:
        taken = {obs.topic: sample} | {t: there[0] for t, there in zip(pipeline.inputs[key][1:], infos, strict=True)}
        try:
            stamps = {topic: message_stamp(contract.clock, message, at) for topic, (at, message) in taken.items()}
            poses = pipeline.where.poses(key, stamps)
            pipeline.decode(key, {topic: message for topic, (_, message) in taken.items()}, poses)
        except ObservationError as error:
            return [*found, Finding("error", key, str(error))]
    if not found:
        shape, dtype = pipeline.spec[key]
        text = f"'{obs.topic}' at {timing.rate_hz:.1f} Hz, frames {dtype.name} {shape}"
        remark = f"; {contract.observations[key].remark}" if contract.observations[key].remark else ""
        found = [Finding("ok", key, text + _age_text(timing) + remark)]
    return found


def _serving(obs: Observation, samples: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Those of `samples` that are not another driver's; all of them where none is left."""
    if not isinstance(obs, JointStateObs):
        return samples
    own = [sample for sample in samples if set(obs.sent_names) & set(getattr(sample[1], "name", ()))]
    return own or samples


def sampled(kind: str, raw: bytes) -> frozenset[str]:
    """What tells messages of one driver from those of another on its topic: the joints that a joint state names."""
    return names_of(raw) if kind == JOINT_STATE else frozenset()


def _age_text(timing: Timing) -> str:
    ages = timing.ages_ms()
    if timing.other_clock():
        return ", stamped by another clock than the recorder's"
    return f", {np.median(ages):.0f} ms old when received" if ages.size else ""


def _check_timing(contract: Contract, key: str, timing: Timing, live: bool) -> list[Finding]:
    obs = contract.observations[key]
    found = []
    gap, at = timing.largest_gap()
    if obs.resample == "as_of" and gap > obs.max_age_ms:
        found.append(Finding(
            "warning", key,
            f"'{obs.topic}' has a gap of {gap:.0f} ms ({at:.1f} s after its first message, {timing.rate_hz:.1f} Hz on "
            f"average); max_age_ms is {obs.max_age_ms:g}: raise one or the other",
        ))  # fmt: skip
    ages = timing.ages_ms()
    if not (ages.size and contract.clock == "header"):
        return found
    age = float(np.median(ages))
    # In a bag the recorder's clock may rightly be another one (wall time beside simulated time).
    if live and timing.other_clock():
        found.append(Finding(
            "error", key,
            f"messages on '{obs.topic}' are stamped by another clock, {age / 1e3:.0f} s from the time they come; use "
            "simulated time, synchronise the clocks, or set the contract's clock to 'receive'",
        ))  # fmt: skip
    elif live and (age > obs.max_age_ms or age < -1000):
        found.append(Finding(
            "error", key,
            f"messages on '{obs.topic}' are {age:.0f} ms old when they come (max_age_ms {obs.max_age_ms:g}); "
            "synchronise the clocks, use simulated time, or set the contract's clock to 'receive'",
        ))  # fmt: skip
    return found


def _check_command(contract: Contract, offer: Offer, live: bool) -> list[Finding]:
    command = contract.command
    sentence = topic_finding(command.topic, command.type, offer.kinds)
    timing = offer.timings.get(command.topic, Timing())
    if sentence and live and command.topic not in offer.kinds:
        return [Finding("warning", "command", f"nobody listens or sends on '{command.topic}'; start the controller")]
    if sentence:
        return [Finding("error", "command", sentence)]
    if not timing.count:
        if live:
            return [Finding("ok", "command", f"'{command.topic}' is there; nobody commands now")]
        return [Finding("error", "command", f"no command came on '{command.topic}': nothing to learn from")]
    low, high = (np.array(side) for side in command.bounds())
    beyond: set[str] = set()
    for _, message in offer.samples.get(command.topic, []):
        try:
            values = command_to_array(contract, message)
        except ObservationError as error:
            return [Finding("error", "command", str(error))]
        outside = (values < low - 1e-6) | (values > high + 1e-6)
        beyond |= {name for name, bad in zip(command.joint_names, outside, strict=True) if bad}
    if beyond:
        text = f"commands on '{command.topic}' go beyond the limits of {sorted(beyond)}: correct the contract's limits"
        return [Finding("warning", "command", text)]
    text = f"'{command.topic}' at {timing.rate_hz:.1f} Hz, {len(low)} joints, {command.mode}"
    return [Finding("ok", "command", text)]


def _check_success(contract: Contract, offer: Offer) -> list[Finding]:
    topic = contract.episode.success_topic
    if topic is None:
        return []
    sentence = topic_finding(topic, "std_msgs/msg/Bool", offer.kinds)
    return [Finding("warning", "success", sentence)] if sentence else []


def ranked(findings: list[Finding]) -> list[Finding]:
    """The findings, errors first."""
    order = {"error": 0, "warning": 1, "ok": 2}
    return sorted(findings, key=lambda f: order[f.level])


def worst(findings: list[Finding]) -> str:
    """The worst level among findings; 'ok' when there are none."""
    levels = {f.level for f in findings}
    return next((level for level in ("error", "warning") if level in levels), "ok")
