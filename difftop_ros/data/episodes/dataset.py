"""A dataset folder made by ingest: its episodes, lazily. Cutting them into training windows is windows.py's job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.data.episodes.statistics import RunningStatistics, Statistics
from difftop_ros.data.episodes.store import ACTION, BLOCK, HEAD, StoredEpisode, read_head, read_json
from difftop_ros.data.errors import DatasetError
from difftop_ros.messages.pipeline import ObservationPipeline


class Episode(Mapping[str, Any]):
    """One episode: key -> array (T, ...) that is read from disk when sliced; 'action' is float64 (T, A).

    steps: T; attributes: success (True, False or None for unmarked), bag, seed, task, first_ns, last_ns;
    interventions: [first, one after the last] step of each time that a person had taken over, [] for none.
    """

    def __init__(self, stored: StoredEpisode, keys: list[str]) -> None:
        self._stored, self._keys = stored, keys
        self.steps = stored.steps
        self.attributes = stored.attributes
        self.interventions: list[list[int]] = stored.attributes.get("interventions") or []
        self.name = f"{stored.folder.parent.name}/{stored.folder.name}"

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(f"'{key}' is not in the dataset; it has {self._keys}")
        return self._stored.array(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class EpisodeDataset:
    """The episodes in `folder`. contract: the one it was made with; spec: key -> (shape, dtype) of a step.

    Episodes marked as failed are left out unless include_failures; unmarked ones (success None) are used. broken:
    episode -> why it is left out, an array of it being gone, unreadable or of another length or shape.
    Raises DatasetError when there is no complete dataset or no episode to use.
    """

    def __init__(self, folder: str | Path, *, include_failures: bool = False) -> None:
        self.folder = Path(folder)
        head, report = read_head(self.folder), read_json(self.folder / "report.json")
        self.contract: Contract = parse_contract(head.get("contract", ""), str(self.folder / HEAD))
        bags = _episodes(report, self.folder / "report.json")
        keys = [*self.contract.observations, ACTION]
        spec = {**ObservationPipeline(self.contract).spec}
        spec[ACTION] = ((len(self.contract.command.joints),), np.dtype(np.float64))
        self.broken: dict[str, str] = {}
        found = []
        for name, bag in bags.items():
            try:
                episode = Episode(StoredEpisode(self.folder / name), keys)
                episode.attributes["bag"] = bag  # where it is now: an episode from the cache may have been moved
                _check(episode, self.folder / name, spec)
                found.append(episode)
            except DatasetError as error:
                self.broken[name] = str(error)
        self.episodes = [e for e in found if include_failures or e.attributes["success"] is not False]
        self.failures = len(found) - len(self.episodes)
        if not self.episodes:
            first = next(iter(self.broken.values()), "")
            raise DatasetError(
                f"dataset '{self.folder}' has no episode to use ({self.failures} are marked as failed, "
                f"{len(self.broken)} are broken{': ' + first if first else ''}); record successful ones, or include "
                "failures"
            )
        self.spec: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            key: (tuple(self.episodes[0][key].shape[1:]), np.dtype(self.episodes[0][key].dtype)) for key in keys
        }

    @property
    def steps(self) -> int:
        """Steps over all episodes."""
        return sum(episode.steps for episode in self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> Episode:
        return self.episodes[index]

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    def statistics(self, key: str) -> Statistics:
        """Of `key` over all steps, per channel of the last axis (joint, xyz[rgb], colour channel); block by block."""
        running = RunningStatistics(self.spec[key][0][-1])
        for episode in self.episodes:
            array = episode[key]
            for start in range(0, episode.steps, BLOCK * 8):
                running.add(array[start : start + BLOCK * 8])
        return running.result()

    def where_not_finite(self, key: str) -> str:
        """The first episode and step of `key` with a number that is not finite, for an error; '' if there is none."""
        for episode in self.episodes:
            for start in range(0, episode.steps, BLOCK * 8):
                block = np.asarray(episode[key][start : start + BLOCK * 8])
                bad = ~np.isfinite(block).reshape(len(block), -1).all(axis=1)
                if bad.any():
                    return f"'{key}' of episode '{episode.name}', step {start + int(np.argmax(bad))}"
        return ""


def _episodes(report: dict[str, Any], path: Path) -> dict[str, str]:
    """Names of all episodes in a report, each with its bag. Raises DatasetError for one that ingest did not write."""
    try:
        bags = {name: bag["bag"] for bag in report["bags"] for name in bag["episodes"]}
    except (LookupError, TypeError):
        bags = {None: None}
    if not all(isinstance(name, str) and isinstance(bag, str) for name, bag in bags.items()):
        raise DatasetError(f"'{path}' does not list the episodes of each bag; delete the dataset and ingest again")
    return bags


def _check(episode: Episode, folder: Path, spec: dict[str, tuple[tuple[int, ...], np.dtype]]) -> None:
    """Raises DatasetError for an episode one of whose arrays cannot be opened or has another length, shape or type."""
    for key, (shape, dtype) in spec.items():
        found = episode[key]
        if (found.shape, found.dtype) != ((episode.steps, *shape), dtype):
            raise DatasetError(
                f"episode '{folder}': '{key}' is {found.dtype} {found.shape}, expected {dtype} "
                f"{(episode.steps, *shape)}; delete '{folder.parent}', and the same command ingests it again"
            )
