"""What comes over the wire: observations and commands of any bytes, and streams of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.errors import UserError
from tools.fuzz.mutate import NUMBERS, changed_bytes, changed_data
from tools.fuzz.targets.base import CONTRACT, Target, dumped, samples


class Messages(Target):
    """A message of any type under a contract: its bytes changed, then deserialised and decoded as the node does."""

    searched = "body"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.contract import parse_contract

        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.contract = parse_contract(CONTRACT)
        self.samples = samples(self.store)

    def make(self, rng: random.Random) -> bytes:
        key = rng.choice(sorted(self.contract.observations))
        section = {} if rng.random() < 0.7 else {"change": rng.getrandbits(32)}
        topics = self.contract.observations[key].topics
        spoiled = rng.choice(list(topics))
        raws = []
        for topic in topics:
            raw = rng.choice(self.samples[topic])
            raws.append(changed_bytes(rng, raw) if topic == spoiled else raw)
        head = {"key": key, **section, "sizes": [len(raw) for raw in raws]}
        return json.dumps(head).encode() + b"\n" + b"".join(raws)

    def feed(self, raw: bytes) -> None:
        from difftop_ros.contract import ContractError, parse_contract
        from difftop_ros.messages import ObservationError, ObservationPipeline

        head, _, body = raw.partition(b"\n")
        facts = json.loads(head)
        key, contract = facts["key"], self.contract
        if "change" in facts:
            data = contract.to_dict()
            rng = random.Random(facts["change"])
            data["observations"][key] = changed_data(rng, data["observations"][key])
            contract = parse_contract(dumped(data).decode())
        obs = contract.observations.get(key)
        if obs is None or len(obs.topics) != len(facts["sizes"]):
            raise ContractError("no such observation")
        messages: dict[str, Any] = {}
        for (topic, kind), size in zip(obs.topics.items(), facts["sizes"], strict=True):
            part, body = body[:size], body[size:]
            messages[topic] = self._deserialised(part, kind)
        if any(message is None for message in messages.values()):
            raise ObservationError("no message")  # the deserialiser's refusal, not ours
        frame = ObservationPipeline(contract).decode(key, messages)
        assert np.isfinite(frame).all()

    def _deserialised(self, raw: bytes, kind: str) -> Any:
        try:
            return self.store.deserialize_cdr(raw, kind)
        except Exception:
            return None


class Commands(Target):
    """A command of each type, its bytes changed: read back as training does, with its stamp."""

    searched = "body"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.contract import parse_contract
        from difftop_ros.messages import array_to_command
        from difftop_ros.messages.types import rosbags_types

        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.contracts, self.samples = {}, {}
        for kind in (
            "sensor_msgs/msg/JointState",
            "trajectory_msgs/msg/JointTrajectory",
            "std_msgs/msg/Float64MultiArray",
        ):
            contract = parse_contract(CONTRACT.replace("sensor_msgs/msg/JointState", kind, 1))
            message = array_to_command(contract, np.array([0.5, -0.5]), 1_000_000_000, rosbags_types)
            self.contracts[kind] = contract
            self.samples[kind] = bytes(self.store.serialize_cdr(message, kind))

    def make(self, rng: random.Random) -> bytes:
        kind = rng.choice(sorted(self.samples))
        return f"{kind}\n".encode() + changed_bytes(rng, self.samples[kind])

    def feed(self, raw: bytes) -> None:
        from difftop_ros.messages import ObservationError, command_to_array

        head, _, body = raw.partition(b"\n")
        kind = head.decode()
        try:
            message = self.store.deserialize_cdr(body, kind)
        except Exception:
            raise ObservationError("no message") from None  # the deserialiser's refusal, not ours
        assert np.isfinite(command_to_array(self.contracts[kind], message)).all()


class Streams(Target):
    """Messages of any bytes, pushed into the node's buffers in any order with any stamps, and what is asked of them."""

    searched = "nothing"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.contract import parse_contract

        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.contract = parse_contract(CONTRACT)
        self.samples = samples(self.store)

    def make(self, rng: random.Random) -> bytes:
        parts = []
        for _ in range(rng.randint(1, 12)):
            topic = rng.choice(sorted(self.samples))
            raw = rng.choice(self.samples[topic])
            kind = rng.random()
            if kind < 0.5:
                raw = changed_bytes(rng, raw)
            elif kind < 0.7:
                raw = raw[: rng.randint(0, 40)]
            stamp = rng.choice((0, 1, 10**9, 2 * 10**9, -1, 2**62, rng.randrange(3 * 10**9)))
            parts.append({"topic": topic, "at": stamp, "raw": raw.hex()})
        return json.dumps(parts).encode()

    def feed(self, raw: bytes) -> None:
        from difftop_ros.messages import ObservationError, ObservationPipeline
        from difftop_ros.runtime.joints import JointReader
        from difftop_ros.runtime.streams import StreamBuffers
        from difftop_ros.safety import Belief, MotionLimits

        contract = self.contract
        buffers = StreamBuffers(ObservationPipeline(contract).topics, contract.unstamped, 0.5, contract)
        reader = JointReader(contract, buffers, self._deserialize)
        reader.believe(Belief(MotionLimits.of(contract.command, contract.control_rate_hz)))
        refused: UserError | None = None
        for part in json.loads(raw):
            buffers.push(part["topic"], bytes.fromhex(part["raw"]), part["at"])
            reading = reader.read(part["at"])
            assert reading.fault or np.isfinite(reading.position).all()
            for ask in (buffers.refuse_stale, lambda *_, now=part["at"]: buffers.request(now, 2, 0.05)):
                try:
                    ask(contract, part["at"])
                except UserError as error:
                    refused = error
            buffers.synchronised_ns(part["at"], 150_000_000)
        if refused is not None:
            raise ObservationError(str(refused))

    def _deserialize(self, raw: bytes | memoryview, kind: str) -> Any:
        from difftop_ros.messages import ObservationError

        try:
            return self.store.deserialize_cdr(raw, kind)
        except Exception:
            raise ObservationError("no message") from None  # as nodes.topics.deserialize does


class Plans(Target):
    """What a policy may answer: plans of any shape and any numbers, judged as the planner does."""

    searched = "nothing"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from difftop_ros.contract import parse_contract
        from difftop_ros.safety import MotionLimits

        contract = parse_contract(CONTRACT)
        self.limits = MotionLimits.of(contract.command, contract.control_rate_hz)

    def make(self, rng: random.Random) -> bytes:
        shape = rng.choice(((4, 2), (4, 2), (4, 2), (4, 2), (0, 2), (4, 0), (1, 2), (4, 3), (8,), (), (2, 2, 2)))
        numbers = [rng.choice((rng.uniform(-2, 2), rng.gauss(0, 1), rng.choice(NUMBERS))) for _ in range(64)]
        return json.dumps({"shape": shape, "numbers": numbers, "stamp": rng.choice((0, 1, 10**18, -5))}).encode()

    def feed(self, raw: bytes) -> None:
        from difftop_ros.plan_result import PlanResult
        from difftop_ros.runtime.clock import SystemTime
        from difftop_ros.runtime.plan import PlanBuffer
        from difftop_ros.runtime.planner import PlannerLoop
        from difftop_ros.safety import HoldSupervisor

        told = json.loads(raw)
        numbers = iter(told["numbers"] * 2)
        shapes = [tuple(told["shape"]), (4, 2)]

        def work(warm_start: Any) -> PlanResult:
            shape = shapes.pop(0)
            values = [float(next(numbers)) for _ in range(int(np.prod(shape)))]
            novelty, outside, cost = (float(next(numbers)) for _ in range(3))
            return PlanResult(
                np.array(values).reshape(shape), "CONVERGED", stamp_ns=told["stamp"], novelty=novelty, outside=outside,
                final_cost=cost,
            )  # fmt: skip

        plans = PlanBuffer(0.1)
        loop = PlannerLoop(
            work=work, plans=plans, supervisor=HoldSupervisor(1, 5, 10.0), limits=self.limits, source=SystemTime(),
            step_s=0.05, period_s=0.05, horizon=4, on_result=lambda *_: None, max_plan_excess=2.0, max_novelty=4.0,
            max_outside=0.5,
        )  # fmt: skip
        for _ in range(2):
            result = loop.plan_once()
        target = plans.select(told["stamp"] + 10**8, told["stamp"] + 10**8)
        assert target is None or np.isfinite(target).all()
        if result.refusal:
            raise UserError(result.refusal)
