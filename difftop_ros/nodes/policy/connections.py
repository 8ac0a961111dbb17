"""The policy node's topics under a contract: messages go into the buffers, commands and reports come out."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from difftop_ros.contract import Contract
from difftop_ros.messages import ObservationPipeline
from difftop_ros.messages.commands import array_to_command
from difftop_ros.msg import Plan, SolverStatus
from difftop_ros.nodes.delivery import PATIENCE_S, deliver
from difftop_ros.nodes.topics import message_class
from difftop_ros.runtime.clock import SimTime, SystemTime
from difftop_ros.runtime.streams import StreamBuffers

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Inlet:
    """The callback of one topic's raw subscription."""

    def __init__(self, topic: str, streams: StreamBuffers, source: SystemTime | SimTime) -> None:
        self._topic, self._streams, self._source = topic, streams, source

    def __call__(self, raw: bytes) -> None:
        """Store the message."""
        self._streams.push(self._topic, raw, self._source.now_ns())


class ClockInlet:
    """The callback of /clock."""

    def __init__(self, source: SimTime) -> None:
        self._source = source

    def __call__(self, message: Clock) -> None:
        """Take in one message."""
        self._source.update(message.clock.sec * 1_000_000_000 + message.clock.nanosec)


class CommandPublisher:
    """The contract's command topic; a runtime.run.CommandOutlet."""

    def __init__(self, node: Any, contract: Contract, source: SystemTime | SimTime) -> None:
        self._contract, self._source = contract, source
        kind = message_class(contract.command.type)
        self.publisher = node.create_publisher(kind, contract.command.topic, COMMAND_QOS)

    def _message(self, values: np.ndarray) -> Any:
        return array_to_command(self._contract, values, self._source.now_ns(), message_class)

    def send(self, values: np.ndarray) -> None:
        """Publish one command (A,)."""
        self.publisher.publish(self._message(values))

    def farewell(self, values: np.ndarray) -> str:
        """Publish the last command (A,) so that it arrives; the sentence to log if it did not within 0.5 s, else ''."""
        if deliver(self.publisher, self._message(values)):
            return ""
        topic = self._contract.command.topic
        return (
            f"a subscriber of '{topic}' did not acknowledge the last command {values.tolist()} within {PATIENCE_S:g} s;"
            " make sure that the robot stands"
        )


class Connections:
    """Everything that is subscribed to and published while the node is configured; `close` ends it."""

    def __init__(self, node: Any, contract: Contract, source: SystemTime | SimTime, obs_steps: int) -> None:
        """obs_steps: observations of a window, for which messages are kept. Raises UserError for an unknown type."""
        self._node = node
        topics = dict(ObservationPipeline(contract).topics)
        for kind in (*topics.values(), contract.command.type):
            message_class(kind)
        oldest_ms = max(o.max_age_ms for o in contract.observations.values())
        self.streams = StreamBuffers(topics, contract.unstamped, obs_steps / contract.rate_hz + oldest_ms / 1e3)
        self._subscriptions = [
            node.create_subscription(
                message_class(kind), topic, Inlet(topic, self.streams, source), SENSOR_QOS, raw=True
            )
            for topic, kind in topics.items()
        ]
        if isinstance(source, SimTime):
            self._subscriptions.append(node.create_subscription(Clock, "/clock", ClockInlet(source), SENSOR_QOS))
        self.command = CommandPublisher(node, contract, source)
        self.plan = node.create_publisher(Plan, "difftop/plan", 1)
        self.status = node.create_publisher(SolverStatus, "difftop/solver_status", 10)

    def close(self) -> None:
        """End every subscription and publisher."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in (self.command.publisher, self.plan, self.status):
            self._node.destroy_publisher(publisher)
