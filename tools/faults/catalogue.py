"""The faults: what is done to a running policy node, and what it must do about it. Carrying them out is run.py's."""

from __future__ import annotations

import array
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

HOLDS, GOES_ON, EITHER, ENDS, DEACTIVATES = "holds", "goes on", "either", "ends", "deactivates"
RAW_HEAD = b"\x00\x01\x00\x00"


@dataclass(frozen=True)
class Fault:
    """`put` begins it on entering and ends it on leaving; it lasts `seconds`. `must`: what the node does about it.

    HOLDS: hold while it lasts and follow again after. GOES_ON: no hold by it. EITHER: both are right, as it is a matter
    of chance. ENDS: at rest, exit code 0. DEACTIVATES: at rest, the process stays.
    """

    name: str
    put: Callable[[Any], Any]
    must: str = HOLDS
    seconds: float = 0.8


class Place:
    """What a fault is put into: robot double, the node's process id and a random generator."""

    def __init__(self, robot: Any, pid: int, rng: np.random.Generator) -> None:
        self.robot, self.pid, self.rng = robot, pid, rng

    @property
    def planner(self) -> int:
        """Process id of the node's planner."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            for child in children.read().split():
                with open(f"/proc/{child}/cmdline") as line:
                    if "spawn_main" in line.read():
                        return int(child)
        raise AssertionError("the node has no planner process")


def joints(change: Callable[[Any, Place], Any]) -> Callable[[Place], Any]:
    """A fault that changes each JointState; `change` may return bytes to be sent in its place."""
    return lambda place: _altered(place, "alter_joints", change)


def cloud(change: Callable[[Any, Place], Any]) -> Callable[[Place], Any]:
    """A fault that changes each PointCloud2."""
    return lambda place: _altered(place, "alter_cloud", change)


@contextmanager
def _altered(place: Place, which: str, change: Callable[[Any, Place], Any]) -> Iterator[None]:
    def altered(message: Any) -> Any:
        result = change(message, place)
        return message if result is None else result

    setattr(place.robot, which, altered)
    try:
        yield
    finally:
        setattr(place.robot, which, lambda message: message)


@contextmanager
def stopped(place: Place, stream: str) -> Iterator[None]:
    """A stream that is not sent."""
    setattr(place.robot, stream, False)
    try:
        yield
    finally:
        setattr(place.robot, stream, True)


@contextmanager
def second(place: Place, topic: str, change: Callable[[Any, Place], Any], rate_hz: float = 50.0) -> Iterator[None]:
    """Another publisher of `topic`, which sends what the robot does, changed."""
    from sensor_msgs.msg import JointState, PointCloud2

    robot = place.robot
    kind = PointCloud2 if topic == "/arm/points" else JointState
    publisher = robot.node.create_publisher(kind, topic, 5)

    def send() -> None:
        message = kind()
        message.header.stamp = robot.node.get_clock().now().to_msg()
        if kind is JointState:
            message.name, message.position = list(robot.names), array.array("d", robot.position)
        change(message, place)
        publisher.publish(message)

    timer = robot.node.create_timer(1.0 / rate_hz, send)
    try:
        yield
    finally:
        robot.node.destroy_timer(timer)
        robot.node.destroy_publisher(publisher)


@contextmanager
def paused(pid: int, seconds: float) -> Iterator[None]:
    """A process that stands still for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)
    yield


@contextmanager
def out_of_turn(place: Place) -> Iterator[None]:
    """Transitions that an active node does not have, and parameters that it does not take."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    for number in (0, 1, 2, 3, 42, 255):
        assert not place.robot.transition(number), number
    changes = [Parameter("use_sim_time", value=True), Parameter("tracking_s", value=9.0)]
    request = SetParameters.Request(parameters=[change.to_parameter_msg() for change in changes])
    answer = place.robot.call(SetParameters, "/difftop_policy/set_parameters", request)
    assert not any(result.successful for result in answer.results), "parameters change while active"
    yield


def sent(number: int, planner: bool = False) -> Callable[[Place], Any]:
    """A signal to the node, or to its planner."""

    @contextmanager
    def send(place: Place) -> Iterator[None]:
        os.kill(place.planner if planner else place.pid, number)
        yield

    return send


@contextmanager
def announced(place: Place) -> Iterator[None]:
    """Another that has a publisher of the command."""
    from sensor_msgs.msg import JointState

    publisher = place.robot.node.create_publisher(JointState, "/arm/command", 1)
    try:
        yield
    finally:
        place.robot.node.destroy_publisher(publisher)


def moved(by: Callable[[Place], Any]) -> Callable[[Any, Place], None]:
    """Positions that are others by `by`."""

    def change(message: Any, place: Place) -> None:
        message.position = array.array("d", np.array(message.position) + by(place))

    return change


def at(*values: float) -> Callable[[Any, Place], None]:
    """Positions that are `values`."""

    def change(message: Any, place: Place) -> None:
        message.position = array.array("d", values)

    return change


def one(message: Any, place: Place) -> None:
    """One joint alone."""
    message.name, message.position = message.name[:1], message.position[:1]


def stamped(offset_s: float) -> Callable[[Any, Place], None]:
    """Stamps that are wrong by `offset_s` [s]."""

    def change(message: Any, place: Place) -> None:
        now = time.time() + offset_s
        message.header.stamp.sec, message.header.stamp.nanosec = int(now), int(now % 1 * 1e9)

    return change


def put(**fields: Any) -> Callable[[Any, Place], None]:
    """Fields of the message that are others."""

    def change(message: Any, place: Place) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return change


def zero_stamp(message: Any, place: Place) -> None:
    """No stamp."""
    message.header.stamp.sec = message.header.stamp.nanosec = 0


def garbage(message: Any, place: Place) -> bytes:
    """Bytes that mean nothing."""
    return RAW_HEAD + bytes(8) + place.rng.bytes(300)


def half(message: Any, place: Place) -> bytes:
    """The first half of a message."""
    from rclpy.serialization import serialize_message

    whole = bytes(serialize_message(message))
    return whole[: len(whole) // 2]


def points(count: int, finite: bool = True) -> Callable[[Any, Place], None]:
    """A cloud of which only `count` points are there, or are numbers."""

    def change(message: Any, place: Place) -> None:
        data = bytearray(message.data)
        first = message.point_step * count
        if finite:
            message.width, message.row_step, message.data = count, first, array.array("B", data[:first])
        else:
            nan = np.full((len(data) - first) // 4, np.nan, dtype=np.float32).tobytes()
            message.data = array.array("B", bytes(data[:first]) + nan)

    return change


def far(place: Place) -> np.ndarray:
    """An offset that no joint can have moved at once, of random signs."""
    return place.rng.uniform(0.5, 0.9, 2) * place.rng.choice([-1.0, 1.0], 2)


def nothing(message: Any, place: Place) -> None:
    """As the robot says."""


FAULTS = (
    Fault("joints: all zero", joints(at(0.0, 0.0))),
    Fault("joints: 1e308", joints(at(1e308, 0.0))),
    Fault("joints: outside the limits", joints(at(-2.9, 2.9))),
    Fault("joints: not a number", joints(at(float("nan"), 0.0))),
    Fault("joints: another pose", joints(moved(far))),
    Fault("joints: to and fro", joints(moved(lambda place: place.rng.choice([-0.1, 0.1], 2)))),
    Fault("joints: a name twice", joints(put(name=["shoulder", "shoulder"]))),
    Fault("joints: one lacks", joints(one)),
    Fault("joints: three values for two names", joints(put(position=array.array("d", [0.0, 0.0, 0.0])))),
    Fault("joints: no message", lambda place: stopped(place, "joints")),
    Fault("joints: stamps 2 s old", joints(stamped(-2.0))),
    Fault("joints: stamps .5 s ahead", joints(stamped(0.5))),
    Fault("joints: no stamp", joints(zero_stamp)),
    Fault("joints: random bytes", joints(garbage)),
    Fault("joints: half messages", joints(half)),
    Fault("joints: a second publisher that agrees", lambda place: second(place, "/arm/joint_states", nothing)),
    Fault("joints: a second publisher, .3 rad off",
          lambda place: second(place, "/arm/joint_states", moved(lambda _: 0.3))),
    Fault("joints: another joint's driver at 2 kHz",
          lambda place: second(place, "/arm/joint_states", put(name=["finger"], position=array.array("d", [0.0])), 2e3),
          GOES_ON),
    Fault("cloud: no message", lambda place: stopped(place, "cloud"), seconds=1.5),
    Fault("cloud: no point", cloud(points(0))),
    Fault("cloud: not a number", cloud(points(0, finite=False))),
    Fault("cloud: cut short", cloud(put(data=array.array("B", bytes(7))))),
    Fault("cloud: no fields", cloud(put(fields=[]))),
    Fault("cloud: point_step 2^32 - 1", cloud(put(width=0, height=1, point_step=2**32 - 1))),
    Fault("cloud: another frame", cloud(lambda message, place: setattr(message.header, "frame_id", "elsewhere"))),
    Fault("cloud: stamps 2 s old", cloud(stamped(-2.0))),
    Fault("cloud: random bytes", cloud(garbage)),
    Fault("cloud: half messages", cloud(half)),
    Fault("cloud: a second publisher", lambda place: second(place, "/arm/points", nothing)),
    Fault("command: a second publisher that is silent", announced),
    Fault("planner: stands still for 4 s", lambda place: paused(place.planner, 4.0)),
    Fault("node: stands still for .3 s", lambda place: paused(place.pid, 0.3), EITHER),
    Fault("node: stands still for 2 s", lambda place: paused(place.pid, 2.0), EITHER),
    Fault("node: requests out of turn", out_of_turn, EITHER),
    Fault("planner: killed", sent(signal.SIGKILL, planner=True), DEACTIVATES),
    *(
        Fault(f"node: {signal.Signals(number).name}", sent(number), ENDS)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    ),
)  # fmt: skip
