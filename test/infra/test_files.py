"""Files are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from difftop_ros.files import whole, write_json, write_whole


def test_a_file_changes_only_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "note.txt"
    write_whole(path, "first ä")
    with pytest.raises(RuntimeError, match="disk full"), whole(path) as beside:
        beside.write_text("sec")
        raise RuntimeError("disk full")
    assert path.read_text(encoding="utf-8") == "first ä"
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n "a": 1\n}'
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_takes_the_place_of_the_old_one_and_what_was_left_behind_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "episode"
    for leftover in (folder, tmp_path / "episode.partial"):
        leftover.mkdir()
        (leftover / "old").touch()
    with whole(folder) as beside:
        assert not beside.exists()
        beside.mkdir()
        (beside / "new").touch()
        assert (folder / "old").exists()
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole(tmp_path / "weights") as beside:
            os.close(os.open(beside, os.O_WRONLY | os.O_CREAT, 0o600))  # as safetensors does
    finally:
        os.umask(before)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == 0o640
