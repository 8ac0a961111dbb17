"""Recordings and what is made of them: bag folders, the recorder's marks, datasets."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzz.mutate import PIECES, WORDS, changed_bytes, changed_data
from tools.fuzz.targets.base import Target, samples


class Bags(Target):
    """A bag folder with its storage file or its metadata changed: opened, all read and deserialised."""

    searched = "body"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        store = get_typestore(Stores.ROS2_JAZZY)
        kinds = {"joint_states": "JointState", "picture": "Image", "points": "PointCloud2"}
        self.files: dict[str, dict[str, bytes]] = {}
        for name, plugin in (("mcap", StoragePlugin.MCAP), ("db3", StoragePlugin.SQLITE3)):
            path = folder / name
            with Writer(path, version=9, storage_plugin=plugin) as writer:
                for topic, kind in kinds.items():
                    connection = writer.add_connection(f"/{topic}", f"sensor_msgs/msg/{kind}", typestore=store)
                    for step in range(5):
                        writer.write(connection, 1_000_000_000 + step * 50_000_000, samples(store)[topic][0])
            self.files[name] = {file.name: file.read_bytes() for file in sorted(path.iterdir())}

    def make(self, rng: random.Random) -> bytes:
        kind = rng.choice(sorted(self.files))
        name = rng.choice(sorted(self.files[kind]))
        raw = changed_bytes(rng, self.files[kind][name], PIECES if name.endswith(".yaml") else WORDS)
        return f"{kind} {name}\n".encode() + raw

    def feed(self, raw: bytes) -> None:
        from difftop_ros.data.bags.reader import open_bag

        head, _, content = raw.partition(b"\n")
        kind, name = head.decode().split()
        bag_folder = self.folder / "bag"
        shutil.rmtree(bag_folder, ignore_errors=True)
        bag_folder.mkdir()
        for known, original in self.files[kind].items():
            (bag_folder / known).write_bytes(content if known == name else original)
        with open_bag(bag_folder) as bag:
            for topic, _, message in bag.messages():
                bag.deserialize(message, topic)


SMALL = """
name: fuzzed
rate_hz: 10
control_rate_hz: 10
command:
  topic: /command
  type: sensor_msgs/msg/JointState
  joints: [{name: a, position: [-2.0, 2.0], velocity: 4.0}]
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a], max_age_ms: 200}
"""


class Ingested(Target):
    """A good bag of a second and a contract that it suits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        from difftop_ros.contract import parse_contract
        from difftop_ros.messages.joints import joint_state
        from difftop_ros.messages.types import rosbags_types

        self.contract, self.bag = parse_contract(SMALL), folder / "recorded"
        store, kind = get_typestore(Stores.ROS2_JAZZY), "sensor_msgs/msg/JointState"
        with Writer(self.bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            topics = {t: writer.add_connection(t, kind, typestore=store) for t in ("/joint_states", "/command")}
            for step in range(10):
                now = 1.0 + step / 10
                message = joint_state(rosbags_types, ["a"], now, np.array([np.sin(now)]))
                for connection in topics.values():
                    writer.write(connection, round(now * 1e9), bytes(store.serialize_cdr(message, kind)))


class Marks(Ingested):
    """The recorder's mark beside a bag, changed: the bag is ingested with it."""

    MARK = {
        "contract": "fuzzed", "seed": 3, "task": "lift", "success": True, "complete": True, "steps": 10,
        "interrupted": False, "counts": {"/command": 10}, "stopped": {"/joint_states": 1.5},
        "streams": {"/joint_states": {"count": 10, "rate_hz": 10.0, "longest_gap_s": 0.1}},
    }  # fmt: skip

    def make(self, rng: random.Random) -> bytes:
        return changed_json(rng, self.MARK)

    def feed(self, raw: bytes) -> None:
        from difftop_ros.data.bags.reader import EPISODE_FILE
        from difftop_ros.data.episodes.dataset import EpisodeDataset
        from difftop_ros.data.episodes.ingest import ingest

        (self.bag / EPISODE_FILE).write_bytes(raw)
        out = self.folder / "data"
        shutil.rmtree(out, ignore_errors=True)
        report = ingest([self.bag], self.contract, out)
        assert report.rows()
        assert report.notes()
        assert len(EpisodeDataset(out, include_failures=True)) == 1


class Datasets(Ingested):
    """A dataset with one file changed: opened, and all of it read."""

    searched = "body"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from difftop_ros.data.episodes.ingest import ingest

        self.good = folder / "good"
        ingest([self.bag], self.contract, self.good)
        self.files = {
            str(p.relative_to(self.good)): p.read_bytes() for p in sorted(self.good.rglob("*")) if p.is_file()
        }

    def make(self, rng: random.Random) -> bytes:
        name = rng.choice(sorted(self.files))
        raw = self.files[name]
        changed = changed_json(rng, json.loads(raw)) if name.endswith(".json") else changed_bytes(rng, raw)
        return f"{name}\n".encode() + changed

    def feed(self, raw: bytes) -> None:
        from difftop_ros.data import EpisodeDataset, WindowDataset

        name, _, content = raw.partition(b"\n")
        path = self.good / name.decode()
        path.write_bytes(content)
        try:
            episodes = EpisodeDataset(self.good, include_failures=True)
            windows = WindowDataset(episodes, 2, 4)
            windows.batch(np.arange(len(windows)))
        finally:
            path.write_bytes(self.files[name.decode()])


def changed_json(rng: random.Random, data: Any) -> bytes:
    """Plain data as JSON, changed as data or as text."""
    if rng.random() < 0.5:
        return json.dumps(changed_data(rng, data)).encode()
    return changed_bytes(rng, json.dumps(data).encode(), PIECES)
