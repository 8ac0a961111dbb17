"""Training batches from an ingested dataset: the split by episode, the statistics, the random order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from difftop_ros.data import EpisodeDataset, WindowDataset
from difftop_ros.data.episodes.store import ACTION
from difftop_ros.learning.imitation.augment import AugmentSettings
from difftop_ros.learning.settings import TrainingError
from difftop_ros.policies import PolicyNet
from difftop_ros.policies.normalisation import measured_positions


def split_by_episode(episodes: EpisodeDataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Window indices for training and validation; whole episodes go to one side. Validation may be empty."""
    lengths = np.array([episode.steps for episode in episodes])
    held_out = round(share * len(lengths)) if len(lengths) >= 5 else 0
    chosen = np.random.default_rng(seed).permutation(len(lengths))[:held_out]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.isin(owner, chosen)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def as_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """A WindowDataset batch as tensors: obs[key] (B, obs_steps, ...), action (B, H, A), mask (B, H)."""
    obs = {key: torch.from_numpy(frames) for key, frames in batch["obs"].items()}
    return {"obs": obs, "action": torch.from_numpy(batch["action"]), "mask": torch.from_numpy(batch["mask"])}


class RandomBatches(IterableDataset):
    """Endless shuffled passes over `indices`; the order depends on the seed and the first step alone."""

    def __init__(self, windows: WindowDataset, indices: np.ndarray, batch: int, seed: int, first_step: int = 0) -> None:
        self.windows, self.indices, self.batch = windows, indices, min(batch, len(indices))
        self.seed, self.first_step = seed, first_step
        self.per_pass = len(self.indices) // self.batch  # steps in which every window (but a remainder) is seen once

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = self.first_step
        while True:
            order = np.random.default_rng([self.seed, step // self.per_pass]).permutation(self.indices)
            start = (step % self.per_pass) * self.batch
            yield as_tensors(self.windows.batch(order[start : start + self.batch]))
            step += 1


def _check_lengths(episodes: EpisodeDataset, horizon: int) -> None:
    longest = max(episodes, key=lambda episode: episode.steps)
    if longest.steps < horizon:
        raise TrainingError(
            f"horizon is {horizon} but the longest episode of dataset '{episodes.folder}', {longest.name}, has "
            f"{longest.steps} steps; plans would be padding mostly: give a smaller horizon, or longer demonstrations"
        )


def fit_scaling(net: PolicyNet, episodes: EpisodeDataset, moved: AugmentSettings | None = None) -> None:
    """Set the net's normalisation and action scale from the dataset.

    Raises TrainingError on values not finite, naming the episode, and when no episode is as long as a plan.

    moved: the disturbances of training, whose moved scenes reach further than the data where commands are positions.
    """
    contract, config = episodes.contract, net.config
    _check_lengths(episodes, config.horizon)
    for key, kind in net.normaliser.kinds.items():
        if kind != "image":
            found = episodes.statistics(key)
            if not (np.isfinite(found.mean).all() and np.isfinite(found.std).all()):
                where = episodes.where_not_finite(key)
                raise TrainingError(f"{where} in dataset '{episodes.folder}' has values that are not finite; delete it")
            net.normaliser.fit(key, found.mean, found.std)
    joints = sorted({key for key, _ in measured_positions(contract)})
    windows = WindowDataset(episodes, config.obs_steps, config.horizon, keys=joints)
    low = np.full(net.shape, np.inf)
    high = np.full(net.shape, -np.inf)
    for start in range(0, len(windows), 1024):
        batch = as_tensors(windows.batch(np.arange(start, min(start + 1024, len(windows)))))
        offset = (batch["action"] - net.scaler.origin(batch["obs"])).double().numpy()
        low, high = np.minimum(low, offset.min(0)), np.maximum(high, offset.max(0))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        where = episodes.where_not_finite(ACTION)
        raise TrainingError(f"{where} in dataset '{episodes.folder}' has values that are not finite; delete it")
    if moved and contract.command.mode == "position" and not net.scaler.relative:
        reach = np.array([moved.reach.get(name, 0.0) for name in contract.command.joint_names])
        low, high = low - reach, high + reach
    net.scaler.fit(low, high)
