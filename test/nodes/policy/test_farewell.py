"""The last command of a run arrives, though its publisher's process ends just after: over real DDS, beside a load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tools.faults.spinning import SpinningNode
from tools.patience import patience

TOPIC = "/farewell/command"
# Forks a process for each life, so that rclpy is imported once; a child ends at once after its farewell.
PUBLISHERS = """
import os, sys, time
from difftop_ros.nodes.environment import prepare
prepare(local_only=True)
import numpy as np
import rclpy
from difftop_ros.contract import parse_contract
from difftop_ros.nodes.policy.connections import CommandPublisher
from difftop_ros.runtime.clock import SystemTime

CONTRACT = '''
name: two
rate_hz: 10
control_rate_hz: 50
command:
  topic: TOPIC
  type: std_msgs/msg/Float64MultiArray
  mode: velocity
  joints: [{name: a, position: [-2, 2], velocity: 1.0}, {name: b, position: [-2, 2], velocity: 1.0}]
observations:
  state: {kind: joint_state, topic: /states, joints: [a, b]}
'''


def live(number):
    rclpy.init()
    node = rclpy.create_node(f"life_{number}")
    command = CommandPublisher(node, parse_contract(CONTRACT.replace("TOPIC", sys.argv[1])), SystemTime())
    end = time.monotonic() + 60
    while command.publisher.get_subscription_count() < 1 and time.monotonic() < end:
        time.sleep(0.005)
    for _ in range(10):
        command.send(np.array([0.5, number]))
        time.sleep(0.005)
    sentence = command.farewell(np.array([0.0, number]))
    if sentence:
        print(sentence, flush=True)
    node.destroy_node()
    rclpy.shutdown()


for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        try:
            live(number)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.fixture
def load() -> Iterator[None]:
    """Two busy loops beside the test, as many as a small machine has cores."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


class Drive(SpinningNode):
    """A reliable subscriber as a robot's drive is, spinning in a thread; `speed[n]` is the newest of publisher n."""

    def __init__(self, context: Any) -> None:
        from std_msgs.msg import Float64MultiArray

        self.speed: dict[int, float] = {}
        super().__init__(context, "drive")
        self.node.create_subscription(Float64MultiArray, TOPIC, self._on_command, 1)
        self.spin()

    def _on_command(self, message: Any) -> None:
        self.speed[int(message.data[1])] = message.data[0]


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("lives", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_every_farewell_arrives_beside_busy_loops(lives: int, ros_context: Any, spawn: Callable[..., Any]) -> None:
    drive = Drive(ros_context)
    try:
        process = spawn([sys.executable, "-c", PUBLISHERS, TOPIC, str(lives)])
        assert process.wait(360) == 0
        end = time.monotonic() + patience(5)
        while any(drive.speed.values()) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        drive.close()
    assert process.output() == "", "every subscriber acknowledged"
    assert drive.speed == dict.fromkeys(range(lives), 0.0), "each drive was told to stand"


class DeafPublisher:
    """A publisher whose subscribers acknowledge only the message with the number `heard`."""

    def __init__(self, heard: int) -> None:
        self.heard, self.sent, self.waited_s = heard, 0, 0.0

    def publish(self, message: Any) -> None:
        assert message == "stand"
        self.sent += 1

    def wait_for_all_acked(self, timeout: Any) -> bool:
        self.waited_s += timeout.nanoseconds / 1e9
        return self.sent >= self.heard


def test_a_farewell_that_is_not_acknowledged_is_sent_again_and_given_up_in_time(ros_domain: int) -> None:
    from difftop_ros.nodes.delivery import deliver

    for heard, sent, arrived in ((1, 1, True), (3, 3, True), (99, 5, False)):
        publisher = DeafPublisher(heard)
        assert deliver(publisher, "stand") is arrived
        assert publisher.sent == sent
        assert publisher.waited_s == pytest.approx(0.1 * sent)


def test_what_was_not_acknowledged_is_told(ros_context: Any) -> None:
    """A subscriber whose process is stopped cannot acknowledge: the farewell ends in time, with a sentence."""
    import os
    import signal

    import rclpy

    from difftop_ros.contract import parse_contract
    from difftop_ros.nodes.policy.connections import CommandPublisher
    from difftop_ros.runtime.clock import SystemTime

    listener = (
        "import rclpy; from std_msgs.msg import Float64MultiArray as M; rclpy.init(); n = rclpy.create_node('l'); "
        f"n.create_subscription(M, '{TOPIC}', print, 10); print('up', flush=True); rclpy.spin(n)"
    )
    text = PUBLISHERS.split("'''")[1].replace("TOPIC", TOPIC)
    node = rclpy.create_node("speaker", context=ros_context)
    command = CommandPublisher(node, parse_contract(text), SystemTime())
    process = subprocess.Popen([sys.executable, "-c", listener], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        end = time.monotonic() + patience(20)
        while command.publisher.get_subscription_count() < 1:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert command.farewell(np.zeros(2)) == ""
        os.kill(process.pid, signal.SIGSTOP)
        begin = time.monotonic()
        sentence = command.farewell(np.zeros(2))
        assert 0.4 < time.monotonic() - begin < 3.0
        assert f"a subscriber of '{TOPIC}' did not acknowledge the last command [0.0, 0.0] within 0.5 s" in sentence
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
