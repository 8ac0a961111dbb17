"""`--strict`: what is left out of a bag is an error with an exit code. And what is said of stamps by another clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difftop_ros.cli import main
from difftop_ros.contract import Contract
from difftop_ros.data.bags.timing import Timing

Said = pytest.CaptureFixture[str]


@pytest.fixture
def commands(tmp_path: Path, contract: Contract) -> dict[str, list[str]]:
    """The words of each command that can be strict, over the bag or bags in tmp_path/bags."""
    file, bags = tmp_path / "contract.yaml", tmp_path / "bags"
    file.write_text(contract.to_yaml())
    return {
        "check": ["contract", "check", str(file), "--bag", str(bags / "one")],
        "ingest": ["bag", "ingest", str(bags), "--contract", str(file), "--out", str(tmp_path / "data")],
        "train": ["train", "--bags", str(bags), "--contract", str(file), "--out", str(tmp_path / "model"), "--policy",
                  "bc", "--steps", "2", "--batch", "4", "--horizon", "4", "--device", "cpu", "--threads", "1"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["check", "ingest", "train"])
def test_a_message_that_cannot_be_decoded_is_passed_over_unless_strict(
    name: str,
    commands: dict[str, list[str]],
    kit: SimpleNamespace,
    episode: Callable[..., Any],
    tmp_path: Path,
    capsys: Said,
) -> None:
    entries = episode(steps=20)
    kit.write_bag(tmp_path / "bags" / "good", entries)
    entries[0][3].position[0] = np.nan
    kit.write_bag(tmp_path / "bags" / "one", entries)
    assert main(commands[name]) == 0
    capsys.readouterr()
    assert main([*commands[name], "--strict"]) == (1 if name == "check" else 2)
    said = "".join(capsys.readouterr())
    assert "not finite" in said
    if name != "check":
        assert "strict: 1 things were left out; mend or move these bags, or go without strict" in said
        assert "one: " in said


@pytest.mark.parametrize("name", ["check", "ingest"])
def test_nothing_is_wrong_with_good_bags(
    name: str, commands: dict[str, list[str]], kit: SimpleNamespace, episode: Callable[..., Any], tmp_path: Path
) -> None:
    kit.write_bag(tmp_path / "bags" / "one", episode(steps=20))
    assert main([*commands[name], "--strict"]) == 0


def test_a_bag_that_is_skipped_is_an_error_if_strict_and_the_rest_is_kept(
    commands: dict[str, list[str]], kit: SimpleNamespace, episode: Callable[..., Any], tmp_path: Path, capsys: Said
) -> None:
    kit.write_bag(tmp_path / "bags" / "one", episode(steps=20))
    (tmp_path / "bags" / "broken.mcap").write_bytes(b"no bag")
    assert main([*commands["ingest"], "--strict"]) == 2
    assert "broken.mcap: " in capsys.readouterr().err
    assert main(commands["ingest"]) == 0
    assert "1 bags cached" in capsys.readouterr().out


def test_stamps_by_another_clock_are_no_ages(
    commands: dict[str, list[str]], kit: SimpleNamespace, episode: Callable[..., Any], tmp_path: Path, capsys: Said
) -> None:
    """Simulated stamps beside reception in wall time."""
    entries = [(topic, kind, received + 1_700_000_000 * 10**9, m) for topic, kind, received, m in episode(steps=20)]
    bag = kit.write_bag(tmp_path / "bags" / "one", entries)
    assert main(["bag", "inspect", str(bag)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("/")]
    assert all("other clock" in row for row in rows if "/success" not in row)
    assert main(commands["check"]) == 0
    said = capsys.readouterr().out
    assert "stamped by another clock than the recorder's" in said
    assert "ms old" not in said
    assert main(commands["ingest"]) == 0
    assert Timing(received=[10**18 + k for k in range(5)], stamps=list(range(5))).age_text() == "other clock"
    assert Timing(received=[7_000_000, 9_000_000], stamps=[5_000_000, 6_000_000]).age_text() == "2.5 / 3.0"
