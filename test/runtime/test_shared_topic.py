"""Drivers of different joints in turn on one topic, and an observation of each: all get their own newest message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from difftop_ros.contract import parse_contract
from difftop_ros.data import EpisodeDataset, ingest
from difftop_ros.messages import ObservationError, ObservationPipeline, StaleObservation
from difftop_ros.messages.joints import joint_state, slot
from difftop_ros.messages.types import rosbags_types
from difftop_ros.runtime.streams import StreamBuffers

JOINTS, S, MS = "sensor_msgs/msg/JointState", 1_000_000_000, 1_000_000
CONTRACT = parse_contract("""
name: shared
rate_hz: 10
control_rate_hz: 50
command: {topic: /command, type: sensor_msgs/msg/JointState, joints: [{name: j1, position: [-9, 9], velocity: 4}]}
observations:
  arm: {kind: joint_state, topic: /joint_states, joints: [j1, j2], max_age_ms: 100}
  hand: {kind: joint_state, topic: /joint_states, joints: [finger], max_age_ms: 300}
  whole_arm: {kind: joint_state, topic: /joint_states, joints: [j1], max_age_ms: 100}
""")
STORE = get_typestore(Stores.ROS2_JAZZY)


def raw(names: list[str], stamp_ns: int) -> bytes:
    """Joints that read their message's stamp [s]."""
    state = joint_state(rosbags_types, names, stamp_ns / 1e9, np.full(len(names), stamp_ns / 1e9))
    return bytes(STORE.serialize_cdr(state, JOINTS))


def sent(begin_ns: int, end_ns: int) -> list[tuple[int, bytes]]:
    """The arm every 10 ms; the hand 2 ms after every tenth of those."""
    found = []
    for count, at in enumerate(range(begin_ns, end_ns, 10 * MS)):
        found.append((at, raw(["j2", "j1"], at)))
        if count % 10 == 0:
            found.append((at + 2 * MS, raw(["finger"], at + 2 * MS)))
    return found


def observed(buffers: StreamBuffers, now_ns: int) -> tuple[dict[str, float], dict[str, float]]:
    """First number of each frame, and the ages [ms], as the planner's process makes them."""
    pick = buffers.request(now_ns, 1, 0.1).picks[0]
    latest = {name: (m.stamp_ns, STORE.deserialize_cdr(m.raw, m.kind)) for name, m in pick.items()}
    observation = ObservationPipeline(CONTRACT).observe(latest, now_ns)
    return {key: float(frame[0]) for key, frame in observation.frames.items()}, observation.ages


def test_live_each_observation_has_its_newest_message_and_its_own_age() -> None:
    buffers = StreamBuffers({"/joint_states": JOINTS}, (), 0.5, CONTRACT)
    assert buffers.missing() == ["/joint_states"]
    for at, message in sent(2 * S, 3 * S):
        buffers.push("/joint_states", message, at)
    assert buffers.missing() == []
    buffers.refuse_stale(CONTRACT, 2995 * MS)
    frames, ages = observed(buffers, 2995 * MS)
    assert frames == pytest.approx({"arm": 2.99, "hand": 2.902, "whole_arm": 2.99})
    assert ages == pytest.approx({"arm": 5, "hand": 93, "whole_arm": 5})
    assert buffers.synchronised_ns(2995 * MS, 150 * MS) == 2902 * MS, "the slowest decides"
    frames, _ = observed(buffers, 2705 * MS)
    assert frames == pytest.approx({"arm": 2.70, "hand": 2.702, "whole_arm": 2.70})
    with pytest.raises(StaleObservation, match="observation 'arm' is stale"):
        for at in range(3 * S, 3500 * MS, 10 * MS):  # the arm's driver is dead, the hand's goes on
            buffers.push("/joint_states", raw(["finger"], at), at)
        buffers.refuse_stale(CONTRACT, 3500 * MS)


def test_a_driver_that_never_came_is_named() -> None:
    buffers = StreamBuffers({"/joint_states": JOINTS}, (), 0.5, CONTRACT)
    for at in range(2 * S, 3 * S, 10 * MS):
        buffers.push("/joint_states", raw(["j1", "j2"], at), at)
    with pytest.raises(ObservationError, match=r"lacks 'finger'.*start the driver"):
        observed(buffers, 3 * S)


def test_bags_give_the_same(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        states, commands = (writer.add_connection(t, JOINTS, typestore=STORE) for t in ("/joint_states", "/command"))
        for at, message in sent(2 * S, 5 * S):
            writer.write(states, at, message)
            if b"finger" not in message:
                writer.write(commands, at, message)
    report = ingest([tmp_path / "bag"], CONTRACT, tmp_path / "data")
    assert report.objections() == []
    episode = EpisodeDataset(tmp_path / "data")[0]
    assert len(EpisodeDataset(tmp_path / "data")) == 1
    begin = episode.attributes["first_ns"] / 1e9
    times = begin + np.arange(episode.steps) / 10
    for key, period in (("arm", 0.01), ("hand", 0.1), ("whole_arm", 0.01)):
        ages = times - episode[key][:][:, 0]
        assert ages.min() > -1e-3
        assert ages.max() < period + 1e-3
    assert slot("/joint_states", "arm") == "/joint_states (arm)"
