"""What is odd in a recording but does not keep it from being used is named: lying metadata, limits, frozen joints."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from difftop_ros.contract import Contract
from difftop_ros.data import DatasetError, ingest

Episode = Callable[..., Any]


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize(
    ("lie", "words"), [("part", r"lacks \['bag_1.x'\], which its metadata"), ("count", "lacks 500")]
)
def test_what_metadata_tells_of_and_is_not_there_is_named(
    storage: str, lie: str, words: str, tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Episode
) -> None:
    bag = kit.write_bag(tmp_path / "bag", episode(steps=20), plugin=kit.StoragePlugin[storage])
    file = bag / "metadata.yaml"
    data = yaml.safe_load(file.read_text())
    told = data["rosbag2_bagfile_information"]
    if lie == "part":
        told["relative_file_paths"].append("bag_1.x")
    else:
        told["message_count"] += 500
    file.write_text(yaml.safe_dump(data))
    result = ingest([bag], contract, tmp_path / "data").bags[0]
    assert result.success is False, "its end is missing"
    assert re.search(words, result.notes[0])


def test_commands_beyond_the_limits_are_counted(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Episode
) -> None:
    entries = episode(steps=20)
    orders = [message for topic, _, _, message in entries if topic == "/command"]
    orders[7].position[0] = -8.5
    result = ingest([kit.write_bag(tmp_path / "bag", entries)], contract, tmp_path / "data").bags[0]
    assert result.notes == [
        "1 of 20 commands on '/command' go beyond the limits of ['a'], as far as -8.5: correct the contract's limits"
    ]


@pytest.mark.parametrize(("begin", "seconds", "told"), [(0.0, 3.0, True), (1.0, 1.4, True), (1.0, 0.6, False)])
def test_a_joint_that_is_frozen_while_it_is_commanded_is_named(
    begin: float, seconds: float, told: bool, tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Episode
) -> None:
    entries = episode(steps=29)
    for topic, _, received, message in entries:
        at = received / 1e9 - 100
        if topic == "/joint_states" and begin <= at < begin + seconds:
            message.position[1] = begin  # 'a'
    result = ingest([kit.write_bag(tmp_path / "bag", entries)], contract, tmp_path / "data").bags[0]
    assert any("'a' on '/joint_states' reads the same to the last bit from" in note for note in result.notes) == told
    assert result.steps == 29


def test_a_joint_that_is_named_twice_is_refused_as_live(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Episode
) -> None:
    entries = episode(steps=20)
    for topic, _, _, message in entries:
        if topic == "/joint_states":
            message.name, message.position = ["a", "a", "b"], np.array([message.position[1], 9.0, -1.0])
    with pytest.raises(DatasetError, match=r"names \['a'\] more than once; correct its driver"):
        ingest([kit.write_bag(tmp_path / "bag", entries)], contract, tmp_path / "data")


def test_a_recording_under_two_names_is_named(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Episode
) -> None:
    bags = [kit.write_bag(tmp_path / name, episode(steps=12, seed=seed)) for name, seed in (("a", 0), ("b", 1))]
    bags.append(shutil.copytree(bags[0], tmp_path / "c"))
    for status in ("ingested", "cached"):
        report = ingest(bags, contract, tmp_path / "data")
        assert [bag.status for bag in report.bags] == [status] * 3
        assert [bool(bag.notes) for bag in report.bags] == [False, False, True]
        assert report.bags[2].notes[0].startswith(f"the same recording as '{bags[0]}'")
