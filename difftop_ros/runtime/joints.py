"""The one place where joint positions are read and judged, for control, planner and recorder. No rclpy here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, JointStateObs
from difftop_ros.messages.coupling import read
from difftop_ros.messages.joints import Turns
from difftop_ros.runtime.streams import Deserialize, StreamBuffers
from difftop_ros.safety import Belief, Verdict
from difftop_ros.safety.gate import PASS


@dataclass(frozen=True)
class JointReading:
    """Believed positions (A,) [unit] in command order, the oldest's age [ms], why they are not used ('' if they are).

    kind: what sort of doubt the fault is ('jump', 'frozen', 'two publishers', …).
    """

    position: np.ndarray
    age_ms: float
    fault: str = ""
    kind: str = "measurement"


class JointJudge:
    """Takes JointState messages in order of arrival; knows where each commanded joint is and whether that can be true.

    Drivers of different joints may publish in turn on one topic: a message counts for the joints that it names. Without
    a Belief only what is malformed is a fault.
    """

    def __init__(self, contract: Contract, belief: Belief | None = None) -> None:
        self.names = contract.command.joint_names
        self.joints: dict[str, list[int]] = {}  # topic -> indices of the joints that are read there
        self.max_age_ms = 0.0
        self.coupling: dict[str, dict[str, dict[str, float]]] = {}  # topic -> what its messages call our joints
        covered: set[str] = set()
        for obs in contract.observations.values():
            mine = [i for i, name in enumerate(self.names) if name in obs.positions and name not in covered]
            if mine:
                covered.update(self.names[i] for i in mine)
                self.joints.setdefault(obs.topic, []).extend(mine)
                self.max_age_ms = max(self.max_age_ms, obs.max_age_ms)
            if isinstance(obs, JointStateObs) and obs.coupling:
                self.coupling.setdefault(obs.topic, {}).update(obs.coupling)
        self.belief = belief
        self.turns = Turns(contract.continuous)
        self.position = np.full(len(self.names), np.nan)
        self.stamps_ns = np.zeros(len(self.names), dtype=np.int64)
        self.velocity = np.full(len(self.names), np.nan)

    def take(self, topic: str, message: Any, stamp_ns: int) -> Verdict:
        """Judge one message; its values are kept even if they are doubted, which `belief.position` never is."""
        here = self.joints[topic]
        message = read(message, self.coupling.get(topic))
        names = list(message.name)
        mine = [i for i in here if self.names[i] in names]
        fault = self._malformed(topic, message, names, mine)
        if fault or not mine:
            return Verdict(False, "malformed", fault) if fault else PASS
        places = [names.index(self.names[i]) for i in mine]
        values = np.array([message.position[place] for place in places], dtype=np.float64)
        self.position[mine] = self.turns.follow([self.names[i] for i in mine], values)
        told = len(message.velocity) == len(names) if hasattr(message, "velocity") else False
        self.velocity[mine] = [message.velocity[place] for place in places] if told else np.nan
        self.stamps_ns[mine] = stamp_ns
        bad = [self.names[i] for i in mine if not np.isfinite(self.position[i])]
        if bad:
            said = f"JointState on '{topic}' has a position that is not finite for {bad}; check its driver"
            return Verdict(False, "not finite", said)
        if self.belief is None or not self.stamps_ns.all():
            return PASS
        return self.belief.judge(self.position, stamp_ns, self.velocity, np.array(mine))

    def _malformed(self, topic: str, message: Any, names: list[str], mine: Sequence[int]) -> str:
        if len(message.position) != len(names):
            what = f"has {len(message.position)} positions for {len(names)} names"
            return f"JointState on '{topic}' {what}; the contract commands {len(self.names)} joints: {self.names}"
        twice = [self.names[i] for i in mine if names.count(self.names[i]) > 1]
        return f"JointState on '{topic}' names {twice} more than once; correct its driver" if twice else ""

    def missing(self, topic: str, newest_ns: int) -> str:
        """Which joints the messages on `topic`, the newest of `newest_ns`, lack or no longer bring; '' if none."""
        most_ns = self.max_age_ms * 1e6
        lacking = [self.names[i] for i in self.joints[topic] if newest_ns - self.stamps_ns[i] > most_ns]
        if not lacking:
            return ""
        return (
            f"JointState on '{topic}' lacks {lacking}; the contract commands {len(self.names)} joints: {self.names}; "
            "check that the driver of each runs"
        )


class JointReader:
    """The measured positions of the commanded joints, from all JointState messages since the last reading.

    What is not believed is a fault, and the last believed pose stands for it. `doubted_ns` is the stamp of the last
    message that was not believed, 0 for none; `doubts` counts them. Read by one thread.
    """

    def __init__(self, contract: Contract, buffers: StreamBuffers, deserialize: Deserialize) -> None:
        self._contract, self._buffers, self._deserialize = contract, buffers, deserialize
        self._begin(None)

    def _begin(self, belief: Belief | None) -> None:
        self._judge = JointJudge(self._contract)
        self._belief = belief
        self._seen = dict.fromkeys(self._judge.joints, 0)
        self._verdicts = dict.fromkeys(self._judge.joints, PASS)
        self.doubted_ns = self.doubts = 0
        self.last_doubt = PASS

    @property
    def max_age_ms(self) -> float:
        """The contract's largest max_age_ms of the streams that measure commanded joints [ms]."""
        return self._judge.max_age_ms

    def turns(self) -> dict[str, float]:
        """Continuous joint -> its angle [rad] as counted since the run began; may be asked by another thread."""
        return dict(self._judge.turns.last)

    def believe(self, belief: Belief) -> None:
        """Let `belief` judge what is read from now on, beginning with the pose that the newest messages make."""
        self._begin(belief)

    def forget(self) -> None:
        """Time went back: what was doubted then says nothing of now."""
        self.doubted_ns = 0

    def read(self, time_ns: int) -> JointReading:
        """Positions (A,) [unit] and the age [ms] of the oldest that counts."""
        judge, doubt = self._judge, PASS
        # What lies in the buffers at first only tells where the robot is now; from then on every message is judged.
        first = self._belief is not None and judge.belief is None
        for topic in judge.joints:
            for message in self._buffers.since(topic, self._seen[topic]):
                self._seen[topic] = message.number
                verdict = self._verdicts[topic] = self._take(topic, message.raw, message.kind, message.stamp_ns)
                if not verdict.ok and not first:
                    self.doubts += 1
                    self.doubted_ns, self.last_doubt = max(self.doubted_ns, message.stamp_ns), verdict
                    doubt = doubt if not doubt.ok else verdict
        doubt = next((v for v in (doubt, *self._verdicts.values()) if not v.ok), PASS)
        if first and self._belief is not None and doubt.ok and judge.stamps_ns.all():
            judge.belief = self._belief
            doubt = self._belief.judge(judge.position, int(judge.stamps_ns.max()), judge.velocity)
        if doubt.ok:
            doubt = self._missing()
        believed = self._belief.position if self._belief is not None else None
        position = judge.position if believed is None else believed
        age_ms = (time_ns - int(judge.stamps_ns.min())) / 1e6 if judge.stamps_ns.all() else float("inf")
        return JointReading(position.copy(), age_ms, doubt.reason, doubt.kind or "measurement")

    def _take(self, topic: str, raw: bytes | memoryview, kind: str, stamp_ns: int) -> Verdict:
        try:
            return self._judge.take(topic, self._deserialize(raw, kind), stamp_ns)
        except Exception as error:  # a message can be any bytes; whatever it does is its own fault
            said = f"a message on '{topic}' cannot be read: {error or type(error).__name__}; check its driver"
            return Verdict(False, "undecodable", said)

    def _missing(self) -> Verdict:
        for topic in self._judge.joints:
            newest = self._buffers.newest(topic)
            if newest is None:
                return Verdict(False, "missing", f"nothing was received on '{topic}' yet")
            lacking = self._judge.missing(topic, newest.stamp_ns)
            if lacking:
                return Verdict(False, "missing", lacking)
        return PASS
