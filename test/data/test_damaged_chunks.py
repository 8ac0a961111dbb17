"""Garbage within an mcap file: noticed by checksums, named, and paid for by the chunk it is in; the rest is used."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import Writer as PlainWriter
from rosbags.typesys import Stores, get_typestore

from difftop_ros.contract import parse_contract
from difftop_ros.data import EpisodeDataset, ingest, open_bag
from difftop_ros.data.bags.writer import Definitions, EpisodeBag
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import rosbags_types

KIND = "sensor_msgs/msg/JointState"
CONTRACT = parse_contract("""
name: one_joint
rate_hz: 20
control_rate_hz: 50
command: {topic: /command, type: sensor_msgs/msg/JointState, joints: [{name: a, position: [-3, 3], velocity: 2}]}
observations: {joints: {kind: joint_state, topic: /joint_states, joints: [a], fields: [position, velocity]}}
""")
STORE = get_typestore(Stores.ROS2_JAZZY)


def messages(count: int = 700) -> list[tuple[str, int, bytes]]:
    """Joint states and commands at 100 Hz, padded with names so that some fill a chunk."""
    found = []
    names = ["a", *(f"{'padding' * 60}{i}" for i in range(5))]
    for step in range(count):
        now = 1.0 + step / 100
        for topic in ("/joint_states", "/command"):
            values = np.full(len(names), np.sin(now))
            message = joint_state(rosbags_types, names, now, values, values)
            found.append((topic, round(now * 1e9), bytes(STORE.serialize_cdr(message, KIND))))
    return found


MESSAGES = messages()


def recorded(folder: Path, compress: bool = True) -> bytes:
    """A recorder's bag in `folder`; the bytes of its mcap file, several chunks."""
    bag = EpisodeBag(folder, {}, Definitions(), compress=compress)
    for topic in ("/joint_states", "/command"):
        bag.add_topic(topic, KIND)
    for topic, stamp, raw in MESSAGES:
        bag.write(topic, stamp, raw)
    bag.close(True)
    return (folder / f"{folder.name}.mcap").read_bytes()


def plain(folder: Path, chunked: bool) -> bytes:
    """As another recorder writes it: with mcap's own writer."""
    folder.mkdir()
    path = folder / f"{folder.name}.mcap"
    with path.open("wb") as stream:
        writer = PlainWriter(stream, chunk_size=200_000, use_chunking=chunked, enable_data_crcs=True)
        writer.start("ros2")
        schema = writer.register_schema(KIND, "ros2msg", Definitions().of(KIND)[0].encode())
        channels = {t: writer.register_channel(t, "cdr", schema) for t in ("/joint_states", "/command")}
        for topic, stamp, raw in MESSAGES:
            writer.add_message(channels[topic], stamp, raw, stamp)
        writer.finish()
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["compressed", "uncompressed", "other"])
def test_what_is_read_of_a_damaged_file_is_what_was_written(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    raw = plain(folder, chunked=True) if kind == "other" else recorded(folder, kind == "compressed")
    with open_bag(folder) as bag:
        assert not bag.salvaged
        assert sorted(bag.messages()) == sorted(MESSAGES)
    rng, noticed, written = random.Random(7), 0, set(MESSAGES)
    for _ in range(12):
        spoilt, at = bytearray(raw), rng.randrange(60, len(raw) - 4000)
        spoilt[at : at + 8] = rng.randbytes(8)
        (folder / "bag.mcap").write_bytes(spoilt)
        with open_bag(folder) as bag:
            found = list(bag.messages())
            assert set(found) <= written, "nothing that was never written"
            assert len(found) > 0.2 * len(MESSAGES), "the rest is used"
            assert not bag.cut
            if len(found) < len(MESSAGES):
                noticed += 1
                assert "is damaged: in bag.mcap the messages of a chunk at byte" in bag.salvaged
                assert "are left out: " in bag.salvaged
    assert noticed > 5


@pytest.mark.parametrize("where", [0, 1, 9, 17, 30])  # opcode, length, times, sizes of a chunk
def test_a_chunk_whose_head_is_gone_is_stepped_over(where: int, tmp_path: Path) -> None:
    from mcap.reader import make_reader

    folder = tmp_path / "bag"
    raw = recorded(folder)
    path = folder / "bag.mcap"
    with path.open("rb") as stream:
        chunks = make_reader(stream).get_summary().chunk_indexes
    assert len(chunks) > 2
    at = chunks[1].chunk_start_offset + where
    path.write_bytes(raw[:at] + b"\xff" * 8 + raw[at + 8 :])
    with open_bag(folder) as bag:
        found = list(bag.messages())
        assert set(found) <= set(MESSAGES)
        assert found[-1] == MESSAGES[-1]
        assert len(found) > 0.5 * len(MESSAGES)
        assert len(found) == len(MESSAGES) or bag.salvaged


def test_without_chunks_only_the_whole_is_known_to_be_altered(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    raw = plain(folder, chunked=False)
    with open_bag(folder) as bag:
        assert not bag.salvaged
    at = raw.index(np.float64(np.sin(5.0)).tobytes())
    (folder / "bag.mcap").write_bytes(raw[:at] + bytes(8) + raw[at + 8 :])
    with open_bag(folder) as bag:
        assert "is not as it was written: the checksum of ['bag.mcap'] does not fit" in bag.salvaged
        assert len(list(bag.messages())) == len(MESSAGES)


def test_ingest_uses_the_rest_and_names_the_damage(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    raw = recorded(folder, compress=False)
    at = raw.index(np.float64(np.sin(5.0)).tobytes())
    (folder / "bag.mcap").write_bytes(raw[:at] + b"\x55" * 8 + raw[at + 8 :])
    result = ingest([folder], CONTRACT, tmp_path / "data").bags[0]
    assert result.success is True, "what is damaged in its middle is no recording that was broken off"
    assert any("its checksum does not fit" in note for note in result.notes)
    assert any("streams were silent" in note for note in result.notes)
    episodes = EpisodeDataset(tmp_path / "data").episodes
    assert len(episodes) == 2
    assert 20 < sum(e.steps for e in episodes) < 139
