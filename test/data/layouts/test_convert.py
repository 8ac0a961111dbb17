"""robomimic and DP3 files, made here with their real layouts, to datasets that train as bags do."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from difftop_ros.commands import bag as bag_command
from difftop_ros.contract import Contract, load_contract
from difftop_ros.data import DatasetError, EpisodeDataset, WindowDataset
from difftop_ros.data.episodes.convert import convert
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path

h5py = pytest.importorskip("h5py", reason="the extra [datasets] is not installed")
LENGTHS = (20, 3, 35)


@pytest.fixture
def contract() -> Contract:
    return load_contract(share_path("config/metaworld_cloud.yaml"))


@pytest.fixture
def image_contract() -> Contract:
    return load_contract(share_path("config/metaworld_image.yaml"))


def numbers(steps: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    low, high = [-0.4, 0.4, 0.01], [0.4, 0.9, 0.4]
    return {
        "point_cloud": np.concatenate(
            [rng.uniform(low, high, (steps, 600, 3)), rng.uniform(0, 255, (steps, 600, 3))], axis=2
        ).astype(np.float32),
        "state": rng.normal(size=(steps, 4)).astype(np.float32),
        "action": rng.uniform(-1, 1, (steps, 4)).astype(np.float32),
        "img": rng.integers(0, 256, (steps, 84, 84, 3), dtype=np.uint8),
    }


def write_zarr(path: Path, **changes: Any) -> dict[str, np.ndarray]:
    """DP3's layout; returns what was written. `changes` replace arrays, None leaves one out."""
    data = {**numbers(sum(LENGTHS), 0), "episode_ends": np.cumsum(LENGTHS), **changes}
    root = zarr.open_group(str(path), mode="w")
    for folder, keys in (("data", [k for k in data if k != "episode_ends"]), ("meta", ["episode_ends"])):
        group = root.create_group(folder)
        for key in keys:
            if data[key] is not None:
                array = np.asarray(data[key])
                new = group.create_array if hasattr(group, "create_array") else group.create_dataset
                new(key, shape=array.shape, chunks=(16, *array.shape[1:]), dtype=array.dtype)[:] = array
    return data


def write_hdf5(path: Path, edit: Callable[[str, Any], None] | None = None) -> dict[str, dict[str, np.ndarray]]:
    """robomimic's layout, demos 0 to 10 so that their order by name is not theirs; edit(name, group) at the end."""
    demos = {}
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        group.attrs["env_args"] = "{}"
        for index in range(11):
            data, name = numbers(6 + index, index), f"demo_{index}"
            demos[name] = data
            demo = group.create_group(name)
            demo.attrs["num_samples"] = 6 + index
            demo["actions"] = data["action"].astype(np.float64)
            demo["rewards"] = np.eye(1, 6 + index, 5 + index)[0]
            demo["obs/robot0_eef_pos"] = data["state"][:, :3].astype(np.float64)
            demo["obs/robot0_gripper_qpos"] = data["state"][:, 3:].astype(np.float64)
            demo["obs/agentview_image"] = data["img"]
            if edit:
                edit(name, demo)
    return demos


JOINTS = {"joints": "robot0_eef_pos+robot0_gripper_qpos"}


def test_a_dp3_zarr_becomes_a_dataset(tmp_path: Path, contract: Contract) -> None:
    written = write_zarr(tmp_path / "push.zarr")
    report = convert(tmp_path / "push.zarr", "dp3", contract, tmp_path / "out")
    assert (report.episodes, report.steps) == (3, sum(LENGTHS))
    dataset = EpisodeDataset(tmp_path / "out")
    assert [e.steps for e in dataset] == list(LENGTHS)
    start = LENGTHS[0] + LENGTHS[1]
    np.testing.assert_array_equal(dataset[2]["joints"][:], written["state"][start:])
    np.testing.assert_array_equal(dataset[2]["action"][:], written["action"][start:])
    cloud, points = dataset[2]["cloud"][7], written["point_cloud"][start + 7, :, :3]
    assert cloud.shape == (512, 3)
    assert all((points == point).all(axis=1).any() for point in cloud)
    batch = WindowDataset(dataset, 2, 50).batch([0, 22])
    assert batch["mask"].sum(axis=1).tolist() == [20, 1]  # a horizon longer than every episode
    spans = [(e.attributes["first_ns"], e.attributes["last_ns"]) for e in dataset]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))  # episodes can be told apart


def test_a_robomimic_file_becomes_a_dataset_in_its_own_order(tmp_path: Path, image_contract: Contract) -> None:
    written = write_hdf5(tmp_path / "demo.hdf5")
    report = convert(tmp_path / "demo.hdf5", "robomimic", image_contract, tmp_path / "out", keys=JOINTS)
    dataset = EpisodeDataset(tmp_path / "out")
    assert [e.steps for e in dataset] == list(range(6, 17)) and not report.skipped
    for index in (2, 10):
        data = written[f"demo_{index}"]
        np.testing.assert_array_equal(dataset[index]["joints"][:], data["state"])
        np.testing.assert_array_equal(dataset[index]["corner"][:], data["img"])
        np.testing.assert_array_equal(dataset[index]["action"][:], data["action"])
    assert all(e.attributes["success"] is True for e in dataset)


def test_a_second_run_takes_everything_from_the_cache(tmp_path: Path, contract: Contract) -> None:
    write_zarr(tmp_path / "a.zarr")
    first = convert(tmp_path / "a.zarr", "dp3", contract, tmp_path / "out")
    names = [e.name for e in EpisodeDataset(tmp_path / "out")]
    again = convert(tmp_path / "a.zarr", "dp3", contract, tmp_path / "out")
    assert [b.status for b in first.bags] == ["ingested"] * 3 and [b.status for b in again.bags] == ["cached"] * 3
    assert [e.name for e in EpisodeDataset(tmp_path / "out")] == names


def test_steps_that_are_not_finite_split_the_episode_and_are_counted(tmp_path: Path, contract: Contract) -> None:
    data = numbers(sum(LENGTHS), 0)
    data["state"][5, 2] = np.nan
    data["action"][12, 0] = np.inf
    data["point_cloud"][LENGTHS[0] : LENGTHS[0] + 3] = np.nan  # the second episode as a whole
    write_zarr(tmp_path / "a.zarr", **data)
    report = convert(tmp_path / "a.zarr", "dp3", contract, tmp_path / "out")
    first, second, third = report.bags
    assert (first.gaps, first.steps, len(first.episodes)) == (2, 18, 3)
    assert "a.zarr', episode 'episode_0', step 5: 'state' has numbers that are not finite" in first.notes[0]
    assert second.status == "skipped" and "episode 'episode_1', step 0, key 'point_cloud'" in second.reason
    assert third.steps == 35
    assert [e.steps for e in EpisodeDataset(tmp_path / "out")] == [5, 6, 7, 35]
    assert "skipped a.zarr:episode_1: " in "\n".join(report.notes())


def test_what_an_episode_lacks_costs_that_episode_alone(tmp_path: Path, image_contract: Contract) -> None:
    def edit(name: str, demo: Any) -> None:
        if name == "demo_1":
            del demo["obs/agentview_image"]
        if name == "demo_2":
            del demo["actions"]
            demo["actions"] = np.zeros((8, 7))
        if name == "demo_3":
            del demo["obs"]
        if name == "demo_4":
            demo["rewards"][:] = 0
        if name == "demo_5":
            picture = demo["obs/agentview_image"][:9]
            del demo["obs/agentview_image"]
            demo["obs/agentview_image"] = picture

    write_hdf5(tmp_path / "demo.hdf5", edit)
    report = convert(tmp_path / "demo.hdf5", "robomimic", image_contract, tmp_path / "out", keys=JOINTS)
    reasons = {b.bag.rpartition(":")[2]: b.reason for b in report.skipped}
    assert set(reasons) == {"demo_1", "demo_2", "demo_3"}
    assert "episode 'demo_1' has no ['agentview_image']" in reasons["demo_1"]
    assert "episode 'demo_2', key 'action' has the shape (7,) per step" in reasons["demo_2"]
    assert "episode 'demo_3': lacks ['obs']" in reasons["demo_3"]
    dataset = EpisodeDataset(tmp_path / "out")
    assert dataset.failures == 1  # demo_4 never got a reward
    assert report.bags[5].trailing == 2 and report.bags[5].steps == 9
    assert [e.steps for e in dataset] == [6, 9, 12, 13, 14, 15, 16]


def test_pictures_may_have_channels_first_and_numbers_up_to_one(tmp_path: Path, image_contract: Contract) -> None:
    data = numbers(sum(LENGTHS), 0)
    floats = np.moveaxis(data["img"].astype(np.float32) / 255, 3, 1)
    write_zarr(tmp_path / "a.zarr", img=floats, point_cloud=None)
    convert(tmp_path / "a.zarr", "dp3", image_contract, tmp_path / "out")
    np.testing.assert_array_equal(EpisodeDataset(tmp_path / "out")[0]["corner"][:], data["img"][:20])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"point_cloud": None}, r"has no \['point_cloud'\] for observation 'cloud'.*--key cloud="),
        ({"action": None}, "has no data/action"),
        ({"episode_ends": np.array([20, 20, 58])}, "episode_ends must increase"),
        ({"episode_ends": np.array([20, 23, 500])}, "to the 58 steps of data/action"),
        ({"state": np.zeros((58, 9), np.float32)}, r"key 'state' gives \(9,\) for observation 'joints'"),
    ],
)
def test_a_zarr_that_does_not_fit_is_told_in_one_sentence(
    tmp_path: Path, contract: Contract, changes: dict[str, Any], said: str
) -> None:
    write_zarr(tmp_path / "a.zarr", **changes)
    with pytest.raises(DatasetError, match=said):
        convert(tmp_path / "a.zarr", "dp3", contract, tmp_path / "out")


def test_files_that_are_no_datasets_are_told(tmp_path: Path, contract: Contract) -> None:
    (tmp_path / "no.hdf5").write_text("nothing")
    (tmp_path / "no.zarr").mkdir()
    for name, kind, said in (
        ("no.hdf5", "robomimic", "is no HDF5 file"),
        ("no.zarr", "dp3", "is no such zarr"),
        ("missing.hdf5", "robomimic", "does not exist"),
        ("missing.zarr", "dp3", "does not exist"),
    ):
        with pytest.raises(DatasetError, match=said):
            convert(tmp_path / name, kind, contract, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hdf5(tmp_path / "demo.hdf5")
    parser = argparse.ArgumentParser()
    bag_command.add_arguments(parser)
    words = ["convert", str(tmp_path / "demo.hdf5"), "--contract", str(share_path("config/metaworld_image.yaml"))]
    words += ["--out", str(tmp_path / "out"), "--key", "joints=robot0_eef_pos+robot0_gripper_qpos"]
    assert bag_command.run(parser.parse_args(words)) == 0
    assert "11 episodes, 121 steps" in capsys.readouterr().out


def test_a_converted_dataset_trains_without_bags(tmp_path: Path, contract: Contract) -> None:
    from difftop_ros.learning.run import TrainingJob, prepare_dataset
    from difftop_ros.learning.settings import TrainSettings

    write_zarr(tmp_path / "a.zarr")
    convert(tmp_path / "a.zarr", "dp3", contract, tmp_path / "out")
    job = TrainingJob((), contract, tmp_path / "model", TrainSettings(), dataset=tmp_path / "out")
    assert prepare_dataset(job).steps == sum(LENGTHS)
    other = load_contract(share_path("config/metaworld_state.yaml"))
    job = TrainingJob((), other, tmp_path / "model", TrainSettings(), dataset=tmp_path / "out")
    with pytest.raises(UserError, match="was made under contract 'metaworld_cloud'"):
        prepare_dataset(job)
    with pytest.raises(UserError, match="no bags were given"):
        TrainingJob((), contract, tmp_path / "model", TrainSettings())
