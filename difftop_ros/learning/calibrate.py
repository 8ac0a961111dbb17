"""What tells later how far an observation is from a dataset: fitted at training, or for a policy that is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from difftop_ros.data import EpisodeDataset
from difftop_ros.learning.settings import TrainingError
from difftop_ros.manifest import sign
from difftop_ros.novelty import Novelty
from difftop_ros.policies import load_policy
from difftop_ros.policies.normalisation import observation_spec
from difftop_ros.policies.policy import NOVELTY

MOST_FRAMES = 6000  # more change nothing that can be measured


def fit_novelty(episodes: EpisodeDataset) -> Novelty:
    """From frames all over the dataset. Raises NoveltyError for fewer than two episodes."""
    kinds = {key: kind for key, (kind, _) in observation_spec(episodes.contract).items()}
    stride = -(-episodes.steps // MOST_FRAMES)
    counts = [len(range(0, episode.steps, stride)) for episode in episodes]

    def frames() -> Iterator[dict[str, np.ndarray]]:
        for episode, count in zip(episodes, counts, strict=True):
            columns = {key: episode[key][::stride] for key in kinds}  # of one episode at a time: pictures are large
            yield from ({key: column[step] for key, column in columns.items()} for step in range(count))

    return Novelty.fit(kinds, frames(), np.repeat(np.arange(len(counts)), counts))


def calibrate(folder: Path, dataset: Path) -> str:
    """Write the novelty of `dataset` into the model folder and sign it; a sentence on what was done.

    Raises UserError if either is not whole, or if the dataset was made under another contract.
    """
    policy, episodes = load_policy(folder), EpisodeDataset(dataset)
    if episodes.contract.data_sha256() != policy.contract.data_sha256():
        raise TrainingError(
            f"'{dataset}' was made under contract '{episodes.contract.name}', whose rates, command or observations are "
            f"not those of '{policy.contract.name}'; give the dataset that the policy was trained from"
        )
    fit_novelty(episodes).save(folder / NOVELTY)
    sign(folder)
    return f"novelty from {len(episodes)} episodes, {episodes.steps} steps"
