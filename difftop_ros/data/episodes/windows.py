"""Training windows: history of observations and chunk of actions at every step of a dataset, as numpy arrays.

No torch: whoever trains wraps it. Arrays that fit the limit live in memory, the others are read from disk block-wise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from difftop_ros.data.episodes.dataset import EpisodeDataset
from difftop_ros.data.episodes.store import ACTION, BLOCK


class WindowDataset:
    """One window per step t of every episode.

    obs: key -> (obs_steps, ...) at t-obs_steps+1 .. t, the first frame repeated before the start; action: float32
    (horizon, A) at t .. t+horizon-1, the last one repeated after the end; mask: bool (horizon,), False where repeated.
    """

    def __init__(
        self,
        episodes: EpisodeDataset,
        obs_steps: int,
        horizon: int,
        *,
        keys: Sequence[str] | None = None,
        memory_mb: float = 2048.0,
    ) -> None:
        """keys: observations to give (default all). memory_mb: arrays are kept whole within it, smallest first."""
        if obs_steps < 1 or horizon < 1:
            raise ValueError(f"obs_steps is {obs_steps} and horizon {horizon}; both must be at least 1")
        self.obs_steps, self.horizon = obs_steps, horizon
        self.keys = list(keys) if keys is not None else list(episodes.contract.observations)
        lengths = np.array([episode.steps for episode in episodes])
        ends = np.cumsum(lengths)
        self._first = np.repeat(ends - lengths, lengths)  # per step: index of its episode's first step
        self._last = np.repeat(ends - 1, lengths)
        self._columns: dict[str, Any] = {}
        budget = memory_mb * 1e6
        for key in sorted([*self.keys, ACTION], key=lambda k: _step_bytes(episodes, k)):
            size = _step_bytes(episodes, key) * int(ends[-1])
            whole = key == ACTION or size <= budget
            self._columns[key] = _load(episodes, key) if whole else _LazyColumn(episodes, key, ends, budget)
            budget -= size if whole else 0
        self._actions = self._columns.pop(ACTION).astype(np.float32)

    def __len__(self) -> int:
        return self._first.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        batch = self.batch(np.array([index % len(self)]))
        obs = {key: frames[0] for key, frames in batch["obs"].items()}
        return {"obs": obs, "action": batch["action"][0], "mask": batch["mask"][0]}

    def batch(self, indices: np.ndarray | Sequence[int]) -> dict[str, Any]:
        """Windows at `indices` (B,) at once: obs key -> (B, obs_steps, ...), action (B, horizon, A), mask (B, horizon).

        Much faster than one by one: training should draw its batches here.
        """
        steps = np.asarray(indices, np.int64)
        past = steps[:, None] + np.arange(1 - self.obs_steps, 1)
        past = np.maximum(past, self._first[steps][:, None])
        ahead = steps[:, None] + np.arange(self.horizon)
        last = self._last[steps][:, None]
        return {
            "obs": {key: self._columns[key][past] for key in self.keys},
            "action": self._actions[np.minimum(ahead, last)],
            "mask": ahead <= last,
        }


def _step_bytes(episodes: EpisodeDataset, key: str) -> int:
    shape, dtype = episodes.spec[key]
    return int(np.prod(shape)) * dtype.itemsize


def _load(episodes: EpisodeDataset, key: str) -> np.ndarray:
    """All steps (N, ...), filled in episode by episode: joining them at the end would need the memory twice."""
    shape, dtype = episodes.spec[key]
    whole, start = np.empty((episodes.steps, *shape), dtype), 0
    for episode in episodes:
        whole[start : start + episode.steps] = episode[key][:]
        start += episode.steps
    return whole


class _LazyColumn:
    """Indexed like an array (N, ...) over all episodes; keeps recently used blocks within `budget` bytes."""

    def __init__(self, episodes: EpisodeDataset, key: str, ends: np.ndarray, budget: float) -> None:
        self._arrays = [episode[key] for episode in episodes]
        self._ends, self._starts = ends, ends - np.array([a.shape[0] for a in self._arrays])
        self.shape, self.dtype = episodes.spec[key]
        self._capacity = max(2, int(budget // (_step_bytes(episodes, key) * BLOCK)))
        self._blocks: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        flat = indices.reshape(-1)
        out = np.empty((flat.size, *self.shape), self.dtype)
        owners = np.searchsorted(self._ends, flat, side="right")
        within = flat - self._starts[owners]
        for position, (owner, step) in enumerate(zip(owners.tolist(), within.tolist(), strict=True)):
            out[position] = self._block(owner, step // BLOCK)[step % BLOCK]
        return out.reshape(*indices.shape, *self.shape)

    def _block(self, owner: int, number: int) -> np.ndarray:
        block = self._blocks.get((owner, number))
        if block is None:
            block = self._arrays[owner][number * BLOCK : (number + 1) * BLOCK]
            self._blocks[owner, number] = block
            while len(self._blocks) > self._capacity:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end((owner, number))
        return block
