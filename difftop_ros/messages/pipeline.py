"""The observation pipeline: messages to frames, and which message counts at which time. One code for bags and live.

`decode` makes one observation out of messages; `observe` chooses by time, says what is missing or stale, and decodes.
Reading bags, subscribing to topics and stacking history are done by those who call it. No ROS is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, DepthCloudObs, ImageObs, JointStateObs, PointCloudObs
from difftop_ros.messages.clouds import process_cloud
from difftop_ros.messages.errors import ObservationError, StaleObservation
from difftop_ros.messages.joints import decode_joint_state
from difftop_ros.messages.points import DepthProjector, decode_point_cloud

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
# Stamps that are meant to fall on the policy grid may miss it by rounding (seconds as float, drivers that truncate).
GRID_TOLERANCE_NS = 100_000
# A stamp this far ahead of `now` is another clock, not jitter.
FUTURE_LIMIT_NS = 1_000_000_000


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


def message_stamp(clock: str, message: Any, receive_ns: int) -> int:
    """Time of a message [ns]: its header stamp under clock 'header' (if it has a header), else when it was received."""
    header = getattr(message, "header", None)
    if clock == "receive" or header is None:
        return receive_ns
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


class ObservationPipeline:
    """Makes the contract's observations out of ROS messages (rclpy's or rosbags').

    topics: topic -> ROS type of everything needed; inputs: key -> its topics, the stream first, then camera_info;
    spec: key -> (shape, dtype) of its frame. Not thread-safe: one per thread.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.topics: dict[str, str] = {}
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.spec: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self._projectors: dict[str, DepthProjector] = {}
        self._cache: dict[str, tuple[tuple[Any, ...], np.ndarray]] = {}
        for key, obs in contract.observations.items():
            self.inputs[key] = (obs.topic, obs.camera_info) if isinstance(obs, DepthCloudObs) else (obs.topic,)
            self._add_topic(obs.topic, obs.type)
            if isinstance(obs, DepthCloudObs):
                self._add_topic(obs.camera_info, CAMERA_INFO)
                self._projectors[key] = DepthProjector()
            self.spec[key] = _frame_spec(obs)

    def _add_topic(self, topic: str, kind: str) -> None:
        if self.topics.setdefault(topic, kind) != kind:
            raise ObservationError(
                f"topic '{topic}' is used as {self.topics[topic]} and as {kind}; a topic has one type: correct the "
                "contract"
            )

    def decode(self, key: str, messages: Mapping[str, Any]) -> np.ndarray:
        """The frame of observation `key` from its messages by topic; see `spec`. Raises ObservationError."""
        obs = self.contract.observations[key]
        message = messages[obs.topic]
        try:
            return self._decode(key, obs, message, messages)
        except AttributeError as error:
            raise ObservationError(
                f"message on '{obs.topic}' is a {type(message).__name__}, expected {obs.type} ({error}): "
                "correct the observation's type or topic"
            ) from None

    def _decode(self, key: str, obs: Any, message: Any, messages: Mapping[str, Any]) -> np.ndarray:
        if isinstance(obs, JointStateObs):
            return decode_joint_state(message, obs)
        if isinstance(obs, ImageObs):
            from difftop_ros.messages.images import decode_colour, decode_compressed, process_image

            compressed = obs.type.endswith("CompressedImage")
            return process_image((decode_compressed if compressed else decode_colour)(message, obs.topic), obs)
        if isinstance(obs, PointCloudObs):
            return process_cloud(decode_point_cloud(message, obs.topic, obs.color), obs)
        from difftop_ros.messages.images import decode_depth

        depth = decode_depth(message, obs.topic)
        info = messages[obs.camera_info]
        points = self._projectors[key].points(depth, info, obs.depth_range_m, obs.topic, message.header.frame_id)
        return process_cloud(points, obs)

    def observe(self, latest: Mapping[str, tuple[int, Any]], now_ns: int, *, hold: bool = False) -> Observation:
        """The observation at time `now_ns` from the newest message of each topic, topic -> (stamp [ns], message).

        A stream that has delivered nothing, or (resample 'as_of') nothing younger than max_age_ms, raises
        StaleObservation: a robot must not follow a dead camera. With hold=True, for bags, a stale stream whose
        on_stale is 'hold' keeps its last frame and is named in `stale`. Streams with resample 'hold' are never stale.
        A frame is decoded once per message. Raises ObservationError for what cannot be decoded.
        """
        frames, stamps, ages, stale = {}, {}, {}, []
        for key, obs in self.contract.observations.items():
            for topic in self.inputs[key]:
                if topic not in latest:
                    raise StaleObservation(f"observation '{key}': nothing was received on '{topic}' yet", topic)
            stamp = latest[obs.topic][0]
            age = self._age_ms(key, obs.topic, stamp, now_ns)
            if obs.resample == "as_of" and age > obs.max_age_ms + GRID_TOLERANCE_NS / 1e6:
                if not (hold and obs.on_stale == "hold"):
                    raise StaleObservation(
                        f"observation '{key}' is stale: the newest message on '{obs.topic}' is {age:.0f} ms old, "
                        f"max_age_ms is {obs.max_age_ms:g}: check the publisher's rate and clock",
                        obs.topic,
                    )
                stale.append(key)
            frames[key] = self._decode_once(key, {topic: latest[topic][1] for topic in self.inputs[key]})
            stamps[key], ages[key] = stamp, age
        return Observation(now_ns, frames, stamps, ages, tuple(stale))

    def _age_ms(self, key: str, topic: str, stamp: int, now_ns: int) -> float:
        if stamp - now_ns > FUTURE_LIMIT_NS:
            raise ObservationError(
                f"observation '{key}': '{topic}' is stamped {(stamp - now_ns) / 1e9:.1f} s ahead of now; the "
                "clocks differ: set use_sim_time, synchronise the machines, or set the contract's clock to 'receive'"
            )
        return max(now_ns - stamp, 0) / 1e6

    def _decode_once(self, key: str, messages: dict[str, Any]) -> np.ndarray:
        used, frame = self._cache.get(key, ((), None))
        current = tuple(messages.values())
        # Identity, not equality: the cache holds the messages, so an address cannot be reused meanwhile.
        if frame is not None and len(used) == len(current) and all(a is b for a, b in zip(used, current, strict=True)):
            return frame
        try:
            frame = self.decode(key, messages)
        except ObservationError as error:
            error.key = key
            raise
        self._cache[key] = (current, frame)
        return frame


def _frame_spec(obs: Any) -> tuple[tuple[int, ...], np.dtype]:
    if isinstance(obs, JointStateObs):
        return (len(obs.fields) * len(obs.joints),), np.dtype(np.float32)
    if isinstance(obs, ImageObs):
        return (*obs.resize, 3), np.dtype(np.uint8)
    return (obs.points, 6 if obs.color else 3), np.dtype(np.float32)
