"""What is kept of each topic: history by time, bounded in bytes; stamps ahead, garbage and other publishers' joints."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.messages import ObservationError, StaleObservation
from difftop_ros.messages.joints import joint_names, joint_state
from difftop_ros.messages.types import rosbags_types
from difftop_ros.runtime import streams as module
from difftop_ros.runtime.streams import StreamBuffers

JOINTS, S, MS = "sensor_msgs/msg/JointState", 1_000_000_000, 1_000_000
CONTRACT = """
name: two
rate_hz: 10
control_rate_hz: 50
command: {topic: /command, type: sensor_msgs/msg/JointState, joints: [{name: a, position: [-2, 2], velocity: 1}]}
observations:
  state: {kind: joint_state, topic: /joints, joints: [a]}
  cloud: {kind: depth_cloud, topic: /depth, camera_info: /info, frame: base, max_mb: 1}
"""
TOPICS = {"/joints": JOINTS, "/depth": "sensor_msgs/msg/Image", "/info": "sensor_msgs/msg/CameraInfo"}


def raw(names: list[str], stamp_ns: int) -> bytes:
    state = joint_state(rosbags_types, names, stamp_ns / 1e9, np.zeros(len(names)))
    return bytes(get_typestore(Stores.ROS2_JAZZY).serialize_cdr(state, JOINTS))


def bare(stamp_ns: int, size: int = 0) -> bytes:
    return b"\x00\x01\x00\x00" + struct.pack("<iI", *divmod(stamp_ns, S)) + bytes(size)


@pytest.fixture
def contract() -> Contract:
    return parse_contract(CONTRACT)


def test_history_is_by_time_at_a_high_rate() -> None:
    buffers = StreamBuffers({"/joints": JOINTS}, (), 0.45)
    for i in range(1000):
        buffers.push("/joints", bare(10 * S + i * MS), 10 * S + i * MS)
    for now in (10_999 * MS, 10_899 * MS):
        request = buffers.request(now, 2, 0.1)
        assert [pick["/joints"].stamp_ns for pick in request.picks] == [now - 100 * MS, now]
    assert buffers.request(10_100 * MS, 1, 0.1).picks == ({},), "nothing is better than a wrong age"


def test_memory_is_bounded_and_a_cut_history_is_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    buffers = StreamBuffers({"/depth": "a/msg/A"}, (), 1.0)
    for _ in range(100):
        buffers.push("/depth", bare(S, 5000), S)  # a frozen stamp: only the last can be used
    assert len(buffers._kept["/depth"]) == 1
    for i in range(100):
        buffers.push("/depth", bare(S + i * 10 * MS, 1000), 2 * S)
    assert sum(len(m.raw) for m in buffers._kept["/depth"]) <= 10_000
    with pytest.raises(ObservationError, match=r"history of '/depth' is cut: it holds more than 0.01 MB"):
        buffers.request(S + 990 * MS, 2, 0.5)


def test_the_newest_joint_state_that_can_serve_counts(contract: Contract) -> None:
    buffers = StreamBuffers(TOPICS, (), 1.0, contract)
    for i in range(20):
        buffers.push("/joints", raw(["b", "a"], S + i * 10 * MS), S + i * 10 * MS)
        buffers.push("/joints", raw(["finger"], S + i * 10 * MS + 2 * MS), S + i * 10 * MS + 2 * MS)
    newest = buffers.newest("/joints")
    assert newest.stamp_ns == S + 190 * MS and joint_names(newest.raw) == {"a", "b"}
    buffers.push("/joints", raw(["finger"], 4 * S), 4 * S)  # the arm's publisher has been gone for long
    assert joint_names(buffers.newest("/joints").raw) == {"finger"}


def test_garbage_and_stamps_ahead_are_a_fault_until_a_good_message(contract: Contract) -> None:
    buffers = StreamBuffers(TOPICS, (), 1.0, contract)
    for topic in TOPICS:
        buffers.push(topic, bare(10 * S), 10 * S)
    buffers.refuse_stale(contract, 10 * S)
    for bad, words in ((b"", "0 bytes and no header"), (b"\x00\x01\x00\x00", "4 bytes"),
                       (bare(10 * S, 2_000_000), "2.0 MB; max_mb is 1")):  # fmt: skip
        for topic in ("/joints", "/depth"):
            buffers.push(topic, bad, 10 * S)
            with pytest.raises(ObservationError, match=words):
                buffers.refuse_stale(contract, 10 * S)
            buffers.push(topic, bare(10 * S + 40 * MS), 10 * S)
            buffers.refuse_stale(contract, 10 * S)
    assert buffers.refused == 6
    buffers.push("/depth", bare(10 * S + 700 * MS), 10 * S)
    with pytest.raises(ObservationError, match=r"'/depth' is stamped 0.7 s ahead of now; the clocks differ"):
        buffers.refuse_stale(contract, 10 * S)
    buffers.push("/depth", bare(99 * S), 10 * S)
    buffers.push("/depth", bare(10 * S + 10 * MS), 10 * S)  # what a wrong stamp left behind is forgotten
    buffers.refuse_stale(contract, 10 * S)


def test_how_far_ahead_a_stamp_may_lie_can_be_said(contract: Contract) -> None:
    patient = StreamBuffers(TOPICS, (), 1.0, contract, ahead_ns=400 * MS)
    for topic in TOPICS:
        patient.push(topic, bare(10 * S + 300 * MS), 10 * S)
    patient.refuse_stale(contract, 10 * S)
    patient.push("/depth", bare(10 * S + 410 * MS), 10 * S)
    with pytest.raises(ObservationError, match=r"stamped 0.41 s ahead of now"):
        patient.refuse_stale(contract, 10 * S)


def test_what_is_sent_once_serves_for_ever_and_delays_nothing(contract: Contract) -> None:
    buffers = StreamBuffers(TOPICS, (), 1.0, contract)
    buffers.push("/info", bare(3600 * S), S)
    for topic in ("/joints", "/depth"):
        buffers.push(topic, bare(100 * S), 100 * S)
    assert buffers.synchronised_ns(100 * S, 150 * MS) == 100 * S
    assert buffers.request(100 * S, 1, 0.1).picks[0].keys() == set(TOPICS)
    assert set(buffers.numbers()) == {"/joints", "/depth"}
    with pytest.raises(StaleObservation, match="'cloud' is stale"):
        buffers.push("/joints", bare(102 * S), 102 * S)
        buffers.refuse_stale(contract, 102 * S)
