"""A robot's double for benchmarks: joints that follow commands at once, cameras that show a made-up desk. No physics.

It publishes what a contract asks for, at the given size and rates, and costs as little as it can: cameras' messages are
serialised once and get a new stamp. Run as `python -m difftop_ros.nodes.simulation.double --ros-args -p contract:=...`.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

import numpy as np

from difftop_ros.contract import Observation, load_contract
from difftop_ros.errors import UserError
from difftop_ros.messages.commands import command_to_array
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.images import image
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import HEADER_BYTES, NANO, ros_types
from difftop_ros.nodes.parameters import Parameter, declare
from difftop_ros.nodes.process import named, run_node
from difftop_ros.sim.desk import CAMERA_FRAME, Desk, desk

PARAMETERS = (
    Parameter("contract", "", "path of the robot contract"),
    Parameter("width", 640, "pictures and clouds are so many points wide", bounds=(16, 4096), unit="px"),
    Parameter("height", 480, "and so many high", bounds=(16, 4096), unit="px"),
    Parameter("camera_rate", 30.0, "rate of each picture and cloud", bounds=(0.1, 200.0), unit="Hz"),
    Parameter("joint_rate", 100.0, "rate of the joint states", bounds=(1.0, 1000.0), unit="Hz"),
)


class RobotDouble:
    """A Program (nodes/process.py): publishes until a signal comes."""

    def __init__(self, node: Any) -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        values = declare(node, PARAMETERS)
        self._contract = contract = load_contract(values["contract"]).in_namespace(node.get_namespace())
        self._node, self._clock = node, node.get_clock()
        command = contract.command
        if command.mode != "position":
            raise UserError(
                f"the double follows positions, and command.mode is {command.mode!r}; take another contract"
            )
        low, high = (np.asarray(bound) for bound in command.bounds())
        self._position = np.clip(np.zeros(low.size), low, high)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(ros_types(command.type), command.topic, self._follow, newest)
        seen, made = desk(values["width"], values["height"]), dict[str, tuple[Any, bytes]]()
        self._joint_topics: dict[str, Any] = {}
        for key, obs in contract.observations.items():
            if obs.kind == "tool_pose":  # made of the joint states on its topic
                continue
            publisher = node.create_publisher(ros_types(obs.type), obs.topic, newest)
            if obs.kind == "joint_state":
                self._joint_topics[obs.topic] = publisher
            else:
                made[obs.topic] = publisher, _camera(key, obs, seen)
        self._cameras = list(made.values())
        node.create_timer(1.0 / values["joint_rate"], self._publish_joints)
        for publisher, raw in self._cameras:
            node.create_timer(1.0 / values["camera_rate"], _Camera(publisher, raw, self._clock))

    def _follow(self, message: Any) -> None:
        try:
            self._position = command_to_array(self._contract, message)
        except ObservationError as error:
            self._node.get_logger().error(str(error))

    def _publish_joints(self) -> None:
        names = self._contract.command.joint_names
        message = joint_state(ros_types, names, 0.0, self._position)
        message.header.stamp = self._clock.now().to_msg()
        for publisher in self._joint_topics.values():
            publisher.publish(message)

    def turn(self, asked: int) -> bool:
        """See Program."""
        return not asked

    def end(self) -> int:
        """See Program."""
        return 0


class _Camera:
    """A timer's callback: the same picture or cloud with a stamp of now."""

    def __init__(self, publisher: Any, raw: bytes, clock: Any) -> None:
        self._publisher, self._clock = publisher, clock
        self._begin, self._rest = raw[:4], raw[HEADER_BYTES:]

    def __call__(self) -> None:
        """Publish it."""
        stamp = struct.pack("<iI", *divmod(self._clock.now().nanoseconds, NANO))
        self._publisher.publish(b"".join((self._begin, stamp, self._rest)))


def _camera(key: str, obs: Observation, seen: Desk) -> bytes:
    """The serialised message of a camera's observation. Raises UserError for one that the desk does not show."""
    from rclpy.serialization import serialize_message

    if obs.type == "sensor_msgs/msg/Image" and obs.kind == "image":
        return serialize_message(image(ros_types, seen.colour, 0.0, CAMERA_FRAME))
    if obs.type == "sensor_msgs/msg/PointCloud2":
        return serialize_message(point_cloud2(ros_types, seen.xyz, 0.0, CAMERA_FRAME, seen.colour))
    raise UserError(
        f"observation '{key}' is a {obs.type} of kind {obs.kind}; the double shows Image and PointCloud2 alone"
    )


def main() -> int:
    """Run until a signal comes; the exit code."""
    return run_node(named("robot_double"), RobotDouble)


if __name__ == "__main__":
    sys.exit(main())
