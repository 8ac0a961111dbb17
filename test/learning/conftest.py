"""A small real dataset, ingested once, and settings with which training takes milliseconds a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_policies import small_config

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.data import EpisodeDataset, find_bags, ingest
from difftop_ros.learning.settings import TrainSettings

SMALL: dict[str, Any] = {
    "horizon": 4, "features": 32, "latent": 4, "cost_outputs": 8, "point_widths": (16, 32), "keypoints": 4,
    "image_widths": (4, 8, 8), "iterations": 3, "cg_iterations": 3,
    "ibc_negatives": 8, "ibc_candidates": 16, "diffusion_inference_steps": 3,
}  # fmt: skip


@pytest.fixture(scope="session")
def arm_contract(arm: Any) -> Contract:
    return parse_contract(arm.text)


@pytest.fixture(scope="session")
def dataset_folder(arm: Any, arm_contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "arm"
    ingest(find_bags([arm.bags]), arm_contract, folder)
    return folder


@pytest.fixture
def episodes(dataset_folder: Path) -> EpisodeDataset:
    return EpisodeDataset(dataset_folder)


@pytest.fixture
def small() -> Callable[..., TrainSettings]:
    """small(steps=…, policy={…}) -> settings of a small policy."""

    def make(policy: dict[str, Any] | None = None, **options: Any) -> TrainSettings:
        return TrainSettings(policy=small_config(SMALL, **(policy or {})), **{"batch": 16, **options})

    return make
