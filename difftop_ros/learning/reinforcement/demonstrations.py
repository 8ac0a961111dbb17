"""Recorded episodes as the replay wants them: steps in [-1, 1], rewards. Ingesting bags is data/'s job."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data import EpisodeDataset
from difftop_ros.data.episodes.dataset import Episode as Recorded
from difftop_ros.data.episodes.store import ACTION
from difftop_ros.data.errors import BagError
from difftop_ros.data.numbers import numbers_at
from difftop_ros.learning.reinforcement.replay import Episode
from difftop_ros.learning.reinforcement.rewards import Rewarding
from difftop_ros.learning.settings import TrainingError
from difftop_ros.policies.latent_planning.net import position_steps


@dataclass(frozen=True)
class Demonstrations:
    """Recorded episodes. mark: changes with what is in them; clipped: share of commands beyond what a step can be."""

    episodes: Sequence[Episode]
    mark: str
    clipped: float

    @property
    def steps(self) -> int:
        """Actions in all."""
        return sum(map(len, self.episodes))


def demonstrations_of(dataset: EpisodeDataset, reward_from: str) -> Demonstrations:
    """The dataset's episodes with rewards of each step; those of one step alone are left out.

    Raises TrainingError if no episode is left, or for a reward that a recording does not tell.
    """
    contract, rewarding = dataset.contract, Rewarding(reward_from, dataset.contract)
    episodes, beyond, count = [], 0, 0
    digest = hashlib.sha256(f"{contract.data_sha256()} {reward_from}".encode())
    for recorded in dataset:
        if recorded.steps < 2:
            continue
        frames = {key: np.asarray(recorded[key][:]) for key in contract.observations}
        frames = {key: part if part.dtype == np.uint8 else part.astype(np.float32) for key, part in frames.items()}
        wanted = steps_of(contract, frames, np.asarray(recorded[ACTION][:]))[:-1]
        beyond, count = beyond + int((np.abs(wanted) > 1 + 1e-6).any(1).sum()), count + len(wanted)
        rewards = _rewards(recorded, contract, rewarding, frames)
        actions = np.clip(wanted, -1, 1).astype(np.float32)
        episodes.append(Episode(frames, actions, rewards, terminated=False))
        digest.update(actions.tobytes() + rewards.tobytes())
    if not episodes:
        raise TrainingError(f"dataset '{dataset.folder}' has no episode of two steps or more; record longer ones")
    return Demonstrations(episodes, digest.hexdigest(), beyond / count)


def steps_of(contract: Contract, frames: dict[str, np.ndarray], commands: np.ndarray) -> np.ndarray:
    """Commands (T, A) in the contract's unit as the agent's steps, which lie in [-1, 1] if it could have made them.

    Positions are offsets from where the joint was measured then, in the farthest it is moved in a step.
    """
    if contract.command.mode == "position":
        measured = np.stack([frames[key][:, row] for key, row in contract.measured], axis=1)
        return (commands - measured) / np.asarray(position_steps(contract))
    low, high = map(np.asarray, contract.command.bounds())
    return (2 * commands - low - high) / (high - low)


def _rewards(recorded: Recorded, contract: Contract, rewarding: Rewarding, frames: dict[str, np.ndarray]) -> np.ndarray:
    """What each step but the last earned, (T - 1,) float32: told of the moment after it."""
    bag, success = Path(recorded.attributes["bag"]), None
    times = np.linspace(recorded.attributes["first_ns"], recorded.attributes["last_ns"], recorded.steps)
    told, marked = None, recorded.attributes["success"]
    try:
        if rewarding.task:
            told = numbers_at(bag, contract.episode.rewarded_on, contract, times.astype(np.int64))
        if rewarding.success:
            success = _success(bag, contract, times.astype(np.int64), marked)
    except BagError as error:
        raise TrainingError(f"reward_from: {error}; or take 'success', which a recording's mark tells") from error
    moments = [{key: column[step] for key, column in frames.items()} for step in range(recorded.steps)]
    earned = []
    for step, (before, after) in enumerate(itertools.pairwise(moments), 1):
        own, done = (None if part is None else part[step] for part in (told, success))
        earned.append(rewarding(before, after, own, done))
    return np.array(earned, np.float32)


def _success(bag: Path, contract: Contract, times_ns: np.ndarray, marked: bool | None) -> list[bool]:
    """Whether the task was done at each time: as the success topic says, else at the last if the episode is marked."""
    topic = contract.episode.success_topic
    if topic is not None:
        try:
            return [bool(value) for value in numbers_at(bag, topic, contract, times_ns)]
        except BagError:  # not recorded, or not to be read, of which ingest has told: the episode's mark counts
            pass
    return [False] * (len(times_ns) - 1) + [bool(marked)]
