"""Raw subscriptions that follow what is published: found in the graph, with a QoS every publisher can serve.

A callback gets the serialised bytes and when they came. What is done with them is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from difftop_ros.data.bags.topics import topic_finding
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError
from difftop_ros.messages.types import LARGE, read_large, ros_types

DEPTH = 500  # messages DDS keeps for us while the process is busy
OnMessage = Callable[[str, bytes, int], None]


@dataclass
class _Followed:
    kind: str
    qos: QoSProfile
    subscription: Any
    offered: list[Any]
    count: int = 0
    last_ns: int = 0


class TopicFollower:
    """Subscribes to `required` (topic -> type) and, if they appear, to `optional` topics of any type.

    Call `scan` now and then: it subscribes to what has appeared and again where a publisher with a weaker QoS joined.
    """

    def __init__(
        self, node: Node, required: Mapping[str, str], optional: list[str], on_message: OnMessage, group: Any = None,
        early: Collection[str] = (),
    ) -> None:  # fmt: skip
        """early: required topics to subscribe to before they have a publisher, so as to get its first message."""
        self._early = frozenset(early)
        self._node, self._required, self._optional = node, dict(required), list(optional)
        self._on_message, self._group = on_message, group
        self._followed: dict[str, _Followed] = {}
        self.unusable: dict[str, str] = {}  # topic -> why an optional topic cannot be recorded

    def scan(self) -> None:
        """Look at the graph and subscribe to what is there."""
        for topic in dict.fromkeys([*self._required, *self._optional]):
            infos = self._node.get_publishers_info_by_topic(topic)
            kinds = {info.topic_type for info in infos}
            kind = self._required.get(topic) or next(iter(kinds), "")
            if not infos and topic in self._early and topic not in self._followed:
                self._subscribe(topic, kind, [QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)])
            if not infos or kind not in kinds or topic in self.unusable:
                continue
            offered = [info.qos_profile for info in infos if info.topic_type == kind]
            known = self._followed.get(topic)
            if known is None:
                self._subscribe(topic, kind, offered)
                continue
            known.offered = offered
            if (_servable(offered).reliability, _servable(offered).durability) != (
                known.qos.reliability,
                known.qos.durability,
            ):
                self._node.destroy_subscription(known.subscription)
                self._subscribe(topic, kind, offered, known.count)

    def _subscribe(self, topic: str, kind: str, offered: list[QoSProfile], count: int = 0) -> None:
        try:
            message_class = ros_types(kind)
        except (ImportError, AttributeError):
            self.unusable[topic] = f"messages of type {kind} are not installed here"
            return
        qos = _servable(offered)

        # Entered first: another thread may deliver a message before create_subscription returns.
        followed = self._followed[topic] = _Followed(kind, qos, None, offered, count)
        followed.subscription = self._node.create_subscription(
            message_class, topic, partial(self._received, topic), qos, raw=True, callback_group=self._group
        )

    def _received(self, topic: str, raw: bytes) -> None:
        now = self._node.get_clock().now().nanoseconds
        followed = self._followed[topic]
        followed.count += 1
        followed.last_ns = now
        self._on_message(topic, raw, now)

    @property
    def types(self) -> dict[str, str]:
        """Topic -> type of everything subscribed to."""
        return {topic: followed.kind for topic, followed in self._followed.items()}

    def latched(self, topic: str) -> bool:
        """Whether every publisher keeps its last message for late subscribers."""
        return self._followed[topic].qos.durability == DurabilityPolicy.TRANSIENT_LOCAL

    def offered_qos(self, topic: str) -> list[Qos]:
        """What the publishers offer, in the form a bag stores."""
        return [_bag_qos(qos) for qos in self._followed[topic].offered]

    def received(self, topic: str) -> tuple[int, int]:
        """(messages so far, time of the last [ns], 0 if none)."""
        followed = self._followed.get(topic)
        return (followed.count, followed.last_ns) if followed else (0, 0)

    def findings(self) -> list[str]:
        """One sentence per required topic that is missing, of another type or without a publisher; [] if none is."""
        present = {name: kinds[0] for name, kinds in self._node.get_topic_names_and_types() if kinds}
        for topic, kind in self._required.items():
            if any(kind == info.topic_type for info in self._node.get_publishers_info_by_topic(topic)):
                present[topic] = kind
        found = []
        for topic, kind in self._required.items():
            sentence = topic_finding(topic, kind, present)
            if not sentence and not self._node.count_publishers(topic):
                sentence = f"topic '{topic}' has no publisher; start its driver"
            if sentence:
                found.append(sentence)
        return found


def _servable(offered: list[QoSProfile]) -> QoSProfile:
    """The strongest QoS that every publisher can serve."""
    reliable = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
    latched = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
    return QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _bag_qos(qos: QoSProfile) -> Qos:
    def duration(value: Any) -> QosTime:
        seconds, nanoseconds = divmod(value.nanoseconds, 1_000_000_000)
        return QosTime(seconds, nanoseconds)

    return Qos(
        QosHistory(int(qos.history)), qos.depth, QosReliability(int(qos.reliability)),
        QosDurability(int(qos.durability)), duration(qos.deadline), duration(qos.lifespan),
        QosLiveliness(int(qos.liveliness)), duration(qos.liveliness_lease_duration),
        qos.avoid_ros_namespace_conventions,
    )  # fmt: skip


def deserialize(raw: bytes | memoryview, kind: str) -> Any:
    """A message of type `kind` ('sensor_msgs/msg/Image') from its serialized bytes. Else ObservationError."""
    try:
        return read_large(raw, kind) if kind in LARGE else deserialize_message(bytes(raw), message_class(kind))
    except UserError:
        raise
    except Exception as error:  # RMWError, MemoryError and what else wrong bytes bring about
        raise ObservationError(
            f"a message of {len(raw)} bytes is not a {kind} ({type(error).__name__}); check who publishes it"
        ) from None


def message_class(kind: str) -> Any:
    """The class of a ROS type name. Raises UserError if its package is not installed."""
    try:
        return ros_types(kind)
    except (ImportError, AttributeError):
        package = kind.split("/")[0]
        raise UserError(f"message type '{kind}' is not installed here; install the ROS package '{package}'") from None
