"""Fixtures shared by all tests: a ROS domain of one's own, subprocesses that never outlive their test, small bags.

Lives here: `ros_domain`, `ros_context`, `spawn`, `arm`. Not here: fixtures of one area only (they live in its tests).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch is imported anywhere: on a busy machine threads that wait for each other cost minutes, not milliseconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from difftop_ros.nodes.children import domain_is_free
from difftop_ros.nodes.environment import clean_shared_memory, ros_environment
from tools.patience import patience

DOMAINS = range(1, 101)  # above 101 the ports of a domain reach into Linux's ephemeral range


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A ROS domain id that no other test on this machine uses now; the process environment is set for it.

    Environment: ROS_DOMAIN_ID, ROS_HOME, discovery LOCALHOST, loopback DDS profile, AMENT_PREFIX_PATH, field checks.
    Subprocesses started in the test inherit it. The id is reserved by a file lock, so that parallel test runs
    (pytest-xdist, a second checkout) never meet; the lock vanishes with the process.
    """
    folder = Path(tempfile.gettempdir()) / f"difftop_ros_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    start = secrets.randbelow(len(DOMAINS))  # not `random`, which pytest-randomly seeds alike in every worker
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(start + offset) % len(DOMAINS)]
        with (folder / str(domain)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            if not domain_is_free(domain):  # by a demo or a recording, which take no lock
                continue
            for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_LOCALHOST_ONLY"):
                monkeypatch.delenv(name, raising=False)
            for name, value in ros_environment(local_only=True).items():
                if os.environ.get(name) != value:
                    monkeypatch.setenv(name, value)
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            monkeypatch.setenv("ROS_HOME", str(tmp_path / "ros_home"))
            monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
            monkeypatch.setenv("PYTHONUNBUFFERED", "1")
            yield domain
            return
    pytest.fail(f"all ROS domains {DOMAINS.start}..{DOMAINS.stop - 1} are in use by other tests (see {folder})")


@pytest.fixture
def ros_context(ros_domain: int) -> Iterator[object]:
    """An initialised rclpy Context in the test's own domain, shut down afterwards."""
    rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed in this environment")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    yield context
    context.try_shutdown()


class Spawned:
    """A subprocess started by a test: its output goes to a file, and it ends with the test."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str]) -> None:
        self.command = command
        self.log = log
        with log.open("wb") as sink:
            self.popen = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        """Everything written so far to stdout and stderr."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        """Waits until `text` appears in the output; fails with the output when it does not or the process ends."""
        deadline = time.monotonic() + patience(timeout)
        while text not in self.output():
            ended = self.popen.poll()
            if ended is not None and text not in self.output():
                pytest.fail(f"{self.command} ended with {ended} before writing {text!r}:\n{self.output()}")
            if time.monotonic() > deadline:
                pytest.fail(f"{self.command} did not write {text!r} within {timeout} s:\n{self.output()}")
            time.sleep(0.02)

    def wait(self, timeout: float = 30.0) -> int:
        """Waits for the process to end by itself; returns its exit code, fails with its output on time out."""
        try:
            return self.popen.wait(patience(timeout))
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.command} did not end within {timeout} s:\n{self.output()}")

    def interrupt(self, timeout: float = 10.0) -> int:
        """Ctrl-C for the process and its children; returns the exit code, fails when it does not end in time."""
        self._signal(signal.SIGINT)
        return self.wait(timeout)

    def stop(self) -> None:
        """Ends the process and everything it started: SIGINT, then SIGTERM, then SIGKILL, each with a bounded wait."""
        for number, most in ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            if self.popen.poll() is not None:
                break
            self._signal(number)
            try:
                self.popen.wait(patience(most))
            except subprocess.TimeoutExpired:
                continue
        self._signal(signal.SIGKILL)  # grandchildren that ignored the polite ones

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.popen.pid, number)  # its own session, hence its own group: nothing else is in it
        except ProcessLookupError:
            return


@pytest.fixture
def spawn(ros_domain: int, tmp_path: Path) -> Iterator[Callable[..., Spawned]]:
    """Starts a subprocess in the test's ROS domain: `spawn("difftop_ros.nodes.trainer.node", "--ros-args", ...)`.

    A string is a module for `python -m`, a list is a command as it stands; `env=` adds variables. Returns a
    `Spawned`. At teardown every process is ended, and the output is printed for the report of a failed test.
    """
    started: list[Spawned] = []

    def start(target: str | list[str], *arguments: str, env: dict[str, str] | None = None) -> Spawned:
        command = [sys.executable, "-m", target] if isinstance(target, str) else [str(part) for part in target]
        log = tmp_path / f"process_{len(started)}.log"
        process = Spawned([*command, *map(str, arguments)], log, {**os.environ, **(env or {})})
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        process.stop()
    for process in started:
        print(f"--- {' '.join(process.command)} (exit {process.popen.returncode})\n{process.output()[-4000:]}")


class Arm:
    """Demonstrations of a two-joint arm: it goes where a small heap of points lies, which a picture shows too.

    `bags` holds three episodes of 24 steps at 20 Hz as real mcap bags; `contract` is the path of a contract that reads
    joints and cloud, `text` its YAML, `with_picture` the same with the picture in place of the cloud.
    """

    EPISODES, STEPS, RATE = 3, 24, 20.0

    def __init__(self, folder: Path) -> None:
        limits = "position: [-2.0, 2.0], velocity: 4.0, acceleration: 60.0, step: 0.2"
        self.text = f"""\
name: small_arm
rate_hz: {self.RATE:g}
control_rate_hz: 50
command:
  topic: /arm/command
  type: sensor_msgs/msg/JointState
  mode: position
  joints: [{{name: shoulder, {limits}}}, {{name: elbow, {limits}}}]
observations:
  joints: {{kind: joint_state, topic: /arm/joint_states, joints: [shoulder, elbow], max_age_ms: 100}}
  cloud: {{kind: point_cloud, topic: /arm/points, frame: base, points: 32, max_age_ms: 200}}
episode: {{max_seconds: 5, success_topic: /arm/success}}
"""
        cloud = next(line for line in self.text.splitlines() if "cloud:" in line)
        self.with_picture = self.text.replace(cloud, "  picture: {kind: image, topic: /arm/picture, resize: [24, 24]}")
        self.contract = folder / "arm.yaml"
        self.contract.write_text(self.text)
        self.bags = folder / "bags"
        for episode in range(self.EPISODES):
            self.write_episode(self.bags / f"episode_{episode}", episode)

    def write_episode(
        self, folder: Path, seed: int, *, success: bool = True, steps: int = STEPS, flag: dict[int, bool] | None = None
    ) -> Path:
        """One bag; the joint positions follow the commands exactly, a step later.

        flag: step -> how the flag of an intervention is set just before it.
        """
        import numpy as np
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.messages.images import image
        from difftop_ros.messages.joints import joint_state
        from difftop_ros.messages.points import point_cloud2
        from difftop_ros.messages.types import rosbags_types

        store, types = get_typestore(Stores.ROS2_JAZZY), rosbags_types
        rng = np.random.default_rng(seed)
        position, target = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2)
        heap = (np.append(target, 0.0) + rng.normal(0, 0.02, (64, 3))).astype(np.float32)
        picture = np.zeros((48, 48, 3), np.uint8)
        row, column = (24 + 20 * target).astype(int)
        picture[row - 3 : row + 3, column - 3 : column + 3] = 255
        names = ["shoulder", "elbow"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connections: dict[str, object] = {}

            def write(topic: str, kind: str, seconds: float, message: object) -> None:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=store)
                writer.write(connections[topic], round(seconds * 1e9), bytes(store.serialize_cdr(message, kind)))

            for step in range(steps):
                now = 100.0 + 50 * seed + step / self.RATE
                if step in (flag or {}):
                    taken = types("std_msgs/msg/Bool")()
                    taken.data = flag[step]
                    write("/difftop/intervention", "std_msgs/msg/Bool", now - 0.01, taken)
                command = position + np.clip(target - position, -0.1, 0.1)
                state = joint_state(types, names, now, position)
                write("/arm/joint_states", "sensor_msgs/msg/JointState", now, state)
                cloud = point_cloud2(types, heap, now, "base")
                write("/arm/points", "sensor_msgs/msg/PointCloud2", now, cloud)
                write("/arm/picture", "sensor_msgs/msg/Image", now, image(types, picture, now, "camera"))
                order = joint_state(types, names, now + 0.001, command)
                write("/arm/command", "sensor_msgs/msg/JointState", now + 0.001, order)
                position = command
            mark = types("std_msgs/msg/Bool")()
            mark.data = success
            write("/arm/success", "std_msgs/msg/Bool", now + 0.002, mark)
        return folder


@pytest.fixture(scope="session")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """Three recorded demonstrations and the contract to read them with; tests must not write into its folders."""
    return Arm(tmp_path_factory.mktemp("arm"))


def pytest_sessionfinish() -> None:
    """Removes what killed processes left in shared memory (dead segments only)."""
    clean_shared_memory()
