"""The comparison with late plans: what an episode does, what is done twice (nothing), and its table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_policies import small_config

from difftop_ros.cli import main
from difftop_ros.commands.bench.delay import ARMS, episode, report
from difftop_ros.contract import load_contract
from difftop_ros.paths import share_path
from difftop_ros.policies import DifftopNet, Policy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small policy that sees joints alone and has two seconds."""
    contract = load_contract(share_path("config/panda_table.yaml"))
    sim = contract.sim.model_copy(update={"task": "lift", "width": 64, "height": 48, "cameras": {}})
    limited = contract.episode.model_copy(update={"max_seconds": 2.0})
    observations = {"joints": contract.observations["joints"]}
    contract = contract.model_copy(update={"sim": sim, "episode": limited, "observations": observations})
    torch.manual_seed(0)
    net = DifftopNet(contract, small_config({"horizon": 16, "features": 32, "latent": 4, "cost_outputs": 8}))
    net.scaler.fit(np.full(net.shape, -0.1), np.full(net.shape, 0.1))
    return Policy(net, contract, torch.device("cpu")).save(tmp_path_factory.mktemp("models") / "small")


@pytest.mark.parametrize("delay_ms", [100.0, 300.0, 800.0])
@pytest.mark.parametrize("arm", ARMS)
def test_commands_keep_the_limits_whatever_the_delay(model: Path, delay_ms: float, arm: str) -> None:
    bench = episode.Bench(model)
    try:
        row = bench.run(delay_ms, arm, 3)
    finally:
        bench.close()
    assert row["seconds"] == 2.0 and row["plans"] == pytest.approx(2000 / (delay_ms + 20), abs=1.5)
    assert 0 < row["acceleration"] <= 1 + 1e-6 and row["jerk"] <= 1 + 1e-6
    if arm == "chunking" and delay_ms < 800:
        assert row["seam_mrad"] < 100


def test_settled_steps_make_seams_vanish(model: Path) -> None:
    policy_bench = episode.Bench(model)
    seams = {}
    try:
        for arm in ("blending", "chunking"):
            run = episode._Episode(policy_bench._policy, policy_bench._robot, 0.1, arm)
            run.run(5)
            seams[arm] = [apart for _, apart in run._seams[3:]]
    finally:
        policy_bench.close()
    assert max(seams["chunking"]) < 1e-3 < max(seams["blending"])


def test_starts_are_paired_and_resumed(model: Path, tmp_path: Path, capsys: Any) -> None:
    table = tmp_path / "rows.csv"

    def bench(*words: str) -> list[dict[str, str]]:
        place = ["--models", str(model), "--csv", str(table), "--first-seed", "7"]
        assert main(["bench", "delay", *place, *words]) == 0
        return list(csv.DictReader(table.open()))

    first = bench("--delays", "300", "--arms", "blending", "--starts", "1")
    both = bench("--delays", "0", "300", "--arms", "blending", "--starts", "2")
    assert both[:1] == first and [(row["delay_ms"], row["seed"]) for row in both] == [
        ("300", "7"), ("0", "7"), ("0", "8"), ("300", "8")]  # fmt: skip
    assert bench("--report") == both
    assert "| small | 300 | blending | 2 |" in capsys.readouterr().out


def test_the_table_counts_starts_that_all_have() -> None:
    def row(delay: int, seed: int, success: int) -> dict[str, str]:
        values = dict.fromkeys(episode.COLUMNS, "1") | {"delay_ms": delay, "seed": seed, "success": success}
        return {name: str(value) for name, value in values.items()}

    rows = [row(300, seed, seed % 2) for seed in range(4)] + [row(0, seed, 1) for seed in range(6)]
    lines = [line for line in report.markdown(rows).splitlines() if line.startswith("| 1 ")]
    assert lines[0].startswith("| 1 | 0 | 1 | 4 | 100 (51–100) |")
    assert lines[1].startswith("| 1 | 300 | 1 | 4 | 50 (15–85) |")
