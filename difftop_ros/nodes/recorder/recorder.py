"""Records the contract's topics to one mcap bag per episode, as raw bytes, with a success mark.

Lives here: the life of an episode. Writing is data/bags/writer.py's, subscribing nodes/topics.py's job; who begins and
ends episodes is in services.py.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.data.bags.liveness import StreamWatch, Trouble, stopped_before
from difftop_ros.data.bags.topics import INTERVENTION_TOPIC
from difftop_ros.data.bags.writer import Definitions, EpisodeBag, RecorderError, next_folder
from difftop_ros.messages.images import PICTURES
from difftop_ros.messages.pipeline import ObservationPipeline
from difftop_ros.messages.places.whereabouts import transforms_followed

EPISODE_TOPIC = "sim/episode"


class Recorder:
    """Recording on an rclpy node; start and stop may be called from any thread while an executor spins the node."""

    def __init__(
        self, node: Any, contract: Contract, out: Path, *, name: str = "", extra: list[str] | None = None,
        compress: bool = True,
    ) -> None:  # fmt: skip
        """out: folder of the bags; name: their common name, default the contract's; extra: topics to add if present."""
        from difftop_ros.nodes.topics import TopicFollower

        self._as_written = contract  # whatever the namespace
        contract = contract.in_namespace(node.get_namespace())
        self.node, self.contract, self.out = node, contract, out
        self._name, self._compress = name or contract.name, compress
        self._definitions = Definitions()
        self._lock = threading.RLock()
        self._ending = threading.RLock()  # one bag is ended after the other, while messages come in
        self._bag: EpisodeBag | None = None
        self._begun_s = 0.0
        self._finished: list[Path] = []  # bags of this recorder, the last one last
        self._kept: dict[str, bytes] = {}  # last message of latched topics, which later bags need too
        self._failure = ""
        self._watch = StreamWatch(contract)
        self._warned: dict[str, str] = {}  # stream -> kind of trouble
        self.required = {**ObservationPipeline(contract).topics, contract.command.topic: contract.command.type}
        self._episode_topic = node.resolve_topic_name(EPISODE_TOPIC)
        self._flag_topic = node.resolve_topic_name(INTERVENTION_TOPIC)
        also = [*map(node.resolve_topic_name, optional_topics(contract)), self._episode_topic, self._flag_topic]
        optional = [*also, *(extra or [])]
        self._success_topic = contract.episode.success_topic
        optional = [topic for topic in optional if topic not in self.required]
        self.topics = TopicFollower(node, self.required, optional, self._on_message, early=[contract.command.topic])
        self._complete = False
        self._timer = node.create_timer(0.1, self._scan, clock=steady_clock())
        self.topics.scan()

    @property
    def recording(self) -> Path | None:
        """Folder of the bag being written."""
        return self._bag.folder if self._bag else None

    @property
    def failure(self) -> str:
        """Why the last recording stopped by itself, '' if it did not."""
        return self._failure

    @property
    def seconds(self) -> float:
        """How long the present bag has been recorded for [s], by the time that streams are judged by."""
        return self._now()[0] - self._begun_s if self._bag else 0.0

    def findings(self, *, without_command: bool = True) -> list[str]:
        """Why a recording would be incomplete, one sentence each. A command publisher may join later."""
        command = f"topic '{self.contract.command.topic}'"
        transforms = transforms_followed(self.contract).keys()
        silent = [f"TF places clouds, and nobody publishes {sorted(transforms)}; start who does"]
        return (silent if transforms and not transforms & self.topics.types.keys() else []) + [
            f for f in self.topics.findings() if not (without_command and f.startswith(command))
        ]

    def _now(self) -> tuple[float, float]:
        """Time [s] by which streams are judged: that of the simulation if there is one; and a steady one."""
        clock, wall = self.node.get_clock(), time.monotonic()
        return (clock.now().nanoseconds / 1e9 if clock.ros_time_is_active else wall), wall

    def troubles(self) -> list[Trouble]:
        """Observed streams that have stopped or slowed down."""
        with self._lock:
            return self._watch.troubles(*self._now())

    def rates(self) -> dict[str, float]:
        """Messages of each observed stream in the last second [Hz]."""
        with self._lock:
            return self._watch.rates(self._now()[0])

    def _warn(self) -> None:
        """Name streams at once that stop while an episode is recorded, and those that come back."""
        found = self.troubles() if self._bag else []
        for trouble in found:
            if self._warned.get(trouble.stream) != trouble.kind:
                self.node.get_logger().warning(f"while recording: {trouble.text}")
        kinds = {trouble.stream: trouble.kind for trouble in found}
        for stream in self._warned.keys() - kinds.keys() if self._bag else ():
            self.node.get_logger().info(f"while recording: {stream} is as before again")
        self._warned = kinds

    def _scan(self) -> None:
        self.topics.scan()
        self._warn()
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
            written = self._as_written
            head = {"contract": written.name, "contract_sha256": written.sha256, **attributes}
            head["contract_as_recorded"] = written.to_dict()
            folder = next_folder(self.out, self._name)
            bag = EpisodeBag(folder, head, self._definitions, compress=self._compress)
            self._failure = ""
            now = self.node.get_clock().now().nanoseconds
            for topic, raw in self._kept.items():
                self._add(bag, topic)
                bag.write(topic, now, raw)
            self._watch.begin(*self._now())
            self._bag, self._begun_s = bag, self._now()[0]
            return folder

    def stop(self, success: bool | None, **attributes: Any) -> EpisodeBag:
        """End the bag with its mark; returns it closed, with `.counts`. Raises RecorderError when none is recorded.

        Where an observed stream has stopped before, the mark names it and says that the recording is not complete.
        """
        with self._ending:
            with self._lock:
                bag, self._bag = self._bag, None
                if bag is None:
                    raise RecorderError(self._failure or "nothing is being recorded; start first")
                account = self._watch.account(*self._now())
            bag.close(success, **account, complete=not account["stopped"], **attributes)
            self._finished.append(bag.folder)
            return bag

    def discard(self) -> Path:
        """Delete the bag being recorded, or else the last one that this recorder has made; returns its folder.

        Raises RecorderError when there is none, or it cannot be deleted.
        """
        with self._ending:
            if self._bag:
                self.stop(None, interrupted=True)
            if not self._finished:
                raise RecorderError("no episode of this recorder is left to discard; older bags are yours to delete")
            folder = self._finished.pop()
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise RecorderError(f"'{folder}' cannot be deleted: {error}") from None
            return folder

    def _add(self, bag: EpisodeBag, topic: str) -> None:
        if topic not in bag.counts:
            bag.add_topic(topic, self.topics.types[topic], self.topics.offered_qos(topic))

    def _on_message(self, topic: str, raw: bytes, stamp_ns: int) -> None:
        with self._lock:
            self._watch.note(topic, raw, *self._now())
            # Marks belong to one episode: those of the last must not open the next. The flag of an intervention, raised
            # before an episode, is raised in it.
            marks = topic in (self._success_topic, self._episode_topic)
            if topic == self._flag_topic or (self.topics.latched(topic) and not marks):
                self._kept[topic] = raw
            if self._bag is None:
                return
            try:
                self._add(self._bag, topic)
                self._bag.write(topic, stamp_ns, raw)
            except RecorderError as error:
                self._failure, self._bag = str(error), None
                self.node.get_logger().error(str(error))


def summary(bag: EpisodeBag) -> str:
    """One line on a closed bag, with a warning where its streams had stopped."""
    mark = {True: "success", False: "failure", None: "unmarked"}[bag.attributes["success"]]
    line = f"{bag.folder}: {sum(bag.counts.values())} messages on {len(bag.counts)} topics, {mark}"
    stopped = stopped_before(bag.attributes.get("stopped"))
    return f"{line}; NOT COMPLETE, so no demonstration: {stopped}" if stopped else line


def optional_topics(contract: Contract) -> list[str]:
    """Topics that are recorded when they are there: camera infos, fixed transforms, the success mark, the reward."""
    success, robot = contract.episode.success_topic, contract.robot
    # What moves is told by TF for whom it places clouds, and is compared with the robot's model.
    moving = [robot.tf] if robot.description or transforms_followed(contract) else []
    marks = [*([success] if success else []), contract.episode.rewarded_on]
    return [*_camera_infos(contract), robot.tf_static, *moving, *marks]


def _camera_infos(contract: Contract) -> list[str]:
    """camera_info topics beside the observed pictures, by the convention of image_pipeline."""
    pictures = [o.topic for o in contract.observations.values() if o.type in PICTURES]
    bases = [topic.removesuffix("/compressed").rpartition("/")[0] for topic in pictures]
    return list(dict.fromkeys(f"{base}/camera_info" for base in bases if base))


def steady_clock() -> Any:
    """Wall time that goes on while simulated time stands still."""
    from rclpy.clock import Clock, ClockType

    return Clock(clock_type=ClockType.STEADY_TIME)
