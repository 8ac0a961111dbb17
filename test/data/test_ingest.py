"""Bags of every storage become the same dataset; broken ones say what is wrong; windows cut it right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import get_types_from_msg

from difftop_ros.contract import Contract
from difftop_ros.data import BagError, DatasetError, EpisodeDataset, WindowDataset, find_bags, ingest, open_bag
from difftop_ros.data.episodes.grid import actions_at, newest_at
from difftop_ros.messages import ObservationPipeline, StaleObservation


def changed(contract: Contract, key: str | None = None, **values: Any) -> Contract:
    """The contract with fields changed at its top, or in observation `key`."""
    data = contract.to_dict()
    (data["observations"][key] if key else data).update(values)
    return Contract.model_validate(data)


def test_frames_and_actions_are_what_was_recorded(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bag = write_bag(tmp_path / "bag", episode(steps=30))
    report = ingest([bag], contract, tmp_path / "data")
    assert (report.episodes, report.steps, report.bags[0].success) == (1, 30, True)
    stored = EpisodeDataset(tmp_path / "data")[0]
    times = np.arange(30) * 0.1
    np.testing.assert_allclose(stored["joints"][:], np.column_stack([times, np.full(30, -1.0)]), atol=1e-6)
    np.testing.assert_allclose(stored["action"][:], np.column_stack([times, np.full(30, 0.5)]), atol=1e-6)
    assert stored["cloud"].shape == (30, 16, 6) and stored["cloud"].dtype == np.float32
    with open_bag(bag) as opened:
        clouds = [opened.deserialize(raw, topic) for topic, _, raw in opened.messages(["/points"])]
    pipeline = ObservationPipeline(contract)
    for step, message in enumerate(clouds):
        np.testing.assert_array_equal(stored["cloud"][step], pipeline.decode("cloud", {"/points": message}))


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("compression", ["NONE", "FILE", "MESSAGE", "STORAGE"])
def test_every_storage_gives_the_same(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any], plugin: str, compression: str
) -> None:
    if (plugin, compression) == ("SQLITE3", "STORAGE"):
        compression = "NONE"  # sqlite3 has no compression of its own
    plain = kit.write_bag(tmp_path / "plain", episode(steps=12))
    other = kit.write_bag(tmp_path / "other", episode(steps=12), plugin=kit.StoragePlugin[plugin],
                          compression=kit.CompressionMode[compression])  # fmt: skip
    ingest([plain], contract, tmp_path / "one")
    ingest([other], contract, tmp_path / "two")
    first, second = EpisodeDataset(tmp_path / "one")[0], EpisodeDataset(tmp_path / "two")[0]
    for key in first:
        np.testing.assert_array_equal(first[key][:], second[key][:])


def test_the_cache_is_used_and_notices_changes(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bags = [write_bag(tmp_path / "bags" / f"e{i}", episode(steps=12, seed=i)) for i in range(3)]
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, result: Any) -> None:
        seen.append((done, total, result.status))

    ingest(bags[:2], contract, tmp_path / "data", progress=progress)
    report = ingest(find_bags([tmp_path / "bags"]), contract, tmp_path / "data", progress=progress)
    assert seen == [(1, 2, "ingested"), (2, 2, "ingested"), (1, 3, "cached"), (2, 3, "cached"), (3, 3, "ingested")]
    assert report.episodes == 3 and "2 bags cached" in "\n".join(report.notes())
    shutil.rmtree(bags[0])
    write_bag(bags[0], episode(steps=20, seed=9))
    assert [b.status for b in ingest(bags, contract, tmp_path / "data").bags] == ["ingested", "cached", "cached"]
    assert EpisodeDataset(tmp_path / "data").steps == 20 + 12 + 12
    with pytest.raises(DatasetError, match="another contract"):
        ingest(bags, changed(contract, rate_hz=5.0), tmp_path / "data")
    # A topic's age limit is data; the simulator's section is not.
    assert ingest(bags, changed(contract, sim={"width": 64}), tmp_path / "data").bags[0].status == "cached"


def test_an_interrupted_ingest_goes_on_where_it_was(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bags = [write_bag(tmp_path / f"e{i}", episode(steps=12, seed=i)) for i in range(2)]

    def interrupt(done: int, total: int, result: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(bags, contract, tmp_path / "data", progress=interrupt)
    with pytest.raises(DatasetError, match=r"report\.json is missing"):
        EpisodeDataset(tmp_path / "data")
    assert [b.status for b in ingest(bags, contract, tmp_path / "data").bags] == ["cached", "ingested"]


def test_failed_episodes_are_left_out_by_default(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    marks = {"good": True, "bad": False, "unmarked": None}
    bags = [write_bag(tmp_path / name, episode(steps=12, success=mark)) for name, mark in marks.items()]
    (bags[2] / "episode.json").write_text(json.dumps({"success": None, "seed": 7}))
    ingest(bags, contract, tmp_path / "data")
    used = EpisodeDataset(tmp_path / "data")
    assert [Path(e.attributes["bag"]).name for e in used] == ["good", "unmarked"]
    assert used[1].attributes["seed"] == 7 and used.failures == 1
    assert len(EpisodeDataset(tmp_path / "data", include_failures=True)) == 3
    (bags[0] / "episode.json").write_text(json.dumps({"success": False}))  # the recorder's mark counts more than topics
    ingest(bags[:2], contract, tmp_path / "data")
    with pytest.raises(DatasetError, match="2 are marked as failed"):
        EpisodeDataset(tmp_path / "data")


def without_clouds(entries: Any, first_s: float, last_s: float) -> list[Any]:
    return [e for e in entries if e[0] != "/points" or not first_s <= e[2] / 1e9 - 100 < last_s]


def test_gaps_are_held_and_counted_or_split(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bag = write_bag(tmp_path / "bag", without_clouds(episode(steps=40), 1.0, 2.0))
    held = ingest([bag], contract, tmp_path / "held").bags[0]
    # The cloud of .9 s serves within 250 ms (steps 10, 11) and is held stale from 1.2 s to 1.9 s.
    assert (held.steps, held.held, held.gaps) == (40, {"cloud": 8}, 0)
    split = ingest([bag], changed(contract, "cloud", on_stale="drop"), tmp_path / "split").bags[0]
    assert (split.steps, split.gaps, len(split.episodes)) == (32, 8, 2)
    data = EpisodeDataset(tmp_path / "split")
    assert [e.steps for e in data] == [12, 20]
    np.testing.assert_allclose(data[1]["joints"][0, 0], 2.0, atol=1e-6)
    assert ingest([bag], changed(contract, "cloud", resample="hold"), tmp_path / "latch").bags[0].held == {}


def test_incomplete_ends_are_trimmed_and_counted(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    late_start = without_clouds(episode(steps=40), 0.0, 0.5)
    early_end = without_clouds(late_start, 3.0, 9.0)
    result = ingest([write_bag(tmp_path / "bag", early_end)], contract, tmp_path / "data").bags[0]
    # Clouds from .5 s to 2.9 s, the last good for 250 ms more: steps 5 .. 31 of 0 .. 39.
    assert (result.leading, result.steps, result.trailing) == (5, 27, 8)


def test_a_frame_that_cannot_be_decoded_counts_as_not_received(
    tmp_path: Path,
    contract: Contract,
    kit: SimpleNamespace,
    write_bag: Callable[..., Path],
    episode: Callable[..., Any],
) -> None:
    entries = episode(steps=20)
    clouds = [i for i, e in enumerate(entries) if e[0] == "/points"]
    nan = np.full((9, 3), np.nan, np.float32)
    for i in clouds[5:7]:
        topic, kind, stamp, good = entries[i]
        time_s = good.header.stamp.sec + good.header.stamp.nanosec * 1e-9
        broken = kit.point_cloud2(kit.types, nan, time_s, "world", np.zeros((9, 3), np.uint8))
        entries[i] = (topic, kind, stamp, broken)
    result = ingest([write_bag(tmp_path / "bag", entries)], contract, tmp_path / "data").bags[0]
    assert result.undecodable == {"cloud": 2} and result.steps == 20
    assert "none of them is finite" in result.notes[0]
    clouds = EpisodeDataset(tmp_path / "data")[0]["cloud"][:]
    np.testing.assert_array_equal(clouds[4], clouds[5])
    np.testing.assert_array_equal(clouds[4], clouds[6])
    assert not np.array_equal(clouds[6], clouds[7])


def test_what_cannot_be_used_is_skipped_and_said(
    tmp_path: Path,
    contract: Contract,
    kit: SimpleNamespace,
    write_bag: Callable[..., Path],
    episode: Callable[..., Any],
) -> None:
    good = episode(steps=12)
    no_cloud = [e for e in good if e[0] != "/points"]
    renamed = [("/point", *e[1:]) if e[0] == "/points" else e for e in good]
    wrong = [e for e in good if e[0] != "/joint_states"]
    wrong.append(("/joint_states", "std_msgs/msg/Bool", 100 * 10**9, kit.types("std_msgs/msg/Bool")()))
    lacking = []
    for topic, kind, stamp, message in episode(steps=12):
        if topic == "/joint_states":
            message.name = ["b", "c"]
        lacking.append((topic, kind, stamp, message))
    restarted = good + [(t, k, s + 10**10, m) for t, k, s, m in episode(steps=12, start_s=3.0, offset_s=110)]
    cases = {
        "no_cloud": (no_cloud, "topic '/points' is missing; there are"),
        "renamed": (renamed, "did you mean '/point'?"),
        "wrong": (wrong, "topic '/joint_states' has type std_msgs/msg/Bool, the contract expects sensor_msgs"),
        "lacking": (lacking, "JointState on '/joint_states' lacks 'a'"),
        "restarted": (restarted, "jumps back"),
        "empty": ([], "is empty"),
    }
    bags = [write_bag(tmp_path / "good", good)]
    bags += [write_bag(tmp_path / name, entries) for name, (entries, _) in cases.items()]
    report = ingest(bags, contract, tmp_path / "data")
    assert [b.status for b in report.bags] == ["ingested"] + ["skipped"] * len(cases)
    for result, (_, sentence) in zip(report.bags[1:], cases.values(), strict=True):
        assert sentence in result.reason
        assert result.reason in "\n".join(report.notes())
    with pytest.raises(DatasetError, match="none of the 6 bags gave an episode"):
        ingest(bags[1:], contract, tmp_path / "none")


def test_paths_that_are_no_bags(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for path, sentence in (("gone", "does not exist"), ("notes.txt", "is not a bag"), ("empty", "is not a bag")):
        with pytest.raises(BagError, match=sentence):
            open_bag(tmp_path / path)
    with pytest.raises(BagError, match="no bag in"):
        find_bags([tmp_path / "empty"])


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_bags_give_what_is_readable(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any], plugin: str, kept: Any
) -> None:
    bag = kit.write_bag(tmp_path / "bag", episode(steps=60, points=4000), plugin=kit.StoragePlugin[plugin])
    with open_bag(bag) as whole:
        total, salvaged = whole.message_count, whole.salvaged
    assert not salvaged
    file = next(p for p in bag.iterdir() if p.suffix in (".mcap", ".db3"))
    with file.open("r+b") as stream:
        stream.truncate(int(file.stat().st_size * kept))
    with open_bag(bag) as cut:
        assert "was cut short" in cut.salvaged and f"{cut.message_count} messages" in cut.salvaged
        assert 0.5 * kept * total < cut.message_count <= total
        assert len(list(cut.messages(["/points"]))) == cut.topics["/points"].count
    result = ingest([bag], contract, tmp_path / "data").bags[0]
    assert result.steps >= 60 * kept * 0.5 and "were recovered" in result.notes[0]


def test_a_bag_without_its_metadata_is_read(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bag = write_bag(tmp_path / "bag", episode(steps=12))
    (bag / "metadata.yaml").unlink()
    assert find_bags([tmp_path]) == [bag]
    assert ingest([bag], contract, tmp_path / "data").steps == 12


def test_nothing_readable_is_an_error(
    tmp_path: Path, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bag = write_bag(tmp_path / "bag", episode(steps=12))
    file = next(bag.glob("*.mcap"))
    file.write_bytes(b"not a recording" * 100)
    with pytest.raises(BagError, match="nothing could be recovered"):
        open_bag(bag)


def test_damage_within_a_file_is_named(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    bag = kit.write_bag(tmp_path / "bag", episode(steps=60, points=4000), compression=kit.CompressionMode.STORAGE)
    file = next(bag.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    file.write_bytes(data)
    good = kit.write_bag(tmp_path / "good", episode(steps=12))
    report = ingest([bag, good], contract, tmp_path / "data")
    assert [b.status for b in report.bags] == ["ingested", "ingested"]
    assert "is damaged: in bag.mcap the messages of a chunk at byte" in report.bags[0].notes[0]
    assert 0 < report.bags[0].steps < 59, "the rest is used"


def test_custom_types_embedded_in_a_bag_are_read(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    store = kit.store
    if "my_robot/msg/Force" not in store.fielddefs:
        text = "std_msgs/Header header\nfloat32[3] force\nstring note"
        store.register(get_types_from_msg(text, "my_robot/msg/Force"))
    kind = store.types["my_robot/msg/Force"]
    header = kit.joint_state(kit.types, [], 100.0).header
    extra = [("/force", "my_robot/msg/Force", 100 * 10**9, kind(header, np.array([1, 2, 3], np.float32), "here"))]
    for plugin in kit.StoragePlugin:
        bag = kit.write_bag(tmp_path / plugin.name, extra + episode(steps=12), plugin=plugin)
        with open_bag(bag) as opened:
            ((topic, _, raw),) = opened.messages(["/force"])
            assert opened.deserialize(raw, topic).note == "here"
        assert ingest([bag], contract, tmp_path / f"data_{plugin.name}").steps == 12


def test_receive_time_counts_when_the_contract_says_so(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    entries = episode(steps=20, offset_s=5.0)
    for _, _, _, message in entries:
        if hasattr(message, "header"):
            message.header.stamp.sec = 3  # a camera whose clock stands still
    by_receipt = changed(contract, clock="receive")
    assert 18 <= ingest([write_bag(tmp_path / "bag", entries)], by_receipt, tmp_path / "data").steps <= 20


def test_the_pipeline_says_why_there_is_no_observation(contract: Contract, kit: SimpleNamespace) -> None:
    pipeline = ObservationPipeline(contract)
    joints = kit.joint_state(kit.types, ["a", "b"], 10.0, np.zeros(2))
    cloud = kit.point_cloud2(kit.types, np.zeros((3, 3), np.float32), 10.0, "world", np.zeros((3, 3), np.uint8))
    now = 10 * 10**9
    with pytest.raises(StaleObservation, match="nothing was received on '/points'"):
        pipeline.observe({"/joint_states": (now, joints)}, now)
    latest = {"/joint_states": (now, joints), "/points": (now, cloud)}
    seen = pipeline.observe(latest, now + 50_000_000)
    assert seen.ages == {"joints": 50.0, "cloud": 50.0} and seen.stale == ()
    with pytest.raises(StaleObservation, match=r"'joints' is stale.*150 ms old, max_age_ms is 100"):
        pipeline.observe(latest, now + 150_000_000)
    assert pipeline.observe(latest, now + 150_000_000, hold=True).stale == ("joints",)
    from difftop_ros.messages import ObservationError

    with pytest.raises(ObservationError, match=r"100.0 s ahead of now.*use_sim_time"):
        pipeline.observe(latest, now - 100 * 10**9)
    assert pipeline.observe(latest, now).frames["cloud"] is seen.frames["cloud"]  # one message is decoded once


def test_actions_follow_the_time_rules(contract: Contract) -> None:
    times = np.array([0, 100, 200, 300], np.int64) * 1_000_000
    stamps = np.array([10, 60, 100, 300, 399], np.int64) * 1_000_000
    commands = np.arange(1.0, 6.0)[:, None] * [1, 10]
    np.testing.assert_array_equal(actions_at(contract, stamps, commands, times)[:, 0], [2, 3, 3, 5])
    delta = contract.model_copy(update={"command": contract.command.model_copy(update={"mode": "delta_position"})})
    np.testing.assert_array_equal(actions_at(delta, stamps, commands, times)[:, 0], [3, 3, 0, 9])
    # A stamp that misses the grid by rounding belongs to it.
    assert newest_at(np.array([100_000_001]), np.array([100_000_000])).tolist() == [0]
    assert newest_at(np.array([101_000_000]), np.array([100_000_000])).tolist() == [-1]


def test_windows_are_padded_within_their_episode(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    bags = [write_bag(tmp_path / f"e{n}", episode(steps=n, seed=n)) for n in (20, 37)]
    ingest(bags, contract, tmp_path / "data")
    data = EpisodeDataset(tmp_path / "data")
    windows = WindowDataset(data, obs_steps=3, horizon=8)
    lazy = WindowDataset(data, obs_steps=3, horizon=8, memory_mb=0.0)
    assert len(windows) == 57
    first, last = windows[20], windows[56]
    np.testing.assert_allclose(first["obs"]["joints"][:, 0], [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(windows[22]["obs"]["joints"][:, 0], [0, 0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(first["action"][:, 0], np.arange(8) * 0.1, atol=1e-6)
    assert first["mask"].all() and last["mask"].tolist() == [True] + [False] * 7
    np.testing.assert_allclose(last["action"][:, 0], 3.6, atol=1e-6)
    assert first["action"].dtype == np.float32 and first["obs"]["cloud"].shape == (3, 16, 6)
    order = np.random.default_rng(0).permutation(57)
    for a, b in zip(windows.batch(order)["obs"].values(), lazy.batch(order)["obs"].values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_statistics_are_those_of_all_steps(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    ingest([write_bag(tmp_path / f"e{n}", episode(steps=n, seed=n)) for n in (20, 150)], contract, tmp_path / "data")
    data = EpisodeDataset(tmp_path / "data")
    for key in ("action", "joints", "cloud"):
        rows = np.concatenate([e[key][:].reshape(-1, e[key].shape[-1]) for e in data]).astype(np.float64)
        found = data.statistics(key)
        for name in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(getattr(found, name), getattr(rows, name)(axis=0), atol=1e-9)


def other_robot(kit: SimpleNamespace, steps: int = 25) -> list[Any]:
    """What the drivers of config/ur_like_example.yaml publish: joints at 50 Hz, jpeg at 15 Hz, cloud at 12 Hz."""
    rng = np.random.default_rng(0)
    names = ["elbow_joint", "shoulder_lift_joint", "shoulder_pan_joint", "wrist_3_joint", "wrist_1_joint",
             "wrist_2_joint", "finger_joint"]  # fmt: skip
    entries = []
    for i in range(steps * 5):
        t = 50 + i * 0.02
        state = kit.joint_state(kit.types, names, t, np.arange(7.0) + t - 52, np.arange(7.0) / 10, np.zeros(7))
        entries.append((t, "/arm/joint_states", "sensor_msgs/msg/JointState", state))
    for i in range(int(steps * 1.5)):
        t = 50.01 + i / 15
        picture = np.full((120, 160, 3), [10, 200, i], np.uint8)
        entries.append((t, "/overhead_camera/color/image_raw/compressed", "sensor_msgs/msg/CompressedImage",
                        kit.compressed_image(kit.types, picture, t, "overhead_camera_optical")))  # fmt: skip
    for i in range(int(steps * 1.2)):
        t = 50.02 + i / 12
        xyz = rng.uniform([-0.6, -0.6, 0.2], [0.6, 0.6, 1.2], (30, 40, 3)).astype(np.float32)
        xyz[0, :5] = np.nan
        cloud = kit.point_cloud2(kit.types, xyz, t, "overhead_camera_optical", np.zeros((30, 40, 3), np.uint8),
                                 order=("z", "rgb", "y", "x"), padding=4, row_padding=8)  # fmt: skip
        entries.append((t, "/overhead_camera/depth/points", "sensor_msgs/msg/PointCloud2", cloud))
    for i in range(steps * 2):
        t = 50 + i * 0.05
        order = kit.types("std_msgs/msg/Float64MultiArray")()
        order.data = np.arange(6.0) * i
        entries.append((t, "/forward_velocity_controller/commands", "std_msgs/msg/Float64MultiArray", order))
    return [(topic, kind, round(t * 1e9), m) for t, topic, kind, m in sorted(entries, key=lambda e: e[0])]


def test_another_robot_needs_no_code(tmp_path: Path, other_contract: Contract, kit: SimpleNamespace) -> None:
    bag = kit.write_bag(tmp_path / "bag", other_robot(kit))
    result = ingest([bag], other_contract, tmp_path / "data").bags[0]
    assert result.steps >= 23 and not result.undecodable and not result.held
    stored = EpisodeDataset(tmp_path / "data")[0]
    assert {k: v.shape[1:] for k, v in stored.items()} == {
        "state": (12,), "colour": (64, 64, 3), "cloud": (256, 6), "action": (6,)
    }  # fmt: skip
    state = stored["state"][0]
    # Contract order: pan, lift, elbow, wrist 1, 2, 3; the message's order is another.
    np.testing.assert_allclose(state[:6] - state[2], [2, 1, 0, 4, 5, 3], atol=1e-4)
    np.testing.assert_allclose(state[6:], [0.2, 0.1, 0.0, 0.4, 0.5, 0.3], atol=1e-6)
    assert np.abs(stored["colour"][3][..., :2].astype(int) - [10, 200]).max() < 12
    cloud = stored["cloud"][:]
    assert cloud[..., :3].min(axis=(0, 1))[2] >= 0 and np.isfinite(cloud).all()


def test_a_recording_that_was_interrupted_is_not_trained_on(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    names = ("whole", "cut")
    whole, cut = (write_bag(tmp_path / n, episode(steps=12, success=None, seed=len(n))) for n in names)
    (cut / "episode.json").write_text(json.dumps({"success": None, "interrupted": True}))
    report = ingest([whole, cut], contract, tmp_path / "out")
    assert [bag.success for bag in report.bags] == [None, False] and "interrupted" in report.bags[1].notes[-1]
    assert len(EpisodeDataset(tmp_path / "out")) == 1
