"""A small environment with one joint, in milliseconds: a point that is to be brought to the middle."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from difftop_ros.learning.reinforcement.environments import Trial
from difftop_ros.learning.reinforcement.settings import TryingSettings

SMALL = {"latent_size": 8, "model_width": 16, "batch": 16, "random_steps": 40, "steps": 120, "eval_every": 60,
         "eval_episodes": 2, "checkpoint_every": 40, "plan_after": 5, "plan_every": 3, "plan_batch": 4,
         "noise_steps": 100, "update_ratio": 0.25, "plan_iterations": 2}  # fmt: skip


class Point(gymnasium.Env[Any, Any]):
    """x' = x + 0.2 a from a start within +-1, 20 steps; reward 1 - x^2. `faults`: what goes wrong at which step."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, faults: dict[int, Any] | None = None) -> None:
        self.faults, self.steps = faults or {}, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.x, self.count = self.np_random.uniform(-1, 1), 0
        return self.seen(), {}

    def seen(self) -> np.ndarray:
        return np.array([self.x, self.x**2], np.float32)

    def step(self, action: np.ndarray) -> Any:
        self.steps, self.count = self.steps + 1, self.count + 1
        self.x = self.x + 0.2 * float(action[0])
        fault = self.faults.get(self.steps)
        if isinstance(fault, Exception):
            raise fault
        seen = self.seen() if not isinstance(fault, np.ndarray) else fault
        reward = fault if isinstance(fault, float) else 1 - self.x**2
        return seen, reward, False, self.count == 20, {}


def small(**changes: Any) -> TryingSettings:
    own = {} if changes.get("policy", "difftop_rl") == "difftop_rl" else {"plan_iterations": None}
    return TryingSettings.from_values({**SMALL, **own, "env": "point", **changes})


def trial(faults: dict[int, Any] | None = None) -> Trial:
    return Trial("point", Point(faults), longest=20)


@pytest.fixture
def settings() -> TryingSettings:
    return small()
