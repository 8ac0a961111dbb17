"""Training batches from an ingested dataset: the split by episode, the statistics, the random order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from difftop_ros.data import EpisodeDataset, WindowDataset
from difftop_ros.data.episodes.store import ACTION
from difftop_ros.learning.imitation.augment import Hand, hand_of
from difftop_ros.learning.settings import AugmentSettings, TrainingError, TrainSettings
from difftop_ros.policies import PolicyNet
from difftop_ros.policies.normalisation import NotFiniteError, fit_scaling, measured_positions


def split_by_episode(episodes: EpisodeDataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Window indices for training and validation; whole episodes go to one side. Validation may be empty."""
    lengths = np.array([episode.steps for episode in episodes])
    held_out = round(share * len(lengths)) if len(lengths) >= 5 else 0
    chosen = np.random.default_rng(seed).permutation(len(lengths))[:held_out]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.isin(owner, chosen)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def held_out(
    episodes: EpisodeDataset, settings: TrainSettings, used: np.ndarray
) -> Iterator[list[tuple[dict[str, Any], Any]]]:
    """Of each episode that validation holds out: (obs, actions) of its windows among `used`, in batches."""
    windows = WindowDataset(episodes, settings.policy.obs_steps, settings.policy.horizon)
    _, indices = split_by_episode(episodes, settings.validation, settings.seed)
    first = 0
    for episode in episodes:
        mine = np.arange(first, first + episode.steps)
        mine = mine[np.isin(mine, indices) & np.isin(mine, used)]
        first += episode.steps
        parts = [mine[start : start + settings.batch] for start in range(0, len(mine), settings.batch)]
        batches = (as_tensors(windows.batch(part)) for part in parts)
        if len(mine):
            yield [(batch["obs"], batch["action"]) for batch in batches]


def as_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """A WindowDataset batch as tensors: obs[key] (B, obs_steps, ...), action (B, H, A), mask (B, H)."""
    obs = {key: torch.from_numpy(frames) for key, frames in batch["obs"].items()}
    return {"obs": obs, "action": torch.from_numpy(batch["action"]), "mask": torch.from_numpy(batch["mask"])}


class Passes:
    """Endless shuffled passes over `indices`, `batch` at a time; the order depends on seed, step and `stream` alone."""

    def __init__(self, indices: np.ndarray, batch: int, seed: int, stream: tuple[int, ...] = ()) -> None:
        self.indices, self.batch, self._seed, self._stream = indices, min(batch, len(indices)), seed, stream
        self.per_pass = len(indices) // self.batch if self.batch else 0  # steps that show all (but a remainder) once

    def at(self, step: int) -> np.ndarray:
        """The indices (batch,) of a step."""
        if not self.batch:
            return self.indices
        order = np.random.default_rng([self._seed, step // self.per_pass, *self._stream]).permutation(self.indices)
        start = (step % self.per_pass) * self.batch
        return order[start : start + self.batch]


class RandomBatches(IterableDataset):
    """Endless batches of windows at `indices`, of which a share comes from `corrected`, if there are any."""

    def __init__(
        self,
        windows: WindowDataset,
        indices: np.ndarray,
        batch: int,
        seed: int,
        first_step: int = 0,
        corrected: np.ndarray | None = None,
        share: float = 0.5,
    ) -> None:
        """share: of every batch, which `corrected` makes; at least one window of either."""
        self.windows, self.first_step = windows, first_step
        few = np.zeros(0, np.int64) if corrected is None else corrected
        count = min(max(round(share * batch), 1), batch - 1) if len(few) and len(indices) else batch * bool(len(few))
        self._parts = Passes(indices, batch - count, seed), Passes(few, count, seed, (1,))
        self.batch = sum(part.batch for part in self._parts)
        self.per_pass = max(part.per_pass for part in self._parts)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = self.first_step
        while True:
            yield as_tensors(self.windows.batch(np.concatenate([part.at(step) for part in self._parts])))
            step += 1


def _check_lengths(episodes: EpisodeDataset, horizon: int) -> None:
    longest = max(episodes, key=lambda episode: episode.steps)
    if longest.steps < horizon:
        raise TrainingError(
            f"horizon is {horizon} but the longest episode of dataset '{episodes.folder}', {longest.name}, has "
            f"{longest.steps} steps; plans would be padding mostly: give a smaller horizon, or longer demonstrations"
        )


def fit_to(net: PolicyNet, episodes: EpisodeDataset, moved: AugmentSettings | None = None) -> None:
    """Set the net's normalisation and action scale from the dataset.

    moved: the disturbances of training, whose moved scenes reach further than the data where commands are positions.
    Raises TrainingError on values not finite, naming the episode, and when no episode is as long as a plan.
    """
    contract, config = episodes.contract, net.config
    _check_lengths(episodes, config.horizon)
    statistics = {key: episodes.statistics(key) for key in net.normaliser.fitted}
    joints = sorted({key for key, _ in measured_positions(contract)})
    windows = WindowDataset(episodes, config.obs_steps, config.horizon, keys=joints)
    parts = (np.arange(start, min(start + 1024, len(windows))) for start in range(0, len(windows), 1024))
    batches = (as_tensors(windows.batch(part)) for part in parts)
    seen: Iterable[Any] = ((batch["obs"], batch["action"]) for batch in batches)
    if moved and moved.about_hand and all(joint in net.scaler.joints for joint in moved.axes):
        seen = _as_turned(seen, hand_of(net.scaler, moved.axes), moved)
    try:
        fit_scaling(
            net.normaliser,
            net.scaler,
            {key: (found.mean, found.std) for key, found in statistics.items()},
            seen,
            moved.reach if moved else {},
        )
    except NotFiniteError as error:
        where = episodes.where_not_finite(error.key or ACTION)
        raise TrainingError(
            f"{where} in dataset '{episodes.folder}' has values that are not finite; delete it"
        ) from None


def _as_turned(batches: Iterable[Any], hand: Hand, moved: AugmentSettings) -> Iterator[Any]:
    """The batches of joint readings and commands, and what the largest turns about the hand make of them."""
    for obs, actions in batches:
        yield obs, actions
        for angle in (-moved.scene_turn_rad, 0.0, moved.scene_turn_rad):
            turns = torch.full((len(actions),), angle)
            factors = torch.full_like(turns, 1 + moved.scene_scale)
            yield hand.turned(obs, actions, dict.fromkeys(obs, ()), turns, factors)
