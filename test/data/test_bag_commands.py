"""`difftop bag` and `difftop contract` on bags, as a user runs them, and what they find."""

from __future__ import annotations

import argparse
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from difftop_ros.commands import bag as bag_command
from difftop_ros.commands import contract as contract_command
from difftop_ros.contract import Contract
from difftop_ros.data import BagError, EpisodeDataset, ingest, open_bag
from difftop_ros.data.bags.check import check, offer_of_bag, worst
from difftop_ros.data.bags.timing import Timing


def run(command: Any, *words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def contract_file(tmp_path: Path, contract: Contract) -> Path:
    path = tmp_path / "contract.yaml"
    path.write_text(contract.to_yaml())
    return path


def test_inspect_prints_rates_gaps_and_ages(
    tmp_path: Path,
    write_bag: Callable[..., Path],
    episode: Callable[..., Any],
    contract_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = [e for e in episode(steps=30) if e[0] != "/points" or not 1.0 <= e[2] / 1e9 - 100 < 1.5]
    bag = write_bag(tmp_path / "bag", entries)
    assert run(bag_command, "inspect", bag, "--contract", contract_file, "--strip", tmp_path / "strip.png") == 0
    said = capsys.readouterr().out
    line = next(row for row in said.splitlines() if row.startswith("/joint_states"))
    assert line.split()[1:3] == ["60", "20.0"]
    cloud = next(row for row in said.splitlines() if row.startswith("/points")).split()
    # Six clouds are missing: .9 s to 1.5 s; clouds are received 2 ms after their stamp.
    assert cloud[1] == "25" and float(cloud[3]) == pytest.approx(600, abs=1) and cloud[6:9] == ["2.0", "/", "2.0"]
    assert re.search("warning +cloud +'/points' has a gap of 600 ms", said) and re.search("ok +joints", said)
    sheet = cv2.imread(str(tmp_path / "strip.png"))
    assert sheet is not None
    assert sheet.shape[0] == 138 + 2 * 78 and sheet[20:138].max() > 100
    # Each joint's chart has the grey curve of what was measured, the yellow of the action, red where it is split.
    for top in (138 + 18, 138 + 78 + 18):
        chart = sheet[top : top + 60].astype(int)
        assert (chart == (60, 210, 255)).all(axis=2).any(), "yellow"
    assert "3 rows of pictures and pairs" in said


def test_the_strip_has_a_row_for_every_kind_of_picture(
    tmp_path: Path, kit: SimpleNamespace, write_bag: Callable[..., Path]
) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    depth, cloud = np.full((60, 80), 1.2, np.float32), rng.normal(size=(500, 3)).astype(np.float32)
    made = {
        "/a": ("sensor_msgs/msg/Image", kit.image(kit.types, picture, 1.0, "c")),
        "/b": ("sensor_msgs/msg/CompressedImage", kit.compressed_image(kit.types, picture, 1.0, "c")),
        "/c": ("sensor_msgs/msg/Image", kit.depth_image(kit.types, depth, 1.0, "c")),
        "/d": ("sensor_msgs/msg/PointCloud2", kit.point_cloud2(kit.types, cloud, 1.0, "world")),
        "/e": ("sensor_msgs/msg/PointCloud2", kit.point_cloud2(kit.types, cloud * np.nan, 1.0, "world")),
    }
    bag = write_bag(tmp_path / "bag", [(t, k, 10**9 + i, m) for t, (k, m) in made.items() for i in range(3)])
    from difftop_ros.data.bags.strip import write_strip

    with open_bag(bag) as opened:
        assert write_strip(opened, tmp_path / "strip.png", columns=3) == 5
    dark = write_bag(tmp_path / "dark", [("/x", "std_msgs/msg/Bool", 1, kit.types("std_msgs/msg/Bool")())])
    with open_bag(dark) as opened, pytest.raises(BagError, match="no picture and no cloud"):
        write_strip(opened, tmp_path / "none.png")


def test_contract_check_against_a_bag(
    tmp_path: Path,
    write_bag: Callable[..., Path],
    episode: Callable[..., Any],
    contract_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(contract_command, "check", contract_file) == 0
    assert "two_joints: valid; 2 joints by position" in capsys.readouterr().out
    good = write_bag(tmp_path / "good", episode(steps=12))
    assert run(contract_command, "check", contract_file, "--bag", good) == 0
    bad = write_bag(tmp_path / "bad", [e for e in episode(steps=12) if e[0] != "/points"])
    assert run(contract_command, "check", contract_file, "--bag", bad) == 1
    said = capsys.readouterr().out
    assert re.search(r"error +cloud +topic '/points' is missing; there are \['/command'", said)
    assert run(contract_command, "show", contract_file) == 0
    assert "# sha256" in capsys.readouterr().out


def findings(contract: Contract, path: Path) -> dict[str, str]:
    with open_bag(path) as bag:
        found = check(contract, offer_of_bag(bag, contract), live=False)
    return {f.subject: f"{f.level}: {f.text}" for f in found}


def test_what_contract_check_finds(
    tmp_path: Path, contract: Contract, write_bag: Callable[..., Path], episode: Callable[..., Any]
) -> None:
    def spoiled(change: Callable[[str, Any], None]) -> Any:
        entries = episode(steps=12)
        for topic, _, _, message in entries:
            change(topic, message)
        return write_bag(tmp_path / change.__name__, entries)

    def frame(topic: str, message: Any) -> None:
        if topic == "/points":
            message.header.frame_id = "odom"

    def joint(topic: str, message: Any) -> None:
        if topic == "/joint_states":
            message.name = ["b", "c"]

    def limits(topic: str, message: Any) -> None:
        if topic == "/command":
            message.position = message.position + 3.0

    assert "error: cloud on '/points' is in frame 'odom'" in findings(contract, spoiled(frame))["cloud"]
    assert "error: JointState on '/joint_states' lacks 'a'" in findings(contract, spoiled(joint))["joints"]
    assert "warning: commands on '/command' go beyond the limits of ['a', 'b']" in findings(
        contract, spoiled(limits)
    )["command"]  # fmt: skip
    silent = write_bag(tmp_path / "silent", [e for e in episode(steps=12) if e[0] != "/command"])
    assert findings(contract, silent)["command"].startswith("error: topic '/command' is missing")
    unmarked = write_bag(tmp_path / "unmarked", episode(steps=12, success=None))
    assert findings(contract, unmarked)["success"].startswith("warning: topic '/success' is missing")
    assert worst([]) == "ok"


def test_old_messages_are_an_error_live(contract: Contract) -> None:
    from difftop_ros.data.bags.check import Offer

    now = 100 * 10**9
    kinds = {"/joint_states": "sensor_msgs/msg/JointState"}
    late = Timing([now + i * 10**7 for i in range(20)], [now + i * 10**7 - 5 * 10**8 for i in range(20)])
    found = check(contract, Offer(kinds, {"/joint_states": late}, {}), live=True)
    assert "are 500 ms old when they come" in next(f.text for f in found if f.subject == "joints")
    assert worst(found) == "error"
    assert next(f for f in found if f.subject == "command").level == "warning"


def test_ingest_as_a_command(
    tmp_path: Path,
    write_bag: Callable[..., Path],
    episode: Callable[..., Any],
    contract_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i in range(2):
        write_bag(tmp_path / "bags" / f"e{i}", episode(steps=12, seed=i))
    words = ["ingest", tmp_path / "bags", "--contract", contract_file, "--out", tmp_path / "data"]
    assert run(bag_command, *words) == 0
    assert "2 episodes, 24 steps" in capsys.readouterr().out
    assert run(bag_command, *words) == 0
    assert "2 bags cached" in capsys.readouterr().out


def test_long_bags_do_not_fill_the_memory(
    tmp_path: Path, contract: Contract, kit: SimpleNamespace, episode: Callable[..., Any]
) -> None:
    """A bag of 48 MB is ingested in a few megabytes."""
    bag = kit.write_bag(tmp_path / "bag", episode(steps=150, points=20_000))
    size = sum(f.stat().st_size for f in bag.iterdir())
    ingest([kit.write_bag(tmp_path / "warm", episode(steps=12))], contract, tmp_path / "first")
    tracemalloc.start()
    try:
        ingest([bag], contract, tmp_path / "data")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 45e6 and peak < 12e6
    assert EpisodeDataset(tmp_path / "data").steps == 150
