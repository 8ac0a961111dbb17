"""A disk that takes no more, and paths that cannot be used: a sentence, exit code 2, nothing lost, and it goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.cli import main
from difftop_ros.data import EpisodeDataset

FULL = (
    "import resource, sys; from difftop_ros.cli import main\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))\n"
    "sys.exit(main(sys.argv[1:]))"
)


def test_a_disk_that_is_full_while_training(arm: Any, tmp_path: Path) -> None:
    words = ["train", "--bags", str(arm.bags), "--contract", str(arm.contract), "--out", str(tmp_path / "model"),
             "--dataset", str(tmp_path / "data"), "--policy", "bc", "--steps", "2", "--batch", "4", "--horizon", "4",
             "--device", "cpu", "--threads", "1"]  # fmt: skip
    full = subprocess.run([sys.executable, "-c", FULL, *words], capture_output=True, text=True)
    assert full.returncode == 2
    assert "cannot write" in full.stderr
    assert "make room or give a writable folder, and the same command goes on" in full.stderr
    assert "Traceback" not in full.stderr
    assert len(EpisodeDataset(tmp_path / "data")) == arm.EPISODES, "what was complete before is kept"
    assert main(words) == 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("verb", ["ingest", "train", "spheres", "secure"])
def test_a_path_that_is_no_folder(verb: str, arm: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    out = str(tmp_path / "file" / "below")
    words = {
        "ingest": ["bag", "ingest", str(arm.bags), "--contract", str(arm.contract), "--out", out],
        "train": ["train", "--bags", str(arm.bags), "--contract", str(arm.contract), "--out", out, "--policy", "bc",
                  "--dataset", str(tmp_path / "file")],
        "spheres": ["contract", "spheres", "models/panda_table/scene.xml", "--out", out],
        "secure": ["contract", "secure", str(arm.contract), "--out", out],
    }[verb]  # fmt: skip
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "file" in said
    assert said.count("\n") == 1
