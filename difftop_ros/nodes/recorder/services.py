"""Who begins and ends a recorder's episodes: services ~/start and ~/stop, the simulator, keys; and /diagnostics.

What they act on is recorder.Recorder.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from difftop_ros.data.bags.topics import INTERVENTION_TOPIC
from difftop_ros.data.bags.writer import RecorderError
from difftop_ros.errors import UserError
from difftop_ros.nodes.recorder.recorder import EPISODE_TOPIC, Recorder, steady_clock, summary


class RecorderServices:
    """Offers the services, and reports rates and which streams have stopped."""

    def __init__(self, recorder: Recorder) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from std_srvs.srv import SetBool, Trigger

        self._recorder = recorder
        node = recorder.node
        node.create_service(Trigger, "~/start", self._on_start)
        node.create_service(SetBool, "~/stop", self._on_stop)
        node.create_service(Trigger, "~/discard", self._on_discard)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._before: dict[str, int] = {}
        self._subject: object = None
        self._reported = time.monotonic()
        node.create_timer(0.2, self._on_timer, clock=steady_clock())

    def _on_start(self, request: Any, response: Any) -> Any:
        try:
            response.success, response.message = True, str(self._recorder.start())
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_stop(self, request: Any, response: Any) -> Any:
        try:
            bag = self._recorder.stop(bool(request.data))
            response.success, response.message = True, summary(bag)
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_discard(self, request: Any, response: Any) -> Any:
        try:
            response.success, response.message = True, f"deleted {self._recorder.discard()}"
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_timer(self) -> None:
        """Report every second, and at once when there is something else to say."""
        level, sentence, about = self._health()
        now = time.monotonic()
        subject = (level, about)
        if subject != self._subject or now - self._reported >= 1.0:
            self._report(level, sentence, now - self._reported)
            self._subject, self._reported = subject, now

    def _health(self) -> tuple[bytes, str, object]:
        """Level, sentence, and what it is about, which stays the same while numbers in the sentence change."""
        from diagnostic_msgs.msg import DiagnosticStatus

        recorder = self._recorder
        findings, troubles = recorder.findings(), recorder.troubles()
        wrong, about = "; ".join(t.text for t in troubles), [(t.stream, t.kind) for t in troubles]
        if recorder.failure:
            return DiagnosticStatus.ERROR, recorder.failure, recorder.failure
        if findings:
            return DiagnosticStatus.ERROR, "; ".join(findings), findings
        if wrong and recorder.recording:
            return DiagnosticStatus.ERROR, f"while recording: {wrong}", about
        if wrong:
            return DiagnosticStatus.WARN, wrong, about
        sentence = f"recording {recorder.recording}" if recorder.recording else "ready"
        return DiagnosticStatus.OK, sentence, sentence

    def _report(self, level: bytes, sentence: str, passed_s: float) -> None:
        from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

        recorder = self._recorder
        values = {"recording": str(recorder.recording or "")}
        for topic in recorder.topics.types:
            count, _ = recorder.topics.received(topic)
            values[f"{topic} [Hz]"] = f"{(count - self._before.get(topic, count)) / passed_s:.1f}"
            self._before[topic] = count
        status = DiagnosticStatus(
            name=f"{recorder.node.get_name()}: recording", hardware_id=recorder.contract.name, level=level,
            message=sentence, values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )  # fmt: skip
        message = DiagnosticArray(status=[status])
        message.header.stamp = recorder.node.get_clock().now().to_msg()
        self._publisher.publish(message)


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
        self._recorder.node.get_logger().info(summary(bag))


class InterventionSwitch:
    """The flag by which a person takes over from the policy node; told again and again once it has been used."""

    EVERY_S = 0.2

    def __init__(self, node: Any) -> None:
        from std_msgs.msg import Bool

        self._publisher = node.create_publisher(Bool, INTERVENTION_TOPIC, 10)
        self._message: Any = None
        self._make = Bool
        node.create_timer(self.EVERY_S, self._tell, clock=steady_clock())

    def toggle(self) -> bool:
        """Raise the flag, or lower it; whether it is raised now."""
        self._message = self._make(data=not (self._message and self._message.data))
        self._tell()
        return bool(self._message.data)

    def _tell(self) -> None:
        if self._message is not None:
            self._publisher.publish(self._message)


class KeyboardControl:
    """Reads lines from the terminal in a thread: Enter starts, s or f ends with success or failure, d deletes the
    present or last episode, r does it anew, i takes over from the policy and gives back, q quits."""

    HELP = (
        "Enter: start an episode; s + Enter: end it as success; f + Enter: as failure; d + Enter: delete the "
        "present or last one; r + Enter: and record it anew; i + Enter: take over from the policy, and give back; "
        "q + Enter: quit"
    )

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._switch = InterventionSwitch(recorder.node)
        print(self.HELP, flush=True)
        self.thread = threading.Thread(target=self._read, name="keys", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for line in sys.stdin:
            try:
                print(self.obey(line.strip().lower()), flush=True)
            except UserError as error:
                print(f"error: {error}", flush=True)

    def obey(self, key: str) -> str:
        """Do what `key` says and return a line about it. Raises UserError when it cannot be done now."""
        if key == "":
            return f"recording {self._recorder.start()}"
        if key in ("s", "f"):
            return summary(self._recorder.stop(key == "s"))
        if key == "d":
            return f"deleted {self._recorder.discard()}"
        if key == "r":
            return f"deleted {self._recorder.discard()}; recording {self._recorder.start()}"
        if key == "i":
            return "you have taken over" if self._switch.toggle() else "given back to the policy"
        if key == "q":
            os.kill(os.getpid(), signal.SIGINT)
            return "ending"
        return self.HELP
