"""The planner's process: what travels to it and how often, and that it answers as a worker in this process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_policies import small_config

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.errors import UserError
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import ros_types
from difftop_ros.nodes.topics import deserialize
from difftop_ros.policies import DifftopNet, Policy
from difftop_ros.runtime.planner import PlannerLost
from difftop_ros.runtime.streams import RawMessage, Request
from difftop_ros.runtime.worker import PolicyWorker, ProcessWorker, WorkerOptions, load_worker
from difftop_ros.sim.desk import CAMERA_FRAME, desk

MS = 1_000_000
JOINTS, CLOUD = "sensor_msgs/msg/JointState", "sensor_msgs/msg/PointCloud2"


def contract() -> Contract:
    return parse_contract(yaml.safe_dump({
        "name": "c", "rate_hz": 20, "control_rate_hz": 50,
        "command": {"topic": "/c", "type": JOINTS, "joints": [{"name": "a", "position": [-1, 1], "velocity": 1}]},
        "observations": {
            "j": {"kind": "joint_state", "topic": "/j", "joints": ["a"], "max_age_ms": 500},
            "cloud": {"kind": "point_cloud", "topic": "/points", "frame": CAMERA_FRAME, "points": 32,
                      "max_age_ms": 500},
        },
    }))  # fmt: skip


class Counted:
    """A socket that counts what is sent."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.sizes = inner, list[int]()

    def sendall(self, raw: bytes) -> None:
        self.sizes.append(len(raw))
        self._inner.sendall(raw)

    def close(self) -> None:
        self._inner.close()


def message(number: int, kind: str, time_ms: int) -> RawMessage:
    from rclpy.serialization import serialize_message

    if kind == JOINTS:
        made = joint_state(ros_types, ["a"], time_ms / 1e3, np.array([number / 1000]))
    else:
        xyz = desk(96, 72, seed=number).xyz
        made = point_cloud2(ros_types, xyz, time_ms / 1e3, CAMERA_FRAME, np.zeros(xyz.shape, np.uint8))
    return RawMessage(time_ms * MS, serialize_message(made), kind, number)


@pytest.mark.timeout(300)
def test_each_message_travels_once_and_answers_are_those_of_a_worker_here(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"horizon": 4, "features": 16, "latent": 4, "cost_outputs": 8, "point_widths": (8, 16)}
    net = DifftopNet(contract(), small_config(sizes, 16, obs_steps=2))
    model = Policy(net, contract(), torch.device("cpu")).save(tmp_path / "model")
    options = WorkerOptions(str(model), deserialize)
    here: PolicyWorker = load_worker(options)
    apart = ProcessWorker(options)
    apart._bytes = counted = Counted(apart._bytes)  # type: ignore[assignment]
    clouds = [message(n, CLOUD, 33 * n) for n in range(12)]
    used: set[int] = set()
    joints = [message(100 + n, JOINTS, 10 * n) for n in range(40)]
    try:
        for now in (100, 133, 166, 199, 232, 266, 332):  # windows of 50 ms that overlap in different ways
            times = tuple((now - back) * MS for back in (50, 0))
            picks = tuple(
                {
                    "/points": [m for m in clouds if m.stamp_ns <= t][-1],
                    "/j": [m for m in joints if m.stamp_ns <= t][-1],
                }
                for t in times
            )
            request = Request(times, picks)
            expected, found = here.solve(request, None, None), apart.solve(request, None, None)
            np.testing.assert_allclose(found.actions, expected.actions, atol=1e-6)
            assert found.stage_ms["pipe"] >= 0
            used |= {m.number for pick in picks for m in pick.values()}
        assert len(counted.sizes) == len(used)
        assert sum(size > 50_000 for size in counted.sizes) == sum(number < 100 for number in used)
        with pytest.raises(UserError, match="is not a sensor_msgs/msg/PointCloud2"):
            apart.solve(Request((400 * MS,), ({"/points": RawMessage(400 * MS, bytes(9), CLOUD, 999),
                                               "/j": joints[-1]},)), None, None)  # fmt: skip
        apart._process.kill()
        with pytest.raises(PlannerLost):
            for number in range(1000, 1010):
                apart.solve(Request((400 * MS,), ({"/points": RawMessage(400 * MS, bytes(10**6), CLOUD, number),
                                                   "/j": joints[-1]},)), None, None)  # fmt: skip
    finally:
        apart.close()
