"""Streams that stop or slow down while an episode is recorded, over DDS: named at once, and in the mark."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import parse_contract
from difftop_ros.data import EpisodeDataset, ingest, open_bag
from tools.patience import patience

PICTURE, JOINTS = "/camera/image_raw", "/joint_states"
PIXELS = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
CONTRACT = f"""
name: two_streams
rate_hz: 20
control_rate_hz: 50
command: {{topic: /command, type: sensor_msgs/msg/JointState, joints: [{{name: a, position: [-3, 3], velocity: 2}}]}}
observations:
  joints: {{kind: joint_state, topic: {JOINTS}, joints: [a]}}
  colour: {{kind: image, topic: {PICTURE}, resize: [8, 8]}}
"""


class Robot:
    """Publishes joint states and commands at `joints_hz`, pictures at `picture_hz`, 0: none; keeps diagnostics."""

    def __init__(self, context: Any) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image, JointState

        self.joints_hz, self.picture_hz = 50.0, 20.0
        self.told: list[Any] = []
        self.node = rclpy.create_node("robot", context=context)
        self._joints = self.node.create_publisher(JointState, JOINTS, 10)
        self._command = self.node.create_publisher(JointState, "/command", 10)
        self._picture = self.node.create_publisher(Image, PICTURE, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.told.append, 20)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = {"joints": 0.0, "picture": 0.0}
        while not self._ended.is_set():
            self._executor.spin_once(timeout_sec=0.002)
            now = time.monotonic()
            for name, rate, send in (
                ("joints", self.joints_hz, self._send_joints),
                ("picture", self.picture_hz, self._send_picture),
            ):
                if rate and now >= due[name]:
                    due[name] = max(due[name] + 1 / rate, now - 1 / rate)
                    send(self.node.get_clock().now().nanoseconds / 1e9)

    def _send_joints(self, now: float) -> None:
        from difftop_ros.messages.joints import joint_state
        from difftop_ros.messages.types import ros_types

        for publisher in (self._joints, self._command):
            publisher.publish(joint_state(ros_types, ["a"], now, np.array([0.1])))

    def _send_picture(self, now: float) -> None:
        from difftop_ros.messages.images import image
        from difftop_ros.messages.types import ros_types

        self._picture.publish(image(ros_types, PIXELS, now, "cam"))

    def says(self, words: str, level: bytes | None = None) -> None:
        """Wait until the recorder's newest diagnostics have `words`, at that level."""
        deadline = time.monotonic() + patience(15)
        while True:
            newest = self.told[-1].status[0] if self.told else None
            if newest and words in newest.message and level in (None, newest.level):
                return
            assert time.monotonic() < deadline, [t.status[0].message for t in self.told[-5:]]
            time.sleep(0.01)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5.0)
        self._executor.remove_node(self.node)
        self.node.destroy_node()


@pytest.fixture
def robot(ros_context: object) -> Iterator[Robot]:
    made = Robot(ros_context)
    yield made
    made.close()


def test_streams_that_stop_or_slow_down_are_named_at_once_and_in_the_mark(
    robot: Robot, call: Any, spawn: Any, tmp_path: Path
) -> None:
    from diagnostic_msgs.msg import DiagnosticStatus

    contract = tmp_path / "contract.yaml"
    contract.write_text(CONTRACT)
    bags = tmp_path / "bags"
    recorder = spawn(
        "difftop_ros.nodes.recorder.node", "--ros-args", "-p", f"contract:={contract}", "-p", f"out:={bags}"
    )
    robot.says("ready", DiagnosticStatus.OK)
    time.sleep(3.5)  # the usual rates, seen over some whole seconds

    # one of two stops before the end, and a person calls it a success
    stopped = Path(call("start")[1])
    time.sleep(1.5)
    robot.picture_hz = 0.0
    robot.says(f"while recording: '{PICTURE}' sent nothing for", DiagnosticStatus.ERROR)
    rates = {v.key: float(v.value) for v in robot.told[-1].status[0].values if "Hz" in v.key}
    assert rates[f"{JOINTS} [Hz]"] > 10
    recorder.wait_for(f"while recording: '{PICTURE}' sent nothing for")
    done, message = call("stop", True)
    assert done and f"success; NOT COMPLETE, so no demonstration: '{PICTURE}' sent nothing in the last" in message
    mark = json.loads((stopped / "episode.json").read_text())
    assert (mark["success"], mark["complete"], list(mark["stopped"])) == (True, False, [PICTURE])
    assert mark["streams"][JOINTS]["rate_hz"] > 20
    robot.says(f"'{PICTURE}' sent nothing for", DiagnosticStatus.WARN)

    # one slows down and recovers: named, and a success all the same
    robot.picture_hz = 20.0
    robot.says("ready")
    slow = Path(call("start")[1])
    time.sleep(1.2)
    robot.joints_hz = 12.0
    robot.says(f"while recording: '{JOINTS}' has slowed down to", DiagnosticStatus.ERROR)
    robot.joints_hz = 50.0
    recorder.wait_for(f"while recording: '{JOINTS}' is as before again")
    assert "COMPLETE" not in call("stop", True)[1]
    mark = json.loads((slow / "episode.json").read_text())
    assert (mark["success"], mark["complete"], mark["stopped"]) == (True, True, {})
    assert mark["streams"][JOINTS]["slowest_hz"] < 30

    # everything stops
    died = Path(call("start")[1])
    time.sleep(1.0)
    robot.joints_hz = robot.picture_hz = 0.0
    robot.says(f"'{JOINTS}' sent nothing")
    robot.says(f"'{PICTURE}' sent nothing")
    call("stop", True)
    assert set(json.loads((died / "episode.json").read_text())["stopped"]) == {JOINTS, PICTURE}

    report = ingest([stopped, slow, died], parse_contract(CONTRACT), tmp_path / "data")
    assert [bag.success for bag in report.bags] == [False, True, False]
    assert f"'{PICTURE}' sent nothing in the last" in report.bags[0].notes[-1]
    assert "so it counts as a failure" in report.bags[0].notes[-1]
    assert {Path(episode.attributes["bag"]).name for episode in EpisodeDataset(tmp_path / "data")} == {slow.name}


FULL = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY));"
    "from difftop_ros.nodes.recorder.node import main; sys.exit(main(sys.argv[1:]))"
)


def test_a_full_disk_ends_the_recording_in_a_sentence_and_keeps_what_was_written(
    robot: Robot, call: Any, spawn: Any, tmp_path: Path
) -> None:
    from diagnostic_msgs.msg import DiagnosticStatus

    contract = tmp_path / "contract.yaml"
    contract.write_text(CONTRACT)
    settings = (f"contract:={contract}", f"out:={tmp_path / 'bags'}", "compress:=false")
    words = [word for setting in settings for word in ("-p", setting)]
    recorder = spawn([sys.executable, "-c", FULL, "--ros-args", *words])
    robot.says("ready", DiagnosticStatus.OK)
    for _ in range(2):  # the second finds the process alive and well
        folder = Path(call("start")[1])
        robot.says(f"writing '{folder}' failed: ", DiagnosticStatus.ERROR)
        done, message = call("stop", True)
        assert not done
        assert "File too large" in message
        assert "what was written before is kept" in message
        with open_bag(folder) as bag:
            assert bag.cut
            assert bag.topics[JOINTS].count > 20
            assert bag.mark()["complete"] is False
    assert "Traceback" not in recorder.output()
    assert recorder.interrupt() == 0
