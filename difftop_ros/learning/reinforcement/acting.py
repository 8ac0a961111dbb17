"""A latent agent acting in environments: episodes to learn from, evaluations of several ways to act on equal starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from difftop_ros.learning.reinforcement.environments import Frames, Trial
from difftop_ros.learning.reinforcement.replay import Episode, joined
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.latent_planning.options import DifftopRlOptions, PriorOptions, TdmpcOptions, TryingOptions
from difftop_ros.trajopt import shift

EVALUATION_SEED = 1_000_000  # first start of an evaluation; training uses seeds far below
WAYS: Mapping[str, Callable[[], TryingOptions]] = {
    "plan": DifftopRlOptions,
    "prior": PriorOptions,
    "mppi": TdmpcOptions,
}


class Actor:
    """Acts for a batch of environments in step: each plan starts from the last one, moved on, or from the prior."""

    def __init__(self, agent: LatentAgent) -> None:
        self.agent = agent
        self._last: torch.Tensor | None = None

    def __call__(self, frames: Sequence[Frames]) -> np.ndarray:
        """Actions (N, A) in [-1, 1] for the newest frames of N environments, always the same N."""
        device = self.agent.get_buffer("scale").device
        obs = {key: torch.from_numpy(column).to(device)[:, None] for key, column in joined(frames).items()}
        with torch.no_grad():
            state = self.agent.encode(obs)
            warm = None if self._last is None else shift(self._last, 1)
            self._last = self.agent.plan(state, warm).actions
            return self._last[:, 0].cpu().numpy()


@dataclass(frozen=True)
class Tried:
    """An episode, its return in the task's own measure, and whether it succeeded (None where nothing says so)."""

    episode: Episode
    reached: float
    success: bool | None


def try_episode(agent: LatentAgent | None, trial: Trial, seed: int, noise: float, random: np.random.Generator) -> Tried:
    """One episode from the start `seed`, by the agent with normal noise on its actions, or at random without one."""
    act = Actor(agent) if agent else None
    frames = [trial.reset(seed)]
    actions, rewards = [], []
    while True:
        if act is None:
            action = random.uniform(-1, 1, trial.actions)
        else:
            action = act(frames[-1:])[0] + noise * random.standard_normal(trial.actions)
        action = np.clip(action, -1, 1).astype(np.float32)
        moment = trial.step(action)
        frames.append(moment.frames)
        actions.append(action)
        rewards.append(moment.reward)
        if moment.terminated or moment.truncated:
            break
    episode = Episode(joined(frames), np.stack(actions), np.asarray(rewards, np.float32), moment.terminated)
    reached = float(moment.info.get("return", sum(rewards)))
    return Tried(episode, reached, moment.info.get("success"))


def evaluate(agent: LatentAgent, trials: Sequence[Trial], seeds: Sequence[int]) -> list[float]:
    """Returns of the agent without noise from each start, as many at once as there are environments."""
    found = []
    for first in range(0, len(seeds), len(trials)):
        some = seeds[first : first + len(trials)]
        found += _together(agent, trials[: len(some)], some)
    return found


def _together(agent: LatentAgent, trials: Sequence[Trial], seeds: Sequence[int]) -> list[float]:
    act = Actor(agent)
    frames = [trial.reset(seed) for trial, seed in zip(trials, seeds)]
    sums, ends = [0.0] * len(trials), [False] * len(trials)
    while not all(ends):
        actions = act(frames)
        for index, trial in enumerate(trials):
            if ends[index]:
                continue
            moment = trial.step(actions[index])
            frames[index] = moment.frames
            sums[index] = float(moment.info.get("return", sums[index] + moment.reward))
            ends[index] = moment.terminated or moment.truncated
    return sums


def acting(agent: LatentAgent, way: str) -> LatentAgent:
    """The agent by a way of WAYS; its own plan where that is what it makes."""
    own = WAYS[way]
    return agent if way == "plan" or isinstance(agent.own, own) else agent.acting_by(own())  # type: ignore[arg-type]
