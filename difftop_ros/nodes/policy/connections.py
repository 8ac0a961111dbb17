"""The policy node's topics under a contract: messages go into the buffers, commands and reports come out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool

from difftop_ros.contract import Contract
from difftop_ros.data.bags.topics import INTERVENTION_TOPIC
from difftop_ros.messages import ObservationPipeline, markers
from difftop_ros.messages.commands import array_to_command, trajectory
from difftop_ros.messages.joints import names_of
from difftop_ros.messages.places.whereabouts import transforms_followed
from difftop_ros.msg import Plan, SolverStatus
from difftop_ros.nodes.delivery import PATIENCE_S, deliver
from difftop_ros.nodes.policy.actions import ActionCommander, action_types
from difftop_ros.nodes.topics import message_class
from difftop_ros.runtime.clock import SimTime, SystemTime
from difftop_ros.runtime.course import Course
from difftop_ros.runtime.publishers import JointPublishers, crowded
from difftop_ros.runtime.streams import StreamBuffers

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TRANSFORMS_QOS = QoSProfile(depth=500, reliability=ReliabilityPolicy.BEST_EFFORT)
FIXED_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
JOINT_STATE = "sensor_msgs/msg/JointState"
MATCHED_S = 1.0  # that activation waits, at most, until every subscriber of the command is found
FLAG_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Inlet:
    """The callback of one topic's raw subscription; `publishers` for joint states, None for others."""

    def __init__(
        self, topic: str, streams: StreamBuffers, source: SystemTime | SimTime, publishers: JointPublishers | None
    ) -> None:
        self._topic, self._streams, self._source, self._publishers = topic, streams, source, publishers

    def __call__(self, raw: bytes, info: dict[str, Any]) -> None:
        """Store the message."""
        if self._publishers is not None:
            number = info.get("publication_sequence_number")
            self._publishers.note(self._topic, names_of(raw), number, time.monotonic())
        self._streams.push(self._topic, raw, self._source.now_ns())


class ClockInlet:
    """The callback of /clock."""

    def __init__(self, source: SimTime) -> None:
        self._source = source

    def __call__(self, message: Clock) -> None:
        """Take in one message."""
        self._source.update(message.clock.sec * 1_000_000_000 + message.clock.nanosec)


class SuccessInlet:
    """The callback of the contract's success topic: when it last said true, None before that."""

    def __init__(self, source: SystemTime | SimTime) -> None:
        self._source = source
        self.last_ns: int | None = None

    def __call__(self, message: Bool) -> None:
        """Take in one message."""
        if message.data:
            self.last_ns = self._source.now_ns()


class CommandPublisher:
    """The contract's command topic; a runtime.run.CommandOutlet. Made at activation: the graph tells who commands."""

    def __init__(self, node: Any, contract: Contract, source: SystemTime | SimTime) -> None:
        command, self._columns = contract.command.without_gripper()
        self._contract, self._source = contract.model_copy(update={"command": command}), source
        kind = message_class(contract.command.type)
        self._node = node
        self.publisher = node.create_publisher(kind, contract.command.topic, COMMAND_QOS)

    def wait_matched(self) -> None:
        """Wait, bounded, until every subscriber in the graph is found, so that the first command reaches them all."""
        end = time.monotonic() + MATCHED_S
        topic = self._contract.command.topic
        while self.publisher.get_subscription_count() < self._node.count_subscribers(topic) and time.monotonic() < end:
            time.sleep(0.01)

    @property
    def publishes(self) -> bool:
        """It does nothing else."""
        return True

    def beside(self, values: np.ndarray, holding: bool) -> None:
        """Nothing leaves beside the topic."""

    def fault(self) -> str:
        """A topic's subscribers say nothing."""
        return ""

    def close(self) -> None:
        """End the publisher."""
        self._node.destroy_publisher(self.publisher)

    def _message(self, values: np.ndarray) -> Any:
        return array_to_command(self._contract, values, self._source.now_ns(), message_class)

    def send(self, values: np.ndarray) -> None:
        """Publish one command (A,)."""
        self.publisher.publish(self._message(values[self._columns]))

    def send_course(self, course: Course) -> None:
        """Publish the coming commands as one JointTrajectory."""
        contract, rows = self._contract, (course.positions[:, self._columns], course.velocities[:, self._columns])
        self.publisher.publish(trajectory(contract, *rows, course.step_s, course.stamp_ns, message_class))

    def farewell(self, values: np.ndarray) -> str:
        """Publish the last command (A,) so that it arrives; the sentence to log if it did not within 0.5 s, else ''."""
        if deliver(self.publisher, self._message(values[self._columns])):
            return ""
        topic = self._contract.command.topic
        return (
            f"a subscriber of '{topic}' did not acknowledge the last command {values.tolist()} within {PATIENCE_S:g} s;"
            " make sure that the robot stands"
        )


class Connections:
    """Everything that is subscribed to and published while the node is configured; `close` ends it."""

    def __init__(
        self, node: Any, contract: Contract, source: SystemTime | SimTime, obs_steps: int, ahead_ms: float = 50.0
    ) -> None:
        """obs_steps: observations of a window, for which messages are kept; ahead_ms: by which stamps may lie ahead.

        Raises UserError for an unknown type.
        """
        self._node, self._contract = node, contract
        topics = self._topics = dict(ObservationPipeline(contract).topics)
        for kind in (*topics.values(), contract.command.type, *action_types(contract)):
            message_class(kind)
        oldest_ms = max(o.max_age_ms for o in contract.observations.values())
        self.streams = StreamBuffers(
            topics, contract.unstamped, obs_steps / contract.rate_hz + oldest_ms / 1e3, contract, round(ahead_ms * 1e6)
        )
        self._publishers = JointPublishers()
        self._subscriptions = [
            node.create_subscription(message_class(kind), topic, self._inlet(topic, source), SENSOR_QOS, raw=True)
            for topic, kind in topics.items()
        ]
        # What is sent once is kept for late comers by its publisher; others can only be heard as they are sent.
        streams = {topic for obs in contract.observations.values() for topic in obs.streams if obs.resample == "as_of"}
        self._subscriptions += [
            node.create_subscription(message_class(kind), topic, self._inlet(topic, source), LATCHED_QOS, raw=True)
            for topic, kind in topics.items()
            if topic not in streams
        ]
        for topic, kind in transforms_followed(contract).items():
            # Many publishers send their parts at once; what is fixed is kept for late comers.
            for qos in (TRANSFORMS_QOS, *([FIXED_QOS] if topic == contract.robot.tf_static else [])):
                inlet = Inlet(topic, self.streams, source, None)
                self._subscriptions.append(node.create_subscription(message_class(kind), topic, inlet, qos, raw=True))
        if isinstance(source, SimTime):
            self._subscriptions.append(node.create_subscription(Clock, "/clock", ClockInlet(source), SENSOR_QOS))
        self.success = SuccessInlet(source)
        if contract.episode.success_topic:
            told = contract.episode.success_topic
            self._subscriptions.append(node.create_subscription(Bool, told, self.success, SENSOR_QOS))
        self._subscriptions.append(node.create_subscription(Bool, INTERVENTION_TOPIC, self._on_flag, FLAG_QOS))
        self._source = source
        self.intervened = False  # whether a person has taken over
        self.command: CommandPublisher | ActionCommander | None = None
        self.plan = node.create_publisher(Plan, "difftop/plan", 1)
        self.status = node.create_publisher(SolverStatus, "difftop/solver_status", 10)
        self.markers = node.create_publisher(message_class(markers.ARRAY), "difftop/markers", 1)

    def _inlet(self, topic: str, source: SystemTime | SimTime) -> Inlet:
        return Inlet(topic, self.streams, source, self._publishers if self._topics[topic] == JOINT_STATE else None)

    def _on_flag(self, message: Bool) -> None:
        self.intervened = message.data

    def crowded(self) -> str:
        """Which topic or joint has a publisher too many, '' if none. A person who has taken over may command too."""
        own = None if self.intervened else int(self.command is not None and self.command.publishes)
        clock = self._node.resolve_topic_name("/clock")
        if isinstance(self._source, SimTime) and self._node.count_publishers(clock) > 1:
            return f"several publishers send '{clock}'; only one may: end the other simulation"
        found = crowded(self._contract, self._topics, self._node.count_publishers, own)
        return found or self._publishers.finding(time.monotonic())

    def open_command(self) -> CommandPublisher | ActionCommander:
        """Announce, at activation, that this node commands the robot. Raises UserError where nobody takes commands."""
        command = self._contract.command
        publisher = None if command.action else CommandPublisher(self._node, self._contract, self._source)
        if publisher is not None and command.gripper is None:
            self.command = publisher
        else:
            self.command = ActionCommander(self._node, self._contract, publisher)
        self.command.wait_matched()
        return self.command

    def close_command(self) -> None:
        """This node commands the robot no more."""
        if self.command is not None:
            self.command.close()
            self.command = None

    def close(self) -> None:
        """End every subscription and publisher."""
        self.close_command()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in (self.plan, self.status, self.markers):
            self._node.destroy_publisher(publisher)
