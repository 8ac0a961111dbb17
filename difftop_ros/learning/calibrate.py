"""What tells later how far an observation is from a dataset: fitted at training, or for a policy that is there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from difftop_ros.data import EpisodeDataset, WindowDataset
from difftop_ros.learning.settings import TrainingError
from difftop_ros.manifest import sign
from difftop_ros.novelty import PLAN, Novelty
from difftop_ros.policies import Policy, load_policy
from difftop_ros.policies.normalisation import observation_spec
from difftop_ros.policies.policy import NOVELTY

MOST_FRAMES = 6000  # more change nothing that can be measured
BATCH = 64  # plans that are solved at once


def fit_novelty(episodes: EpisodeDataset, policy: Policy) -> Novelty:
    """From frames all over the dataset, and what the policy's plans for them cost.

    Raises NoveltyError for fewer than two episodes.
    """
    kinds = {key: kind for key, (kind, _) in observation_spec(episodes.contract).items()}
    stride = -(-episodes.steps // MOST_FRAMES)
    counts = [len(range(0, episode.steps, stride)) for episode in episodes]
    costs = _plan_costs(episodes, policy, stride) if policy.net.solves else None
    plan = {} if costs is None else {PLAN: PLAN}

    def frames() -> Iterator[dict[str, np.ndarray]]:
        number = 0
        for episode, count in zip(episodes, counts, strict=True):
            columns = {key: episode[key][::stride] for key in kinds}  # of one episode at a time: pictures are large
            for step in range(count):
                cost = {} if costs is None else {PLAN: costs[number : number + 1]}
                number += 1
                yield {key: column[step] for key, column in columns.items()} | cost

    return Novelty.fit({**kinds, **plan}, frames(), np.repeat(np.arange(len(counts)), counts))


def _plan_costs(episodes: EpisodeDataset, policy: Policy, stride: int) -> np.ndarray:
    """Of each episode's every `stride`-th step, in their order (N,)."""
    windows = WindowDataset(episodes, policy.obs_steps, policy.horizon)
    first = np.cumsum([0, *(episode.steps for episode in episodes)])
    steps = np.concatenate([np.arange(*ends, stride) for ends in pairwise(first)])
    parts = (windows.batch(steps[start : start + BATCH])["obs"] for start in range(0, len(steps), BATCH))
    return np.concatenate([policy.plan_costs(obs) for obs in parts])


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
    fit_novelty(episodes, policy).save(folder / NOVELTY)
    sign(folder)
    return f"novelty from {len(episodes)} episodes, {episodes.steps} steps"
