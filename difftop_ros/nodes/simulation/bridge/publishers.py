"""The simulation bridge's publishers: moments, episodes and pictures become messages. When: loop.py decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.messages import images, types
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import ros_types
from difftop_ros.nodes.simulation.bridge.commands import CommandTracker
from difftop_ros.nodes.simulation.bridge.loop import EpisodeMoment, Moment, Pace, is_due
from difftop_ros.nodes.simulation.bridge.streams import Stream, joint_topics
from difftop_ros.nodes.simulation.state import STATE_TOPIC, STATE_TYPE, state_message
from difftop_ros.sim.cloud import DepthProjector, transform_points
from difftop_ros.sim.interface import SimWorld


@dataclass(frozen=True)
class Formats:
    """How pictures and clouds are encoded; see the parameters of the same names."""

    color_encoding: str
    depth_encoding: str
    compressed_format: str
    jpeg_quality: int
    cloud_fields: tuple[str, ...]
    cloud_padding: int
    cloud_big_endian: bool


class _Topic:
    """One stream's publishers; `info` is the CameraInfo that goes with it, if any."""

    def __init__(self, stream: Stream, publisher: Any, info: Any) -> None:
        self.stream, self.publisher, self.info = stream, publisher, info

    @property
    def wanted(self) -> bool:
        """Whether anyone listens."""
        listens = self.publisher.get_subscription_count() > 0
        return listens or (self.info is not None and self.info.get_subscription_count() > 0)


class BridgePublishers:
    """All publishers of the bridge on one rclpy node: the loop's Outlet."""

    def __init__(
        self,
        node: Any,
        contract: Contract,
        world: SimWorld,
        streams: tuple[Stream, ...],
        formats: Formats,
        joint_names: list[str],
        rates_hz: dict[str, float],
        tick_ns: int,
        reliable_sensors: bool,
    ) -> None:
        """joint_names: the world's joints as messages name them; rates_hz: camera -> pictures per simulated second."""
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        self._node, self._formats, self._names = node, formats, joint_names
        self._rates, self._tick_ns = rates_hz, tick_ns
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        reliability = ReliabilityPolicy.RELIABLE if reliable_sensors else ReliabilityPolicy.BEST_EFFORT
        sensor = QoSProfile(depth=5, reliability=reliability)
        self._clock = node.create_publisher(ros_types("rosgraph_msgs/msg/Clock"), "/clock", 10)
        joint_kind = ros_types("sensor_msgs/msg/JointState")
        self._joints = [
            (node.create_publisher(joint_kind, topic, 20), coupling)
            for topic, coupling in joint_topics(contract).items()
        ]
        success_topic = contract.episode.success_topic or "sim/success"
        self._success = node.create_publisher(ros_types("std_msgs/msg/Bool"), success_topic, latched)
        self._reward = node.create_publisher(ros_types("std_msgs/msg/Float64"), contract.episode.rewarded_on, 10)
        self._episode = node.create_publisher(ros_types("difftop_ros/msg/EpisodeStatus"), "sim/episode", latched)
        self._diagnostics = node.create_publisher(ros_types("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 10)
        self._state = node.create_publisher(ros_types(STATE_TYPE), STATE_TOPIC, 50)
        self._topics: dict[str, list[_Topic]] = {camera: [] for camera in world.cameras}
        infos: dict[str, Any] = {}
        for stream in streams:
            publisher = node.create_publisher(ros_types(stream.type), stream.topic, sensor)
            if stream.info_topic is not None and stream.info_topic not in infos:
                kind = ros_types("sensor_msgs/msg/CameraInfo")
                infos[stream.info_topic] = node.create_publisher(kind, stream.info_topic, sensor)
            self._topics[stream.camera].append(_Topic(stream, publisher, infos.get(stream.info_topic or "")))
        self._intrinsics = {camera: world.intrinsics(camera) for camera in world.cameras}
        self._projectors = {c: DepthProjector(K, world.width, world.height) for c, K in self._intrinsics.items()}
        self.tracker: CommandTracker | None = None

    def tick(self, moment: Moment) -> None:
        """Publishes /clock and the joint states."""
        clock = ros_types("rosgraph_msgs/msg/Clock")()
        time_s = moment.time_ns * 1e-9
        clock.clock = types.stamp(ros_types, time_s)
        self._clock.publish(clock)
        values = moment.position, moment.velocity, moment.effort
        for publisher, coupling in self._joints:
            publisher.publish(joint_state(ros_types, self._names, time_s, *values, coupling))

    def state(self, time_ns: int, world: SimWorld) -> None:
        """Publishes the world's whole state, if anyone listens."""
        if self._state.get_subscription_count():
            self._state.publish(state_message(ros_types, time_ns * 1e-9, world.snapshot()))

    def reward(self, world: SimWorld) -> None:
        """Publishes what the moment is worth, if anyone listens; after the joint states of the same moment."""
        if self._reward.get_subscription_count():
            self._reward.publish(ros_types("std_msgs/msg/Float64")(data=float(world.reward())))

    def episode(self, episode: EpisodeMoment) -> None:
        """Publishes success and the episode's status."""
        message = ros_types("std_msgs/msg/Bool")()
        message.data = episode.success
        self._success.publish(message)
        status = ros_types("difftop_ros/msg/EpisodeStatus")()
        status.header.stamp = types.stamp(ros_types, episode.time_ns * 1e-9)
        status.task, status.seed, status.step = episode.task, episode.seed, episode.step
        status.elapsed_s, status.success, status.done = episode.elapsed_s, episode.succeeded, episode.done
        self._episode.publish(status)

    def wanted(self, tick: int, force: bool) -> tuple[str, ...]:
        """Cameras that are due at this tick (all, if forced) and that someone listens to."""
        return tuple(
            camera
            for camera, topics in self._topics.items()
            if (force or is_due(tick, self._tick_ns, self._rates[camera])) and any(t.wanted for t in topics)
        )

    def frame(self, camera: str, colour: np.ndarray, depth: np.ndarray, pose: np.ndarray, time_ns: int) -> None:
        """Publishes one camera's streams, those with listeners."""
        time_s = time_ns * 1e-9
        height, width = depth.shape
        sent = set()
        for topic in self._topics[camera]:
            if not topic.wanted:
                continue
            if topic.publisher.get_subscription_count():
                topic.publisher.publish(self._message(topic.stream, colour, depth, pose, time_s))
            if topic.info is not None and topic.stream.info_topic not in sent:
                K, frame = self._intrinsics[camera], topic.stream.frame_id
                topic.info.publish(images.camera_info(ros_types, K, width, height, time_s, frame))
                sent.add(topic.stream.info_topic)

    def pace(self, pace: Pace | None, world: SimWorld) -> None:
        """Publishes /diagnostics: the simulation's pace (None in lock-step), commands, and obstacles touched so far."""
        status = ros_types("diagnostic_msgs/msg/DiagnosticStatus")()
        status.name, status.hardware_id = f"{self._node.get_name()}: simulation", "simulation"
        status.level, status.message, values = _pace_report(pace)
        if self.tracker is not None:
            values["commands_accepted"] = str(self.tracker.accepted)
            values["commands_ignored"] = str(self.tracker.ignored)
            values["last_ignored_because"] = self.tracker.last_reason
        values |= _touched(world)
        kind = ros_types("diagnostic_msgs/msg/KeyValue")
        status.values = [kind(key=key, value=value) for key, value in values.items()]
        message = ros_types("diagnostic_msgs/msg/DiagnosticArray")()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [status]
        self._diagnostics.publish(message)

    def _message(self, stream: Stream, colour: np.ndarray, depth: np.ndarray, pose: np.ndarray, time_s: float) -> Any:
        formats, frame = self._formats, stream.frame_id
        if stream.kind == "color":
            return images.image(ros_types, colour, time_s, frame, formats.color_encoding)
        if stream.kind == "compressed":
            return images.compressed_image(
                ros_types, colour, time_s, frame, formats.compressed_format, formats.jpeg_quality
            )
        if stream.kind == "depth":
            return images.depth_image(ros_types, depth, time_s, frame, formats.depth_encoding)
        points = self._projectors[stream.camera].points(depth)
        if stream.in_world:
            points = transform_points(pose, points)
        return point_cloud2(
            ros_types,
            points,
            time_s,
            frame,
            colour if "rgb" in formats.cloud_fields else None,
            order=formats.cloud_fields,
            padding=formats.cloud_padding,
            big_endian=formats.cloud_big_endian,
        )


def _touched(world: Any) -> dict[str, str]:
    """Where there are obstacles: the robot's parts and obstacles that touched since the reset, when, and how near."""
    obstacles = getattr(world, "obstacles", None)
    if not obstacles:
        return {}
    touched = "; ".join(f"{part} - {what}: {when:.3f}" for (part, what), when in obstacles.touched.items())
    return {"touched": touched, "nearest_mm": f"{1e3 * obstacles.nearest_m:.1f}"}


def _pace_report(pace: Pace | None) -> tuple[bytes, str, dict[str, str]]:
    """Diagnostic level, message and values of the simulation's pace."""
    if pace is None:
        return b"\x00", "in lock-step", {}
    slow = pace.asked > 0 and pace.achieved < 0.9 * pace.asked
    values = {
        "realtime_factor_asked": f"{pace.asked:g}",
        "realtime_factor": f"{pace.achieved:.3f}",
        "late_ticks_share": f"{pace.late_share:.3f}",
        "frames_per_s": f"{pace.frames_per_s:.1f}",
    }
    wish = f", {pace.asked:g} was asked" if slow else ""
    return b"\x01" if slow else b"\x00", f"runs at {pace.achieved:.2f} of real time{wish}", values
