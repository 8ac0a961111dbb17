"""The observation pipeline: messages to frames, and which message counts at which time. One code for bags and live.

`decode` makes one observation out of messages; `observe` chooses by time, says what is missing or stale, and decodes.
Reading bags, subscribing to topics and stacking history are done by those who call it. No ROS is imported here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.contract import Observation as ObservationKind
from difftop_ros.contract.observations import register_kind
from difftop_ros.messages.clouds import Poses, cloud_frame
from difftop_ros.messages.errors import ObservationError, StaleObservation
from difftop_ros.messages.images import image_frame
from difftop_ros.messages.joints import Turns, joint_frame, slot
from difftop_ros.messages.places.tool import tool_pose_frame
from difftop_ros.messages.places.whereabouts import KEPT, Whereabouts
from difftop_ros.stages import stage

# Stamps that are meant to fall on the policy grid may miss it by rounding (seconds as float, drivers that truncate).
GRID_TOLERANCE_NS = 100_000
# A stamp this far ahead of `now` is another clock, not jitter: with more, a dead stream would be noticed later by it.
FUTURE_LIMIT_NS = 50_000_000


@dataclass(frozen=True)
class Observation:
    """One synchronised observation made for time `time_ns`.

    frames: key -> array as in ObservationPipeline.spec, shared with a cache: do not write into them;
    stamps: key -> stamp [ns] of the message used; ages: key -> age [ms] at time_ns;
    stale: keys older than their max_age_ms that were held (only with hold=True).
    """

    time_ns: int
    frames: dict[str, np.ndarray]
    stamps: dict[str, int]
    ages: dict[str, float]
    stale: tuple[str, ...] = field(default=())


# kind -> the function that makes a frame from an observation's own section and its messages by topic; where the section
# has places, also from base_from_link (4, 4) of each
Decoder = Callable[..., np.ndarray]
DECODERS: dict[str, Decoder] = {
    "joint_state": joint_frame,
    "tool_pose": tool_pose_frame,
    "image": image_frame,
    "point_cloud": cloud_frame,
    "depth_cloud": cloud_frame,
}


def register(kind: str, observation: type[ObservationKind], decode: Decoder) -> None:
    """Add a kind of observation: contracts may use it, and `decode(section, messages by topic)` makes its frames.

    A section that has `places` is decoded by `decode(section, messages by topic, base_from_link (4, 4) by place)`.

    The frame must have the section's shape and dtype; raise ObservationError for a message that cannot become one.
    Raises UserError when the kind is taken.
    """
    register_kind(kind, observation)
    DECODERS[kind] = decode


class ObservationPipeline:
    """Makes the contract's observations out of ROS messages (rclpy's or rosbags').

    topics: topic -> ROS type of what frames are made of; inputs: key -> its topics, the stream first, then camera_info;
    spec: key -> (shape, dtype) of its frame; turns: the continuous joints' as counted so far; where: where the robot's
    frames were, which moving cameras need. Not thread-safe: one per thread.

    opened: makes a message of what `observe` is given, when its frame is asked for and not before; frames_kept: newest
    frames of each key that are kept, with their messages, so that overlapping windows decode each message once;
    readings_kept: joint readings that are kept to tell where the robot was; None: all.
    """

    def __init__(
        self,
        contract: Contract,
        opened: Callable[[Any], Any] = lambda message: message,
        frames_kept: int = 1,
        readings_kept: int | None = KEPT,
    ) -> None:
        self.contract = contract
        self._opened, self._frames_kept = opened, frames_kept
        self.turns = Turns(contract.continuous)
        self.where = Whereabouts(contract, readings_kept)
        self.topics: dict[str, str] = {}
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.spec: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self._cache: dict[str, deque[tuple[tuple[Any, ...], bytes, np.ndarray]]] = {}
        for key, obs in contract.observations.items():
            if obs.kind not in DECODERS:
                raise ObservationError(
                    f"observation '{key}' is of kind '{obs.kind}', which has no decoder; give it one with "
                    "difftop_ros.messages.register"
                )
            self.inputs[key] = tuple(obs.topics)
            for topic, kind in obs.topics.items():
                self._add_topic(topic, kind)
            self.spec[key] = (obs.shape, obs.dtype)

    def _add_topic(self, topic: str, kind: str) -> None:
        if self.topics.setdefault(topic, kind) != kind:
            raise ObservationError(
                f"topic '{topic}' is used as {self.topics[topic]} and as {kind}; a topic has one type: correct the "
                "contract"
            )

    def decode(self, key: str, messages: Mapping[str, Any], poses: Poses | None = None) -> np.ndarray:
        """The frame of observation `key` from its messages by topic; see `spec`. Raises ObservationError.

        poses: of what moves with the robot, as `where.poses` gives them. Angles are as in the message; `observe` counts
        their turns.
        """
        obs = self.contract.observations[key]
        message = messages[obs.topic]
        try:
            with stage(obs.kind):
                more = [poses or {}] if obs.places else []
                frame = DECODERS[obs.kind](obs, messages, *more)
        except AttributeError as error:
            raise ObservationError(
                f"message on '{obs.topic}' is a {type(message).__name__}, expected {obs.type} ({error}): "
                "correct the observation's type or topic"
            ) from None
        except ObservationError:
            raise
        # A message may be wrong in ways nobody thought of; none of them may end a run.
        except Exception as error:
            raise ObservationError(
                f"observation '{key}': the message on '{obs.topic}' cannot be decoded ({type(error).__name__}: "
                f"{error!s:.200}); check its publisher"
            ) from error
        if (frame.shape, frame.dtype) != self.spec[key]:
            shape, dtype = self.spec[key]
            raise ObservationError(
                f"observation '{key}': the decoder of kind '{obs.kind}' gave {frame.dtype} {frame.shape}, the kind "
                f"says {dtype} {shape}: correct one of them"
            )
        return frame

    def follow(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Take a message as it came, by which it is known where the robot was [ns]; others are passed over.

        `observe` follows the messages that it is given. Who hands in all of them gets poses that lie between two
        readings, where `observe` alone has the nearest before.
        """
        if topic in self.where.topics:
            try:
                self.where.take(topic, stamp_ns, self._opened(message))
            except ObservationError:
                pass  # bytes that are no message: told where they are an observation

    def observe(self, latest: Mapping[str, tuple[int, Any]], now_ns: int, *, hold: bool = False) -> Observation:
        """The observation at time `now_ns` from the newest message of each topic, topic -> (stamp [ns], message).

        Where observations need messages of their own on one topic (joints.shared_topics), joints.slot names them.

        A stream that has delivered nothing, or (resample 'as_of') nothing younger than max_age_ms, raises
        StaleObservation: a robot must not follow a dead camera. With hold=True, for bags, a stale stream whose
        on_stale is 'hold' keeps its last frame and is named in `stale`. Streams with resample 'hold' are never stale.
        A frame is decoded once per message. Raises ObservationError for what cannot be decoded.
        """
        frames, stamps, ages, stale = {}, {}, {}, []
        for topic in self.where.topics:
            for name in (topic, *(slot(topic, key) for key in self.contract.observations)):
                if name in latest:
                    self.follow(topic, *latest[name])
        for key, obs in self.contract.observations.items():
            mine = {topic: latest.get(slot(topic, key)) or latest.get(topic) for topic in self.inputs[key]}
            received = {topic: entry for topic, entry in mine.items() if entry is not None}
            for topic in mine.keys() - received.keys():
                raise StaleObservation(f"observation '{key}': nothing was received on '{topic}' yet", topic)
            stamp = min(received[topic][0] for topic in obs.streams)
            newest = max(received[topic][0] for topic in obs.streams)
            if newest - now_ns > FUTURE_LIMIT_NS:
                ahead_s = round((newest - now_ns) / 1e9, 3)
                raise ObservationError(
                    f"observation '{key}': '{obs.topic}' is stamped {ahead_s} s ahead of now; the "
                    "clocks differ: set use_sim_time, synchronise the machines, or set the contract's clock to "
                    "'receive'"
                )
            age = max(now_ns - stamp, 0) / 1e6
            if obs.resample == "as_of" and age > obs.max_age_ms + GRID_TOLERANCE_NS / 1e6:
                if not (hold and obs.on_stale == "hold"):
                    raise StaleObservation(
                        f"observation '{key}' is stale: the newest message on '{obs.topic}' is {age:.0f} ms old, "
                        f"max_age_ms is {obs.max_age_ms:g}: check the publisher's rate and clock",
                        obs.topic,
                    )
                stale.append(key)
            poses = self._poses(key, {topic: at for topic, (at, _) in received.items()})
            frame = self._decode_once(key, {topic: message for topic, (_, message) in received.items()}, poses)
            frames[key] = self.turns.frame(obs, frame)
            stamps[key], ages[key] = stamp, age
        return Observation(now_ns, frames, stamps, ages, tuple(stale))

    def _poses(self, key: str, stamps: Mapping[str, int]) -> Poses:
        try:
            return self.where.poses(key, stamps)
        except ObservationError as error:
            error.key = key
            raise

    def _decode_once(self, key: str, messages: dict[str, Any], poses: Poses) -> np.ndarray:
        kept = self._cache.setdefault(key, deque(maxlen=self._frames_kept))
        current, placed = tuple(messages.values()), b"".join(pose.tobytes() for pose in poses.values())
        for used, at, frame in kept:
            # Identity, not equality: the cache holds the messages, so an address cannot be reused meanwhile.
            same = len(used) == len(current) and all(a is b for a, b in zip(used, current, strict=True))
            if same and at == placed:
                return frame
        try:
            with stage("open"):
                opened = {topic: self._opened(message) for topic, message in messages.items()}
            frame = self.decode(key, opened, poses)
        except ObservationError as error:
            error.key = key
            raise
        kept.append((current, placed, frame))
        return frame

    def forget(self) -> None:
        """Let go of all frames, turns and readings kept."""
        self._cache.clear()
        self.where.clear()
        self.turns.last.clear()
