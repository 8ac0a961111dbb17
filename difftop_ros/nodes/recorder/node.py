"""Records the contract's topics to one mcap bag per episode, as raw bytes, with a success mark.

Run it by `python -m difftop_ros.nodes.recorder.node --ros-args -p contract:=FILE -p out:=DIR`. Episodes are begun and
ended by the services ~/start and ~/stop (data: success), or by the simulator's /sim/episode with automatic:=true.
Lives here: the episode's life and the node. Writing is recorder_writer.py's, subscribing recorder_topics.py's job.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from difftop_ros.contract import Contract, load_contract
from difftop_ros.data.bags.writer import Definitions, EpisodeBag, RecorderError, next_folder
from difftop_ros.errors import UserError
from difftop_ros.messages.images import PICTURES
from difftop_ros.messages.pipeline import ObservationPipeline
from difftop_ros.nodes import environment as ros_env
from difftop_ros.paths import share_path

BOOL = "std_msgs/msg/Bool"
EPISODE_TOPIC = "sim/episode"


class Recorder:
    """Recording on an rclpy node; start and stop may be called from any thread while an executor spins the node."""

    def __init__(
        self, node: Any, contract: Contract, out: Path, *, name: str = "", extra: list[str] | None = None,
        compress: bool = True,
    ) -> None:  # fmt: skip
        """out: folder of the bags; name: their common name, default the contract's; extra: topics to add if present."""
        from difftop_ros.nodes.topics import TopicFollower

        self._sha256 = contract.sha256  # of the contract as written, whatever the namespace
        contract = contract.in_namespace(node.get_namespace())
        self.node, self.contract, self.out = node, contract, out
        self._name, self._compress = name or contract.name, compress
        self._definitions = Definitions()
        self._lock = threading.RLock()
        self._bag: EpisodeBag | None = None
        self._kept: dict[str, bytes] = {}  # last message of latched topics, which later bags need too
        self._failure = ""
        self.required = {**ObservationPipeline(contract).topics, contract.command.topic: contract.command.type}
        self._episode_topic = node.resolve_topic_name(EPISODE_TOPIC)
        optional = [*_camera_infos(contract), "/tf_static", self._episode_topic, *(extra or [])]
        self._success_topic = contract.episode.success_topic
        if self._success_topic:
            optional.append(self._success_topic)
        optional = [topic for topic in optional if topic not in self.required]
        self.topics = TopicFollower(node, self.required, optional, self._on_message)
        self._complete = False
        self._timer = node.create_timer(0.1, self._scan, clock=_steady_clock())
        self.topics.scan()

    @property
    def recording(self) -> Path | None:
        """Folder of the bag being written."""
        return self._bag.folder if self._bag else None

    @property
    def failure(self) -> str:
        """Why the last recording stopped by itself, '' if it did not."""
        return self._failure

    def findings(self, *, without_command: bool = True) -> list[str]:
        """Why a recording would be incomplete, one sentence each. A command publisher may join later."""
        command = f"topic '{self.contract.command.topic}'"
        return [f for f in self.topics.findings() if not (without_command and f.startswith(command))]

    def _scan(self) -> None:
        self.topics.scan()
        if not self._complete and set(self.required) - {self.contract.command.topic} <= set(self.topics.types):
            self._complete = True
            self.node.get_logger().info("all observed topics are there")

    def start(self, **attributes: Any) -> Path:
        """Begin a bag; attributes go to its episode.json. Raises RecorderError when topics are missing or one runs."""
        with self._lock:
            if self._bag:
                raise RecorderError(f"'{self._bag.folder}' is being recorded; stop it first")
            self.topics.scan()
            findings = self.findings()
            if findings:
                raise RecorderError("; ".join(findings))
            head = {"contract": self.contract.name, "contract_sha256": self._sha256, **attributes}
            folder = next_folder(self.out, self._name)
            bag = EpisodeBag(folder, head, self._definitions, compress=self._compress)
            self._failure = ""
            now = self.node.get_clock().now().nanoseconds
            for topic, raw in self._kept.items():
                self._add(bag, topic)
                bag.write(topic, now, raw)
            self._bag = bag
            return folder

    def stop(self, success: bool | None, **attributes: Any) -> EpisodeBag:
        """End the bag with its mark; returns it closed, with `.counts`. Raises RecorderError when none is recorded."""
        with self._lock:
            bag, self._bag = self._bag, None
            if bag is None:
                raise RecorderError(self._failure or "nothing is being recorded; start first")
        bag.close(success, **attributes)
        return bag

    def _add(self, bag: EpisodeBag, topic: str) -> None:
        if topic not in bag.counts:
            bag.add_topic(topic, self.topics.types[topic], self.topics.offered_qos(topic))

    def _on_message(self, topic: str, raw: bytes, stamp_ns: int) -> None:
        with self._lock:
            # Marks belong to one episode: those of the last must not open the next.
            if topic not in (self._success_topic, self._episode_topic) and self.topics.latched(topic):
                self._kept[topic] = raw
            if self._bag is None:
                return
            try:
                self._add(self._bag, topic)
                self._bag.write(topic, stamp_ns, raw)
            except RecorderError as error:
                self._failure, self._bag = str(error), None
                self.node.get_logger().error(str(error))


class AutomaticEpisodes:
    """Starts and stops a recorder by the simulator's EpisodeStatus: a bag per episode, ended `stay_s` after its end."""

    def __init__(self, recorder: Recorder, stay_s: float) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from difftop_ros.msg import EpisodeStatus

        self._recorder, self._stay_s = recorder, stay_s
        self._last: Any = None
        self._done_at: float | None = None
        qos = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        recorder.node.create_subscription(EpisodeStatus, EPISODE_TOPIC, self._on_status, qos)

    def _on_status(self, status: Any) -> None:
        fresh = self._last is None or status.elapsed_s < self._last.elapsed_s or status.seed != self._last.seed
        try:
            if fresh and self._recorder.recording:
                self._stop(bool(self._last and self._last.success))
            if fresh and not status.done:
                self._done_at = None
                folder = self._recorder.start(seed=int(status.seed), task=status.task)
                self._recorder.node.get_logger().info(f"recording {folder}")
            if status.done and self._done_at is None:
                self._done_at = status.elapsed_s
            ended = self._done_at is not None and status.elapsed_s >= self._done_at + self._stay_s
            if ended and self._recorder.recording:
                self._stop(status.success)
            self._last = status
        except RecorderError as error:
            # Not remembered: the next status tries again, as topics may still be appearing.
            self._recorder.node.get_logger().warning(str(error), throttle_duration_sec=2.0)

    def _stop(self, success: bool) -> None:
        bag = self._recorder.stop(success)
        self._recorder.node.get_logger().info(summary(bag, success))


def summary(bag: EpisodeBag, success: bool | None) -> str:
    """One line on a closed bag."""
    mark = {True: "success", False: "failure", None: "unmarked"}[success]
    return f"{bag.folder}: {sum(bag.counts.values())} messages on {len(bag.counts)} topics, {mark}"


def _camera_infos(contract: Contract) -> list[str]:
    """camera_info topics beside the observed pictures, by the convention of image_pipeline."""
    pictures = [o.topic for o in contract.observations.values() if o.type in PICTURES]
    bases = [topic.removesuffix("/compressed").rpartition("/")[0] for topic in pictures]
    return list(dict.fromkeys(f"{base}/camera_info" for base in bases if base))


def _steady_clock() -> Any:
    """Wall time that goes on while simulated time stands still."""
    from rclpy.clock import Clock, ClockType

    return Clock(clock_type=ClockType.STEADY_TIME)


def main(arguments: list[str] | None = None) -> int:
    """Runs the recorder until Ctrl-C or SIGTERM; an open bag is closed then. Exit code 2 for a user's mistake."""
    try:
        ros_env.prepare()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from difftop_ros.nodes.recorder.services import KeyboardControl, RecorderServices

    rclpy.init(args=arguments)
    node = rclpy.create_node("difftop_recorder")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    recorder = None
    try:
        recorder = _from_parameters(node)
        RecorderServices(recorder)
        if node.declare_parameter("keys", False, read_only("s, f, q and Enter on the terminal")).value:
            KeyboardControl(recorder)
        node.get_logger().info(f"ready: contract '{recorder.contract.name}', bags go to {recorder.out}")
        executor.spin()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        if recorder is not None and recorder.recording:
            print(summary(recorder.stop(None, interrupted=True), None), file=sys.stderr)
        executor.shutdown(timeout_sec=2.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def read_only(text: str) -> Any:
    """Descriptor of a parameter that is set at the start."""
    from rcl_interfaces.msg import ParameterDescriptor

    return ParameterDescriptor(description=text, read_only=True)


def _from_parameters(node: Any) -> Recorder:
    def parameter(name: str, default: Any, text: str) -> Any:
        return node.declare_parameter(name, default, read_only(text)).value

    path = parameter("contract", "", "path of the robot contract; '' is the demo's config/panda_table.yaml")
    contract = load_contract(path or share_path("config/panda_table.yaml"))
    out = parameter("out", "bags", "folder the bags are written into")
    name = parameter("name", "", "common name of the bags; '' is the contract's name")
    extra = parameter("extra_topics", [""], "further topics to record when they are there")
    compress = parameter("compress", True, "compress chunks with zstd")
    automatic = parameter("automatic", False, "a bag for each episode of /sim/episode, instead of the services")
    stay = parameter("stay_s", 0.5, "with automatic: go on this long after the episode's end [s]")
    topics = [topic for topic in extra if topic]
    recorder = Recorder(node, contract, Path(out).expanduser(), name=name, extra=topics, compress=compress)
    if automatic:
        AutomaticEpisodes(recorder, stay)
    return recorder


if __name__ == "__main__":
    sys.exit(main())
