"""The rival without a model: soft actor-critic (SAC, arXiv 1812.05905) from stable-baselines3, at its settings there.

Two layers of 256, batches of 256, an update per action, learning rate 3e-4, discount 0.99, entropy tuned: those of the
paper. It sees what the others see, from the same starts, with as many random steps first.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from difftop_ros.errors import require_package
from difftop_ros.learning.progress import Progress, Report, Stop, Stopped
from difftop_ros.learning.reinforcement.acting import EVALUATION_SEED
from difftop_ros.learning.reinforcement.environments import Trial, make_trial
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import RETURNS, Times, append_returns


class Flat(gymnasium.Env[np.ndarray, np.ndarray]):
    """A Trial as stable-baselines3 wants it: one vector; starts drawn as the learner of this package draws them."""

    def __init__(self, trial: Trial, seed: int) -> None:
        self.trial, self._seed, self._episode = trial, seed, 0
        size = sum(int(np.prod(shape)) for _, shape in trial.spec.values())
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (trial.actions,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The next start, or that of `seed`."""
        if seed is None or seed < EVALUATION_SEED:
            sequence = np.random.SeedSequence([self._seed, 1, self._episode])
            seed, self._episode = int(sequence.generate_state(1)[0] % EVALUATION_SEED), self._episode + 1
        return self._flat(self.trial.reset(seed)), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """As the trial's."""
        moment = self.trial.step(action)
        return self._flat(moment.frames), moment.reward, moment.terminated, moment.truncated, dict(moment.info)

    @staticmethod
    def _flat(frames: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([frame.ravel() for frame in frames.values()]).astype(np.float32)


def train_sac(settings: TryingSettings, out: Path, *, report: Report, stop: Stop) -> Times:
    """Train from nothing (a cell that was stopped begins anew) and write returns.csv into `out`. Raises Stopped."""
    require_package("stable_baselines3", "the method 'sac'")
    import torch
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    torch.set_num_threads(max(settings.threads, 1))
    out.mkdir(parents=True, exist_ok=True)
    (out / RETURNS).unlink(missing_ok=True)
    trial, judge = make_trial(settings), make_trial(settings)
    times, began = Times(), time.monotonic()
    sac = SAC(
        "MlpPolicy", Flat(trial, settings.seed), seed=settings.seed, device="cpu",
        learning_starts=settings.random_steps // trial.per_action, verbose=0,
    )  # fmt: skip

    class Watch(BaseCallback):
        """Evaluates when it is time, and ends when that is asked for."""

        def _on_step(self) -> bool:
            step = self.num_timesteps * trial.per_action
            if step // settings.eval_every > (step - trial.per_action) // settings.eval_every:
                returns = [_return(sac, Flat(judge, 0), seed) for seed in seeds]
                append_returns(out / RETURNS, [(step, "prior", seed, value) for seed, value in zip(seeds, returns)])
                message = f"mean return of {len(seeds)} episodes: {np.mean(returns):.1f}"
                report(Progress("evaluate", step, settings.steps, message))
            return not stop()

    seeds = range(EVALUATION_SEED, EVALUATION_SEED + settings.eval_episodes)
    try:
        sac.learn(-(-settings.steps // trial.per_action), callback=Watch())
    finally:
        trial.close()
        judge.close()
    if stop():
        raise Stopped(f"stopped in {out}; this method begins anew")
    times.seconds = time.monotonic() - began
    return times


def _return(sac: Any, env: Flat, seed: int) -> float:
    seen, _ = env.reset(seed=seed)
    total = 0.0
    while True:
        action, _ = sac.predict(seen, deterministic=True)
        seen, reward, terminated, truncated, info = env.step(action)
        total += reward
        if terminated or truncated:
            return float(info.get("return", total))
