"""Where frames were at a stamp: by the robot's model and the joint readings before and after it, or by TF.

Whoever has seen messages hands them in (`take`), the same ones live and from bags. Between two readings joints move
evenly; beyond the first and last one the nearest counts, if it is not stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, JointStateObs
from difftop_ros.contract.base import FARTHEST, Place
from difftop_ros.errors import UserError
from difftop_ros.messages.coupling import read
from difftop_ros.messages.errors import ObservationError, StaleObservation
from difftop_ros.messages.joints import by_name, next_to
from difftop_ros.messages.places.readings import Readings
from difftop_ros.messages.places.transforms import TF_MESSAGE, Transforms
from difftop_ros.space.measured import MeasuredBody

KEPT = 4096  # readings of each observation: of a joint state of 1 kHz some seconds


def followed(contract: Contract) -> list[str]:
    """Observations of joints whose every message is wanted; none where nothing moves with the robot."""
    if not any(not place.base for obs in contract.observations.values() for place in obs.places):
        return []
    return joint_keys(contract)


def joint_keys(contract: Contract) -> list[str]:
    """Observations that measure positions of joints."""
    return [key for key, obs in contract.observations.items() if isinstance(obs, JointStateObs) and obs.positions]


def transforms_followed(contract: Contract) -> dict[str, str]:
    """Topic -> type of TF where an observation is placed by it; else none."""
    placed = any(place.base for obs in contract.observations.values() for place in obs.places)
    return transform_topics(contract) if placed else {}


def transform_topics(contract: Contract) -> dict[str, str]:
    """Topic -> type of TF."""
    return dict.fromkeys((contract.robot.tf, contract.robot.tf_static), TF_MESSAGE)


class Whereabouts:
    """Knows the poses of a contract's places. Used by one thread. keep: readings of each observation; None: all.

    every: of all that model and TF know, whether or not an observation is placed by it. tf: what TF tells.
    """

    def __init__(self, contract: Contract, keep: int | None = KEPT, every: bool = False) -> None:
        self._contract, self._turning = contract, contract.continuous
        self._readings = {key: Readings(keep) for key in (joint_keys(contract) if every else followed(contract))}
        self._transforms, self.tf = (
            transform_topics(contract) if every else transforms_followed(contract),
            Transforms(keep),
        )
        self._by_topic: dict[str, list[str]] = {}
        for key in self._readings:
            self._by_topic.setdefault(contract.observations[key].topic, []).append(key)
        self._moving: dict[str, list[str]] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """Whose messages it wants."""
        return (*self._by_topic, *self._transforms)

    @cached_property
    def body(self) -> MeasuredBody:
        """The robot as it is measured. Raises UserError for a description that cannot be read."""
        return MeasuredBody(self._contract)

    def require(self) -> None:
        """Raises UserError, now, for a model that cannot be read or lacks a link, or an unmeasured joint before it."""
        for key, obs in self._contract.observations.items():
            for place in obs.places:
                if not place.base:
                    self._moved_by(key, place)

    def _link(self, place: Place) -> str:
        return place.link or self._contract.robot.tool_frame or ""

    def _moved_by(self, key: str, place: Place) -> list[str]:
        link = self._link(place)
        if link not in self._moving:
            try:
                self._moving[link] = self.body.moving(link)
            except UserError as error:
                raise ObservationError(f"observation '{key}' is placed by the robot's model: {error}") from None
        return self._moving[link]

    def take(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Note what a message says; of observations whose joints it lacks, or has no numbers for, it says nothing."""
        if topic in self._transforms:
            try:
                by_stamp = self._contract.clock == "header"
                self.tf.take(message, None if by_stamp else stamp_ns, topic == self._contract.robot.tf_static)
            except (AttributeError, TypeError, ValueError):
                pass  # no TFMessage: what it ought to have told is missed where it is needed
        for key in self._by_topic.get(topic, ()):
            obs = self._contract.observations[key]
            if isinstance(obs, JointStateObs) and stamp_ns not in self._readings[key]:
                try:
                    values = by_name(read(message, obs.coupling), "position", list(obs.joints), topic)
                # It is an observation of its own, whose decoder tells what is wrong with it.
                except (ObservationError, AttributeError, TypeError, ValueError):
                    continue
                self._readings[key].add(stamp_ns, values)

    def poses(self, key: str, stamps: Mapping[str, int]) -> dict[Place, np.ndarray]:
        """The pose (4, 4) of each place of observation `key`; stamps: topic -> stamp [ns] of its message.

        Raises StaleObservation where no reading is near enough, ObservationError for a model that does not do.
        """
        obs = self._contract.observations[key]
        return {
            place: (self._by_tf if place.base else self.by_model)(key, place, stamps[place.topic])
            for place in obs.places
        }

    def _by_tf(self, key: str, place: Place, stamp_ns: int) -> np.ndarray:
        obs, topics = self._contract.observations[key], " and ".join(f"'{topic}'" for topic in self._transforms)
        try:
            pose, away, of = self.tf.pose(place.base, place.link, stamp_ns)
        except KeyError as error:
            raise StaleObservation(
                f"observation '{key}' is placed by TF ({topics}), and {error.args[0]}: start who publishes it",
                self._contract.robot.tf,
            ) from None
        if obs.resample == "as_of" and away > obs.max_age_ms * 1e6:
            raise StaleObservation(
                f"observation '{key}' is placed by TF, whose pose of '{of}' nearest in time to '{place.topic}' is "
                f"{away / 1e6:.0f} ms away, max_age_ms is {obs.max_age_ms:g}: check its publisher's rate and clock",
                self._contract.robot.tf,
            )
        return pose

    def by_model(self, key: str, place: Place, stamp_ns: int) -> np.ndarray:
        """base_from_link (4, 4) by the robot's model, for `key` in messages. Raises as `poses`."""
        found: dict[str, float] = {}
        names = self._moved_by(key, place)
        for source in dict.fromkeys(self.body.keys[name] for name in names):
            obs = self._contract.observations[source]
            assert isinstance(obs, JointStateObs)
            if not len(self._readings[source]):
                raise StaleObservation(
                    f"observation '{key}' moves with the robot, and nothing was received on '{obs.topic}' yet",
                    obs.topic,
                )
            nearest, before, after, share = self._readings[source].around(stamp_ns)
            if obs.resample == "as_of" and nearest > obs.max_age_ms * 1e6:
                raise StaleObservation(
                    f"observation '{key}' moves with the robot, and the reading on '{obs.topic}' nearest in time to "
                    f"'{place.topic}' is {nearest / 1e6:.0f} ms away, max_age_ms is {obs.max_age_ms:g}: check the "
                    "publisher's rate and clock",
                    obs.topic,
                )
            for name in names:
                if self.body.keys[name] != source:
                    continue
                index = obs.joints.index(name)
                begin, end = before[index], after[index]
                if name in self._turning:
                    end = next_to(end, begin)
                found[name] = float(begin + share * (end - begin))
        pose = self.body.pose(found, self._link(place))
        if not np.abs(pose).max() <= FARTHEST:
            raise ObservationError(f"observation '{key}' moves with the robot, whose joints cannot be at {found}")
        return pose

    def clear(self) -> None:
        """Forget all readings."""
        for readings in self._readings.values():
            readings.clear()
        self.tf.clear()
