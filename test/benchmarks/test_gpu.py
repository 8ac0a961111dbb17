"""`make gpu` without a GPU: what it says, and the same program small on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import solves, training
from benchmarks.gpu.__main__ import PARTS, main


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_what_it_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "no CUDA device" in said and all(f"- {name}: " in said for name in PARTS)


@pytest.mark.slow
def test_the_same_program_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solves, "NETS", tmp_path)
    out = tmp_path / "table.md"
    assert main(["--device", "cpu", "--quick", "--parts", "solves", "training", "--out", str(out)]) == 0
    text = out.read_text()
    assert text.count("| rl-h5-a6 |") == 4 and text.count("| il-16x7 |") == 4 and "smoothness" in text
    assert "| `bc` |" in text and "| 0.0e+00 |" in text, "the CPU's loss is its own"


def test_a_result_worse_than_the_cpus_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solves, "NETS", tmp_path)
    monkeypatch.setattr(solves, "_gap", lambda found, expected: 0.5)
    with pytest.raises(SystemExit, match=r"worse than the CPU's by 0\.5"):
        solves.table("cpu", True)


@pytest.mark.parametrize("there", [1.01, float("nan")])
def test_a_loss_that_is_not_the_cpus_ends_the_run(there: float) -> None:
    assert training.difference("bc", 1.0, 1.0 + 1e-5) < 1e-4
    with pytest.raises(SystemExit, match="bc: the loss on the device"):
        training.difference("bc", 1.0, there)
