"""Data that is partly bad: the sound part is used, the rest is counted and named by file, episode and key."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
import zarr

from difftop_ros.contract import Contract, Observation, load_contract, observations, parse_contract
from difftop_ros.data import DatasetError, EpisodeDataset, WindowDataset, ingest
from difftop_ros.data.episodes import store
from difftop_ros.data.episodes.grid import actions_at
from difftop_ros.messages import pipeline
from difftop_ros.messages.types import rosbags_types
from difftop_ros.paths import share_path


@pytest.fixture
def dataset(tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]) -> Path:
    """Three episodes of 12, 13 and 14 steps."""
    bags = [write_bag(tmp_path / f"bag{i}", episode(steps=12 + i, seed=i)) for i in range(3)]
    ingest(bags, contract, tmp_path / "data")
    return tmp_path / "data"


def folder_of(dataset: Path, index: int) -> Path:
    return sorted(dataset.glob("bags/*/part_000"))[index]


def test_a_command_that_is_not_finite_costs_its_own_step(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    entries = episode(steps=20)
    commands = [e[3] for e in entries if e[0] == "/command"]
    commands[7].position[0] = np.nan
    commands[8].name = ["a", "c"]
    result = ingest([write_bag(tmp_path / "bag", entries)], contract, tmp_path / "data").bags[0]
    assert (result.undecodable, result.gaps, result.steps, len(result.episodes)) == ({"action": 2}, 2, 18, 2)
    assert re.match(
        r"JointState on '/command' has a position that is not finite for \['a'\].*at 0\.7 s", result.notes[0]
    )
    data = EpisodeDataset(tmp_path / "data")
    assert [e.steps for e in data] == [7, 11] and all(np.isfinite(e["action"][:]).all() for e in data)
    np.testing.assert_allclose(data[1]["action"][0, 0], 0.9, atol=1e-6)


def test_commands_that_are_all_bad_give_no_episode_and_say_why(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    entries = episode(steps=12)
    for entry in entries:
        if entry[0] == "/command":
            entry[3].name = ["a", "c"]
    with pytest.raises(DatasetError, match=r"bag: .*gives no step: JointState on '/command' lacks 'b'"):
        ingest([write_bag(tmp_path / "bag", entries)], contract, tmp_path / "data")


class CountObs(Observation):
    """A Float64MultiArray, frame float32 (1,), whose kind forgets to say that there is no header."""

    kind: Literal["count"]
    type: Literal["std_msgs/msg/Float64MultiArray"] = "std_msgs/msg/Float64MultiArray"

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,)


@pytest.mark.parametrize("header", [True, False])
def test_messages_without_header_need_a_kind_that_says_so(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch, header: bool,
) -> None:  # fmt: skip
    monkeypatch.setitem(observations.KINDS, "count", CountObs)
    monkeypatch.setitem(pipeline.DECODERS, "count", lambda obs, found: np.float32(found[obs.topic].data))
    monkeypatch.setattr(CountObs, "header", header)
    entries = episode(steps=12)
    for topic, _, received, _ in list(entries):
        if topic == "/joint_states":
            message = rosbags_types("std_msgs/msg/Float64MultiArray")()
            message.data = np.array([received / 1e9])
            entries.append(("/count", "std_msgs/msg/Float64MultiArray", received, message))
    bag = write_bag(tmp_path / "bag", sorted(entries, key=lambda entry: entry[2]))
    data = contract.to_dict()
    data["observations"]["count"] = {"kind": "count", "topic": "/count"}
    counting = parse_contract(yaml.safe_dump(data))
    if header:
        with pytest.raises(DatasetError, match=r"messages on '/count' .*MultiArray\) have no header"):
            ingest([bag], counting, tmp_path / "data")
        return
    ingest([bag], counting, tmp_path / "data")
    steps = EpisodeDataset(tmp_path / "data")[0]["count"][:, 0]
    np.testing.assert_allclose(np.diff(steps), 0.1, atol=1e-4)


def test_a_bad_increment_spoils_its_own_step_alone(contract: Contract) -> None:
    deltas = contract.model_copy(update={"command": contract.command.model_copy(update={"mode": "delta_position"})})
    commands = np.ones((6, 2))
    commands[2, 1] = np.nan
    stamps = np.arange(6) * 50_000_000  # two in each step of 0.1 s
    found = actions_at(deltas, stamps, commands, np.arange(3) * 100_000_000)
    np.testing.assert_array_equal(found, [[2, 2], [np.nan, np.nan], [2, 2]])


@pytest.mark.parametrize("damage", ["gone", "short", "other shape", "unreadable"])
def test_an_episode_with_a_broken_array_is_left_out_and_named(dataset: Path, damage: Any) -> None:
    folder = folder_of(dataset, 1)
    cloud = folder / "cloud"
    if damage == "unreadable":
        for file in cloud.iterdir():
            if file.is_file():
                file.write_text("{")
    else:
        shutil.rmtree(cloud)
    if damage in ("short", "other shape"):
        shape = (5, 16, 6) if damage == "short" else (13, 32, 6)
        zarr.open_array(str(cloud), mode="w", shape=shape, dtype=np.float32)
    found = EpisodeDataset(dataset)
    assert [e.steps for e in found] == [12, 14]
    (reason,) = found.broken.values()
    assert str(folder) in reason and "'cloud'" in reason
    assert len(WindowDataset(found, 2, 4)) == 26


def test_a_dataset_without_a_whole_episode_says_what_is_wrong_with_the_first(dataset: Path) -> None:
    for index in range(3):
        shutil.rmtree(folder_of(dataset, index) / "joints")
    with pytest.raises(DatasetError, match=r"3 are broken: episode '.*' has no readable 'joints'"):
        EpisodeDataset(dataset)


def test_where_a_number_is_not_finite_is_found(dataset: Path) -> None:
    zarr.open_array(str(folder_of(dataset, 2) / "joints"), mode="r+")[9, 0] = np.inf
    found = EpisodeDataset(dataset)
    assert found.where_not_finite("action") == ""
    name = found[2].name
    assert found.where_not_finite("joints") == f"'joints' of episode '{name}', step 9"


def test_windows_longer_than_every_episode_are_padded_and_masked(dataset: Path) -> None:
    windows = WindowDataset(EpisodeDataset(dataset), obs_steps=20, horizon=30)
    batch = windows.batch([0, 11])
    assert batch["obs"]["joints"].shape == (2, 20, 2) and batch["action"].shape == (2, 30, 2)
    assert batch["mask"].sum(axis=1).tolist() == [12, 1]
    assert (batch["obs"]["joints"][0] == batch["obs"]["joints"][0, 0]).all()
    assert (batch["action"][0, 12:] == batch["action"][0, 11]).all()


def test_a_task_of_images_without_images_says_which_topic_is_lacking(
    tmp_path: Path, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bag = write_bag(tmp_path / "blind", episode(steps=12))
    contract = load_contract(share_path("config/metaworld_image.yaml"))
    with pytest.raises(DatasetError, match=r"blind: .*'/camera/corner2/color/image_raw' is missing"):
        ingest([bag], contract, tmp_path / "data")


@pytest.mark.parametrize("head", ['{"format": 1}', "[]", "{"])
def test_a_dataset_made_by_other_rules_is_not_taken(dataset: Path, contract: Contract, head: str) -> None:
    known = dataset / "dataset.json"
    if head.endswith("}"):
        head = known.read_text().replace(f'"format": {store.FORMAT}', '"format": 1')
    known.write_text(head)
    expected = "made by other rules .*makes it anew" if "format" in head else "delete the dataset and ingest again"
    for take in (lambda: EpisodeDataset(dataset), lambda: ingest([dataset.parent / "bag0"], contract, dataset)):
        with pytest.raises(DatasetError, match=expected):
            take()
