"""Recordings that would teach something false, each made as it happens: refused in a sentence, or split and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import Writer

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.data import BagError, DatasetError, EpisodeDataset, find_bags, ingest, open_bag
from difftop_ros.data.bags.timing import bag_timings

STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
JOINTS = """
name: joints_alone
rate_hz: 10
control_rate_hz: 50
command:
  topic: /command
  type: TYPE
  joints:
    - {name: a, position: [-3.2, 3.2], velocity: 2}
    - {name: b, position: [-3.2, 3.2], velocity: 2}
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a, b], max_age_ms: 100}
"""


def joints_alone(kind: str = ARRAY) -> Contract:
    return parse_contract(JOINTS.replace("TYPE", kind))


def recording(
    kit: Any,
    times: np.ndarray,
    *,
    behind: float = 0.0,
    position: Callable[[float], float] = lambda t: 0.1 * (t % 20),
    kind: str = ARRAY,
) -> list[Any]:
    """Joint states and commands received at `times` [s]; header stamps lie `behind` by so many seconds."""
    entries = []
    for t in times.tolist():
        state = kit.joint_state(kit.types, ["a", "b"], t - behind, np.array([position(t), 0.5]))
        entries.append(("/joint_states", STATE, round(t * 1e9), state))
        if kind == ARRAY:
            order = kit.types(ARRAY)()
            order.data = np.array([position(t + 0.1), 0.5])
        else:
            order = kit.joint_state(kit.types, ["a", "b"], t, np.array([position(t + 0.1), 0.5]))
        entries.append(("/command", kind, round(t * 1e9) + 1000, order))
    return entries


def ingested(
    tmp_path: Path, kit: Any, entries: list[Any], contract: Contract | None = None, plugin: str = "MCAP"
) -> Any:
    bag = kit.write_bag(tmp_path / "bag", entries, plugin=kit.StoragePlugin[plugin])
    return ingest([bag], contract or joints_alone(), tmp_path / "data").bags[0]


@pytest.mark.parametrize("behind", [0.7, -0.7, 1.7e9])
def test_two_clocks_are_refused_with_the_offset_and_a_remedy(
    tmp_path: Path, kit: SimpleNamespace, behind: float
) -> None:
    entries = recording(kit, 1.7e9 + 5 + np.arange(300) / 50, behind=behind)
    with pytest.raises(DatasetError, match=r"two clocks are mixed.* (0\.70|1700000000\.00) s behind .*'receive'"):
        ingested(tmp_path, kit, entries)
    by_reception = joints_alone().model_copy(update={"clock": "receive"})
    result = ingest([tmp_path / "bag"], by_reception, tmp_path / "received").bags[0]
    assert 58 <= result.steps <= 60
    pairs = EpisodeDataset(tmp_path / "received")[0]
    assert np.abs(pairs["action"][:, 0] - pairs["joints"][:, 0]).max() < 0.03


def test_a_simulation_slower_than_the_wall_is_one_clock(tmp_path: Path, kit: SimpleNamespace) -> None:
    entries = recording(kit, 10 + np.arange(300) / 50, kind=STATE)
    slow = [(topic, kind, round(1.7e18) + stamp * 3, message) for topic, kind, stamp, message in entries]
    assert ingested(tmp_path, kit, slow, joints_alone(STATE)).steps >= 58


@pytest.mark.parametrize("late", ["received", "stamped"])
def test_late_delivery_is_no_other_clock_and_one_that_steps_is(tmp_path: Path, kit: SimpleNamespace, late: str) -> None:
    times = 10 + np.arange(300) / 50
    entries = recording(kit, times, kind=STATE)
    for place, (topic, kind, received, message) in enumerate(entries):
        share = place / len(entries)
        if topic == "/joint_states" and late == "received" and 0.3 < share < 0.6:  # a busy machine
            entries[place] = (topic, kind, received + 500_000_000, message)
        elif topic == "/joint_states" and late == "stamped" and share > 0.6:  # its clock is set back, and stays so
            t = received / 1e9 - 0.5
            entries[place] = (topic, kind, received, kit.joint_state(kit.types, ["a", "b"], t, message.position))
    if late == "received":
        assert ingested(tmp_path, kit, entries, joints_alone(STATE)).steps >= 58
    else:
        with pytest.raises(DatasetError, match=r"two clocks are mixed.* 0\.50 s behind .*from [34]\.\d s on"):
            ingested(tmp_path, kit, entries, joints_alone(STATE))


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("pauses", [[30.0], [5.0, 1.0, 12.0], [1.7e9]])
def test_a_pause_splits_the_episode(tmp_path: Path, kit: SimpleNamespace, plugin: str, pauses: list[float]) -> None:
    begins = np.cumsum([1000.0, *(1 + pause for pause in pauses)])
    times = np.concatenate([begin + np.arange(50) / 50 for begin in begins])
    result = ingested(tmp_path, kit, recording(kit, times), plugin=plugin)
    data = EpisodeDataset(tmp_path / "data")
    assert len(data) == len(pauses) + 1 == sum("split there" in note for note in result.notes) + 1
    assert result.steps <= 11 * len(data) and sum(result.held.values()) == 0
    for episode in data:
        assert np.diff(episode["joints"][:, 0]).min() > 0.005  # no frozen frame


def test_commands_do_not_outlive_a_pause(tmp_path: Path, kit: SimpleNamespace) -> None:
    times = np.concatenate([100 + np.arange(50) / 50, 110 + np.arange(100) / 50])
    entries = [e for e in recording(kit, times) if e[0] != "/command" or not 110 <= e[2] / 1e9 < 111]
    ingested(tmp_path, kit, entries)
    assert [e.steps for e in EpisodeDataset(tmp_path / "data")][1] in (10, 11)


def test_another_drivers_messages_on_the_topic_do_not_count(tmp_path: Path, kit: SimpleNamespace) -> None:
    entries = []
    for topic, kind, stamp, message in recording(kit, 100 + np.arange(600) / 100):
        entries.append((topic, kind, stamp, message))
        if topic == "/joint_states":
            finger = kit.joint_state(kit.types, ["finger"], stamp / 1e9 + 0.002, np.zeros(1))
            entries.append((topic, kind, stamp + 2_000_000, finger))
    result = ingested(tmp_path, kit, sorted(entries, key=lambda e: e[2]))
    assert result.steps == 60 and result.undecodable == {}
    readings = EpisodeDataset(tmp_path / "data")[0]["joints"][:, 0]
    assert np.abs(readings - readings[0] - np.arange(60) * 0.01).max() < 0.0015


def test_angles_that_wrap_around_are_refused(tmp_path: Path, kit: SimpleNamespace) -> None:
    turning = recording(kit, np.arange(1, 7, 0.02), position=lambda t: (2.6 + 0.3 * t + np.pi) % (2 * np.pi) - np.pi)
    with pytest.raises(DatasetError, match="'a' on '/joint_states' jumps by a whole turn"):
        ingested(tmp_path, kit, turning)


def test_degrees_are_refused(tmp_path: Path, kit: SimpleNamespace) -> None:
    entries = recording(kit, 100 + np.arange(200) / 50)
    for topic, _, _, message in entries:
        if topic == "/joint_states":
            message.position = np.degrees(message.position) + 30
    with pytest.raises(
        DatasetError,
        match=r"'a' on '/joint_states' reads .*limits are -3.2 to 3.2 rad, from 0.0 s on; are they degrees",
    ):
        ingested(tmp_path, kit, entries)


def test_zero_stamps_are_left_out_and_said(tmp_path: Path, kit: SimpleNamespace) -> None:
    entries = recording(kit, 100 + np.arange(200) / 50)
    states = [e[3] for e in entries if e[0] == "/joint_states"]
    for message in states[:3]:
        message.header.stamp.sec = message.header.stamp.nanosec = 0
    result = ingested(tmp_path, kit, entries)
    assert (
        result.steps >= 38
        and result.leading <= 1
        and "3 messages on '/joint_states' have a zero stamp" in result.notes[0]
    )
    for message in states:
        message.header.stamp.sec = message.header.stamp.nanosec = 0
    (tmp_path / "all").mkdir()
    with pytest.raises(DatasetError, match=r"all 200 header stamps on '/joint_states' are 0.*'receive'"):
        ingested(tmp_path / "all", kit, entries)


@pytest.mark.parametrize("size", [0, 4, 40])
@pytest.mark.parametrize("topic", ["/joint_states", "/points", "/command", "/success"])
def test_a_message_cut_short_costs_itself(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any], size: int, topic: str
) -> None:
    entries = episode(steps=20)
    cut = [i for i, e in enumerate(entries) if e[0] == topic][-1 if topic == "/success" else 9]
    writer = kit.write_bag

    class Store:
        """Serialises like the real one, but for the message that is cut."""

        def __getattr__(self, name: str) -> Any:
            return getattr(kit.store, name)

        def serialize_cdr(self, message: Any, kind: str) -> bytes:
            raw = bytes(kit.store.serialize_cdr(message, kind))
            return raw[:size] if message is entries[cut][3] and size < len(raw) else raw

    bag = writer(tmp_path / "bag", entries, store=Store())
    result = ingest([bag], contract, tmp_path / "data").bags[0]
    assert result.steps >= 19
    if topic != "/success":
        key = {"/joint_states": "joints", "/points": "cloud", "/command": "action"}[topic]
        assert result.undecodable == {key: 1}
    with open_bag(bag) as opened:
        assert bag_timings(opened)[topic].count >= entries.count(topic)


def test_metadata_that_lies_about_qos_hides_nothing(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    bag = kit.write_bag(tmp_path / "bag", episode(steps=12))
    text = (bag / "metadata.yaml").read_text()
    assert "offered_qos_profiles: []" in text
    profile = (
        "offered_qos_profiles: [{history: keep_last, depth: 7, reliability: reliable, durability: volatile, "
        "deadline: {sec: 0, nsec: 0}, lifespan: {sec: 0, nsec: 0}, liveliness: automatic, "
        "liveliness_lease_duration: {sec: 0, nsec: 0}, avoid_ros_namespace_conventions: false}]"
    )
    (bag / "metadata.yaml").write_text(text.replace("offered_qos_profiles: []", profile))
    assert ingest([bag], contract, tmp_path / "data").steps == 12


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bag.mcap"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n")
    with pytest.raises(BagError, match=r"is a git-lfs pointer.*git lfs pull"):
        open_bag(path)


def test_an_mcap_with_a_bare_summary_is_whole(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    bare = tmp_path / "bare.mcap"
    with bare.open("wb") as stream:
        writer = McapWriter(stream, use_statistics=False, repeat_channels=False, repeat_schemas=False)
        writer.start(profile="ros2")
        channels: dict[str, int] = {}
        for topic, kind, stamp, message in episode(steps=12):
            if topic not in channels:
                text = kit.store.generate_msgdef(kind, ros_version=2)[0].encode()
                channels[topic] = writer.register_channel(topic, "cdr", writer.register_schema(kind, "ros2msg", text))
            writer.add_message(channels[topic], stamp, bytes(kit.store.serialize_cdr(message, kind)), stamp)
        writer.finish()
    result = ingest([bare], contract, tmp_path / "data").bags[0]
    assert (result.steps, result.success, result.notes) == (12, True, [])


def test_a_compressed_file_alone_is_named_and_not_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "bags" / "lonely"
    folder.mkdir(parents=True)
    (folder / "lonely_0.mcap.zstd").write_bytes(b"\x28\xb5\x2f\xfd")
    assert find_bags(tmp_path / "bags") == [folder]
    for path in (folder, folder / "lonely_0.mcap.zstd"):
        with pytest.raises(BagError, match=r"compressed and has no metadata.yaml.*zstd -d lonely_0.mcap.zstd"):
            open_bag(path)


def test_a_recording_cut_short_is_no_demonstration(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    bag = kit.write_bag(tmp_path / "bag", episode(steps=60, points=4000))
    with next(bag.glob("*.mcap")).open("r+b") as stream:
        stream.truncate(2_000_000)
    assert ingest([bag], contract, tmp_path / "data").bags[0].success is False
    with pytest.raises(DatasetError, match="1 are marked as failed"):
        EpisodeDataset(tmp_path / "data")
    assert len(EpisodeDataset(tmp_path / "data", include_failures=True)) == 1


@pytest.mark.parametrize(
    "text", ["bool data\n---\nbool success\nstring message\n", "", "garbage (((", "float64 other\n"]
)
@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
def test_a_topic_of_unknown_type_beside_the_robots_hides_nothing(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any], text: str, plugin: str
) -> None:
    bag, known = tmp_path / "bag", {}
    with Writer(bag, version=9, storage_plugin=kit.StoragePlugin[plugin]) as writer:
        event = writer.add_connection("/x", "std_srvs/srv/Trigger_Event", msgdef=text, rihs01="RIHS01_" + "0" * 64)
        writer.write(event, 100 * 10**9, b"\0\1\0\0" + bytes(40))
        for topic, kind, stamp, message in episode(steps=12):
            if topic not in known:
                known[topic] = writer.add_connection(topic, kind, typestore=kit.store)
            writer.write(known[topic], stamp, bytes(kit.store.serialize_cdr(message, kind)))
    with open_bag(bag) as opened:
        assert not opened.salvaged and opened.topics["/x"].count == 1
        assert bag_timings(opened)["/x"].count == 1
    assert ingest([bag], contract, tmp_path / "data").steps == 12
