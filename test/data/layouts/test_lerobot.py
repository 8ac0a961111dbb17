"""LeRobot's layout, written and read back: numbers equal, pictures within what the codec loses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from difftop_ros.commands import bag as command
from difftop_ros.contract import parse_contract
from difftop_ros.data import DatasetError, EpisodeDataset, ingest
from difftop_ros.data.episodes.windows import WindowDataset
from difftop_ros.messages import images
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import rosbags_types as types

pa = pytest.importorskip("pyarrow", reason="the extra [lerobot] is not installed")
pytest.importorskip("imageio_ffmpeg", reason="the extra [lerobot] is not installed")
import pyarrow.parquet as pq  # noqa: E402

CONTRACT = """
name: two_joints
rate_hz: 10
control_rate_hz: 20
command:
  topic: /command
  type: sensor_msgs/msg/JointState
  joints: [{name: a, position: [-9, 9], velocity: 9}, {name: b, position: [-9, 9], velocity: 9}]
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a, b], fields: [position, velocity], max_age_ms: 300}
  eye: {kind: image, topic: /eye, crop: [4, 0, 40, 60], resize: [32, 48], max_age_ms: 300, min_contrast: 0}
  cloud: {kind: point_cloud, topic: /points, frame: base, voxel_m: 0.05, points: 12, color: true, max_age_ms: 300}
episode: {success_topic: /success}
"""


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def picture(i: int, seed: int) -> np.ndarray:
    """A moving gradient with a spot: what a camera might see, and a codec can keep."""
    y, x = np.mgrid[0:48, 0:64]
    frame = np.stack([3 * x + 4 * i, 4 * y, np.full_like(x, 40 * seed % 255)], -1).clip(0, 255).astype(np.uint8)
    cv2.circle(frame, (10 + i % 40, 24), 6, (255, 40, 40), -1)
    return frame


def entries(seed: int, steps: int) -> list[Any]:
    random, found = np.random.default_rng(seed), []
    for i in range(steps):
        t = 100 + i * 0.1
        at = round(t * 1e9)
        state = joint_state(types, ["a", "b"], t, random.normal(size=2), random.normal(size=2))
        order = joint_state(types, ["a", "b"], t, random.normal(size=2))
        xyz, rgb = random.uniform(-1, 1, (40, 3)).astype(np.float32), random.integers(0, 256, (40, 3), dtype=np.uint8)
        found += [
            ("/joint_states", "sensor_msgs/msg/JointState", at, state),
            ("/command", "sensor_msgs/msg/JointState", at + 1000, order),
            ("/eye", "sensor_msgs/msg/Image", at, images.image(types, picture(i, seed), t, "eye")),
            ("/points", "sensor_msgs/msg/PointCloud2", at, point_cloud2(types, xyz, t, "base", rgb)),
        ]
    mark = types("std_msgs/msg/Bool")()
    mark.data = True
    return [*found, ("/success", "std_msgs/msg/Bool", at + 2000, mark)]


@pytest.fixture
def dataset(tmp_path: Path, write_bag: Callable[..., Path]) -> Path:
    bags = [write_bag(tmp_path / f"bag{seed}", entries(seed, steps)) for seed, steps in ((1, 30), (2, 41), (3, 25))]
    ingest(bags, parse_contract(CONTRACT), tmp_path / "dataset")
    return tmp_path / "dataset"


def test_there_and_back_gives_the_same_training_windows(dataset: Path, tmp_path: Path) -> None:
    assert run("export", dataset, "--lerobot", tmp_path / "out", "--task", "lift the cube") == 0
    assert run("import", "--lerobot", tmp_path / "out", "--out", tmp_path / "back") == 0
    before, after = EpisodeDataset(dataset), EpisodeDataset(tmp_path / "back")
    assert after.contract == before.contract and after.spec == before.spec
    assert [e.steps for e in after] == [e.steps for e in before]
    assert [e.attributes["success"] for e in after] == [True] * 3
    for one, two in zip(before, after, strict=True):
        for key in ("joints", "cloud", "action"):
            np.testing.assert_array_equal(two[key][:], one[key][:])
        assert np.abs(two["eye"][:].astype(int) - one["eye"][:].astype(int)).mean() < 3
        grey = [e["eye"][:].mean(-1) for e in (one, two)]  # the codec halves colour, not brightness
        assert np.percentile(np.abs(grey[0] - grey[1]), 99) < 12
    windows = [WindowDataset(d, obs_steps=2, horizon=4) for d in (before, after)]
    assert len(windows[0]) == len(windows[1])
    one, two = windows[0][17], windows[1][17]
    np.testing.assert_array_equal(np.asarray(one["action"]), np.asarray(two["action"]))


def test_the_layout_is_lerobots(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("export", dataset, "--lerobot", out, "--task", "lift the cube")
    info = json.loads((out / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10 and info["splits"] == {"train": "0:3"}
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, EpisodeDataset(dataset).steps, 1)
    features = info["features"]
    assert features["observation.state"]["names"] == ["a.position", "b.position", "a.velocity", "b.velocity"]
    assert features["observation.images.eye"]["dtype"] == "video" and features["action"]["shape"] == [2]
    assert features["observation.cloud"]["shape"] == [12, 6]
    data = pq.read_table(out / info["data_path"].format(chunk_index=0, file_index=0))
    assert {k for k, v in features.items() if v["dtype"] != "video"} == set(data.column_names)
    assert data.column("index").to_pylist() == list(range(info["total_frames"]))
    assert data.schema.field("timestamp").type == pa.float32()
    episodes = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    video = cv2.VideoCapture(str(out / info["video_path"].format(
        video_key="observation.images.eye", chunk_index=0, file_index=0)))  # fmt: skip
    assert round(video.get(cv2.CAP_PROP_FPS)) == 10
    ends = 0
    for number, row in enumerate(episodes):
        assert row["episode_index"] == number and row["tasks"] == ["lift the cube"]
        assert row["dataset_from_index"] == ends
        ends = row["dataset_to_index"]
        assert row["length"] == ends - row["dataset_from_index"]
        span = row["videos/observation.images.eye/to_timestamp"] - row["videos/observation.images.eye/from_timestamp"]
        assert span == pytest.approx(row["length"] / 10)
        mine = np.array(data.column("action").to_pylist())[row["dataset_from_index"] : ends]
        np.testing.assert_allclose(row["stats/action/mean"], mine.mean(0))
    stats = json.loads((out / "meta/stats.json").read_text())
    every = np.array(data.column("action").to_pylist())
    for name, value in (("mean", every.mean(0)), ("std", every.std(0)), ("min", every.min(0)), ("max", every.max(0))):
        np.testing.assert_allclose(stats["action"][name], value)
    assert np.shape(stats["observation.images.eye"]["mean"]) == (3, 1, 1)
    tasks = pq.read_table(out / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "lift the cube"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert (out / "README.md").read_text().startswith("---\ntask_categories:")


def test_files_end_where_they_are_full(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difftop_ros.data.episodes.lerobot.export.FILE_STEPS", 50)
    run("export", dataset, "--lerobot", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("data/*/*.parquet"))) == 2
    assert len(list((tmp_path / "out").glob("videos/*/*/*.mp4"))) == 2
    run("import", "--lerobot", tmp_path / "out", "--out", tmp_path / "back")
    before, after = EpisodeDataset(dataset), EpisodeDataset(tmp_path / "back")
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(two["joints"][:], one["joints"][:])
        assert np.abs(two["eye"][:].astype(int) - one["eye"][:].astype(int)).mean() < 3


def test_other_peoples_datasets_go_through_the_contract(dataset: Path, tmp_path: Path) -> None:
    """Without our remarks a picture is cropped and resized, and names are LeRobot's."""
    out = tmp_path / "out"
    run("export", dataset, "--lerobot", out)
    (out / "meta/difftop.json").unlink()
    text = CONTRACT.replace("crop: [4, 0, 40, 60], resize: [32, 48]", "crop: [0, 0, 16, 24], resize: [8, 12]")
    file = tmp_path / "theirs.yaml"
    file.write_text(text[: text.index("  cloud:")] + text[text.index("episode:") :])
    assert run("convert", out, "--contract", file, "--out", tmp_path / "made") == 0
    made, before = EpisodeDataset(tmp_path / "made"), EpisodeDataset(dataset)
    assert made.spec["eye"][0] == (8, 12, 3)
    np.testing.assert_array_equal(made[1]["joints"][:], before[1]["joints"][:])
    small = cv2.resize(before[1]["eye"][5][:16, :24], (12, 8), interpolation=cv2.INTER_AREA)
    assert np.abs(made[1]["eye"][5].astype(int) - small.astype(int)).mean() < 6


def test_what_cannot_be_is_said(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("export", dataset, "--lerobot", out)
    with pytest.raises(DatasetError, match="is there already"):
        run("export", dataset, "--lerobot", out)
    with pytest.raises(DatasetError, match="is no LeRobot dataset"):
        run("import", "--lerobot", dataset, "--out", tmp_path / "x", "--contract", _write(tmp_path, CONTRACT))
    info = json.loads((out / "meta/info.json").read_text())
    (out / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    with pytest.raises(DatasetError, match=r"layout v2\.1.*convert_dataset_v21_to_v30"):
        run("import", "--lerobot", out, "--out", tmp_path / "x")
    (out / "meta/info.json").write_text(json.dumps(info))
    next(out.glob("videos/*/*/*.mp4")).unlink()
    with pytest.raises(DatasetError, match=r"mp4' is missing"):
        run("import", "--lerobot", out, "--out", tmp_path / "x")


def _write(folder: Path, text: str) -> Path:
    (folder / "contract.yaml").write_text(text)
    return folder / "contract.yaml"
