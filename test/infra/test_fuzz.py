"""A slice of the fuzzing, and that the fuzzer sees what it is for: errors, hangs, memory, processes that die."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.errors import UserError
from tools.fuzz import run, targets
from tools.fuzz.__main__ import main

SLICE = {"contract": 150, "config": 300, "training": 100, "checkpoint": 8, "spheres": 300, "costs": 60, "robot": 80,
         "model": 100, "messages": 300, "streams": 300, "places": 150, "commands": 500, "plans": 300, "bags": 150,
         "marks": 30, "dataset": 150, "parameters": 500}  # fmt: skip


def test_the_slice_has_every_target() -> None:
    assert SLICE.keys() == targets.TARGETS.keys()


@pytest.mark.parametrize("name", SLICE)
def test_nothing_that_is_fed_raises_but_a_refusal(name: str, tmp_path: Path) -> None:
    target = targets.TARGETS[name](tmp_path)
    run.warm_up(target, name, 5)
    found = {
        number: what
        for number in range(SLICE[name])
        if (what := run._guarded(target, run.made(target, name, 0, number), UserError)) not in ("", "refused")
    }
    assert found == {}


class Bad(targets.Target):
    """Does everything that must be seen, by the number in its input."""

    def make(self, rng: Any) -> bytes:
        return str(rng.randrange(5)).encode()

    def feed(self, raw: bytes) -> None:
        if raw == b"1":
            raise KeyError("x")
        if raw == b"2":
            raise UserError("no")
        if raw == b"3":
            raise MemoryError
        if raw == b"4":
            while True:
                pass


def test_the_fuzzer_tells_errors_hangs_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HANG_S", 0.2)
    said = [run._guarded(Bad(tmp_path), str(number).encode(), UserError) for number in range(5)]
    assert said[0] == "" and said[2] == "refused"
    assert [words.split()[0] for words in (said[1], said[3], said[4])] == ["KeyError", "memory", "hang"]


def test_a_run_in_processes_ends_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--target", "parameters", "--inputs", "300", "--seed", "3", "--out", str(tmp_path)]
    assert main(words) == 0
    assert "parameters       300" in capsys.readouterr().out and os.listdir(tmp_path) == []


def test_a_guided_run_counts_as_the_others_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("atheris", reason="inputs are searched with it")
    words = ["--guided", "--target", "parameters", "plans", "commands", "--inputs", "300", "--out", str(tmp_path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "not searched" in said and "plans" in said.splitlines()[0]
    assert "parameters       300" in said and "commands         300" in said
    assert os.listdir(tmp_path) == []


def test_a_kept_input_is_fed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.bin").write_bytes(b"contract\nname: [")
    assert main(["--replay", str(tmp_path / "x.bin")]) == 0 and "refused" in capsys.readouterr().out
    (tmp_path / "x.number").write_text("contract 0 7\n")
    assert main(["--replay", str(tmp_path / "x.number")]) == 0
