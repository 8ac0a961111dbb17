"""Two equally good ways: the mean of both crashes, policies that can choose get round. The benchmark, shortened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bimodal import CONTRACT, HEIGHT, Result, demonstrations, draw, evaluate, train
from difftop_ros.contract import parse_contract


@pytest.fixture(scope="module")
def contract() -> Any:
    return parse_contract(CONTRACT, "bimodal")


def test_the_experts_get_round_on_both_sides_and_their_mean_does_not() -> None:
    found = Result(*demonstrations(100, 0))
    assert found.clear.all() and 0.3 < found.above.mean() < 0.7
    middle = found.chunks.copy()
    middle[:, :, 1] = 0
    assert not Result(found.starts, middle).clear.any()
    short = found.chunks.copy()
    short[:, -1] = [0.5, HEIGHT]
    assert not Result(found.starts, short).clear.any(), "behind the disc is where they must end"


@pytest.mark.parametrize("options", [{"policy": "bc"}, {"policy": "residual"}], ids=["bc", "residual"])
def test_the_mean_crashes(contract: Any, options: Any) -> None:
    assert evaluate(train(contract, options, 200)).clear.mean() < 0.2


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"policy": "difftop", "latent_modes": 4}, 300),
        ({"policy": "difftop", "latent_samples": 8}, 400),
        ({"policy": "diffusion"}, 400),
        ({"policy": "flow"}, 400),
        ({"policy": "bc_rnn"}, 300),
        ({"policy": "ibc", "ibc_negatives": 16, "ibc_candidates": 64}, 200),
    ],
    ids=["difftop with modes", "best of several latents", "diffusion", "flow", "bc_rnn", "ibc"],
)
def test_those_who_choose_get_round(contract: Any, options: Any, steps: int, tmp_path: Path) -> None:
    found = evaluate(train(contract, options, steps))
    assert np.isfinite(found.chunks).all()
    assert found.clear.mean() > 0.7, found.clear.mean()
    draw({"it": found}, tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size < 100_000
