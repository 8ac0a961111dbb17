"""Training by trying, from an environment to a run's folder: episodes, updates, evaluations, checkpoints, resume.

The order is: an episode with the policy as it is, then as many updates as it had actions (times update_ratio), then
what is due. Between two episodes is where a run is kept and stopped: the start of an episode depends on its number
alone, so a run that goes on is the one that was not stopped, bit by bit on a CPU.
"""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from difftop_ros.files import whole
from difftop_ros.learning.checkpoints import checkpoint_step, forget_old, latest_checkpoint, read_checkpoint, restoring
from difftop_ros.learning.memory import keep_freed_memory
from difftop_ros.learning.progress import Progress, Report, Stop, Stopped, never, silent
from difftop_ros.learning.reinforcement.acting import EVALUATION_SEED, acting, evaluate, try_episode
from difftop_ros.learning.reinforcement.demonstrations import Demonstrations
from difftop_ros.learning.reinforcement.environments import Trial
from difftop_ros.learning.reinforcement.learner import Learner
from difftop_ros.learning.reinforcement.replay import Episode, Replay
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.settings import RECORD, TrainingError
from difftop_ros.policies.config import PolicyError
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.normalisation import ObservationNormaliser

RETURNS = "returns.csv"
COLUMNS = ("step", "acting", "seed", "return")
Make = Callable[[], Trial]


@dataclass
class Times:
    """Where a run's time went: seconds in all; of the processor in updates and in acting while it learns; their counts.

    The processor's time is what others that use the machine do not change.
    """

    seconds: float = 0.0
    updating: float = 0.0
    updates: int = 0
    acting: float = 0.0
    actions: int = 0

    @property
    def update_ms(self) -> float:
        """Of one update; NaN if none was measured."""
        return 1e3 * self.updating / self.updates if self.updates else math.nan

    @property
    def act_ms(self) -> float:
        """Of one action, with the environment's own step."""
        return 1e3 * self.acting / self.actions if self.actions else math.nan


@dataclass(frozen=True)
class Trained:
    """What a finished run gives."""

    agent: LatentAgent
    times: Times


def train_by_trying(
    make: Make,
    settings: TryingSettings,
    out: str | Path,
    *,
    device: torch.device | None = None,
    fresh: bool = False,
    report: Report = silent,
    stop: Stop = never,
    recorded: Demonstrations | None = None,
) -> Trained:
    """Train in the environments that `make` makes and write the run's folder; a stopped run goes on from where it was.

    recorded: episodes of the same robot that are remembered and learned from first.

    The folder gets training.yaml, checkpoints/, episodes/, logs/ (TensorBoard) and returns.csv, a row per evaluated
    episode. Raises Stopped after the episode in which `stop()` turned true, and TrainingError if `out` holds another
    run, a loss is not finite, or the environment cannot be used; what is in checkpoints/ is kept then.
    """
    run = Run(make, settings, Path(out), device or torch.device("cpu"), fresh, report, stop, recorded)
    try:
        return run.go()
    finally:
        run.close()


class Run:
    """A training in work. step: control steps so far; episodes: how many were tried."""

    def __init__(
        self,
        make: Make,
        settings: TryingSettings,
        out: Path,
        device: torch.device,
        fresh: bool,
        report: Report,
        stop: Stop,
        recorded: Demonstrations | None = None,
    ) -> None:
        if fresh:
            _remove(out)
        data = {} if recorded is None else {"recorded episodes": recorded.mark}
        settings.check_resumable(out, data)
        out.mkdir(parents=True, exist_ok=True)
        settings.record(out, data)
        keep_freed_memory()
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.settings, self.out, self.report, self.stop = settings, out, report, stop
        self._make, self.trial = make, make()
        self._evaluated: list[Trial] = []
        torch.manual_seed(settings.seed)
        self.agent = make_agent(self.trial, settings).to(device)
        self.learner = Learner(self.agent, settings, device)
        self.replay = Replay(settings.memory)
        self._recorded = () if recorded is None else tuple(recorded.episodes)
        for episode in self._recorded:
            self.replay.add(episode)
        self.step = self.episodes = 0
        self._saved: tuple[int, int] | None = None  # steps and updates of the last checkpoint
        self.times, self._began = Times(), time.monotonic()
        self._told, self._first = 0.0, 0
        self._debt = 0.0  # updates that are due
        self._log: Any = None
        self._resume()

    def go(self) -> Trained:
        """Until the last step, or until `stop()`."""
        settings = self.settings
        if self.learner.updates and self.step < settings.steps:
            self.learner.prepare()
        if self._recorded and self.learner.updates < settings.pretrain:
            self._pretrain()
        while self.step < settings.steps:
            if self.stop():
                self._save()
                raise Stopped(f"stopped after step {self.step} of {settings.steps}, kept in {self.out}")
            before = self.step
            self._try()
            self._learn()
            if self._due(before, settings.eval_every) or self.step >= settings.steps:
                self._evaluate()
            if self._due(before, settings.checkpoint_every) or self.step >= settings.steps:
                self._save()
        return Trained(self.agent, self.times)

    def close(self) -> None:
        """End the environments and the log."""
        for trial in (self.trial, *self._evaluated):
            trial.close()
        if self._log is not None:
            self._log.close()

    def _pretrain(self) -> None:
        """Updates on recorded episodes alone, in which the prior is drawn to what was done in them."""
        settings, told = self.settings, dict[str, float]()
        if not self.learner.updates:
            self._fit()
        while self.learner.updates < settings.pretrain:
            if self.stop():
                self._save()
                raise Stopped(f"stopped after {self.learner.updates} updates on recorded episodes, kept in {self.out}")
            told |= self.learner.update(self.replay, settings.imitate)
            self._tell(told)
        self._tell(told, logged=True)
        self._evaluate()
        self._save()

    @property
    def _knows(self) -> bool:
        """Whether there is something to act and to learn from: recorded episodes, or the random steps are over."""
        return bool(self._recorded) or self.step >= self.settings.random_steps

    def _due(self, before: int, every: int) -> bool:
        return self.step // every > before // every

    def _try(self) -> None:
        """One episode into the replay and onto the disk."""
        settings = self.settings
        seeds = np.random.SeedSequence([settings.seed, 1, self.episodes])
        random, start = np.random.default_rng(seeds), int(seeds.generate_state(1)[0] % EVALUATION_SEED)
        known = self._knows
        noise = settings.noise_at(self.step)
        began = time.process_time()
        tried = try_episode(self.agent if known else None, self.trial, start, noise, random)
        if known:
            self.times.acting += time.process_time() - began
            self.times.actions += len(tried.episode)
        self.replay.add(tried.episode)
        self._write(tried.episode)
        self.episodes += 1
        self.step += len(tried.episode) * self.trial.per_action
        self._debt += settings.update_ratio * len(tried.episode)
        self._tell({"return": tried.reached, "noise": noise}, logged=True)

    def _learn(self) -> None:
        """The updates that are due; none before there is something to learn from, which says what is normal too."""
        if not self._knows:
            return
        if not self.learner.updates:
            self._fit()
        told: dict[str, float] = {}
        began, first = time.process_time(), self.learner.updates
        while self._debt >= 1:
            told |= self.learner.update(self.replay)
            self._debt -= 1
            self._tell(told)
        self.times.updating += time.process_time() - began
        self.times.updates += self.learner.updates - first
        self._tell(told, logged=True)

    def _fit(self) -> None:
        """The normaliser, from what was seen so far; the discount, from how long an episode lasts."""
        normaliser = self.agent.normaliser
        for key in normaliser.fitted:
            frames = self.replay.frames(key)
            axes = tuple(range(frames.ndim - 1))
            normaliser.fit(key, frames.mean(axes), frames.std(axes))
        longest = self.trial.longest or len(self.replay) / self.replay.episodes
        discount = self.settings.discount or float(np.clip(1 - 5 / max(longest, 5.1), 0.95, 0.995))
        self.agent.get_buffer("discount").fill_(discount)
        self.learner.prepare()  # not before: a prepared plan has the discount of its making

    def _evaluate(self) -> None:
        """Returns of every way to act from the same starts, as rows of returns.csv."""
        settings, seeds = self.settings, range(EVALUATION_SEED, EVALUATION_SEED + self.settings.eval_episodes)
        if not seeds or not self.learner.updates:
            return
        if not self._evaluated:
            self._evaluated = [self._make() for _ in range(1 if self.trial.contract else len(seeds))]
        means = {}
        for way in settings.acting:
            found = evaluate(acting(self.agent, way), self._evaluated, seeds)
            append_returns(self.out / RETURNS, [(self.step, way, seed, value) for seed, value in zip(seeds, found)])
            means[f"{way}_return"] = float(np.mean(found))
        shown = ", ".join(f"{name.removesuffix('_return')} {value:.1f}" for name, value in means.items())
        message = f"mean return of {len(seeds)} episodes: {shown}"
        self.report(Progress("evaluate", self.step, settings.steps, message, means))
        self._scalars(means)

    def _write(self, episode: Episode) -> None:
        folder = self.out / "episodes"
        folder.mkdir(exist_ok=True)
        with whole(folder / f"{self.episodes:06d}.npz") as beside, beside.open("wb") as file:
            frames: dict[str, Any] = {f"frame {key}": column for key, column in episode.frames.items()}
            np.savez(file, actions=episode.actions, rewards=episode.rewards, terminated=episode.terminated, **frames)

    def _save(self) -> None:
        if self._saved == (self.step, self.learner.updates):
            return
        self.times.seconds += time.monotonic() - self._began
        self._began, self._first = time.monotonic(), self.step
        state = {
            "learner": self.learner.state(),
            "step": self.step,
            "episodes": self.episodes,
            "debt": self._debt,
            "times": asdict(self.times),
        }
        folder = self.out / "checkpoints"
        with whole(folder / f"step={self.step}.ckpt") as beside:
            torch.save(state, beside)
        forget_old(folder)
        self._saved = self.step, self.learner.updates

    def _resume(self) -> None:
        newest = latest_checkpoint(self.out / "checkpoints")
        if newest is None:
            return
        with restoring(newest):
            state = read_checkpoint(newest)
            self.learner.load(state["learner"])
            self.step, self.episodes, self._debt = int(state["step"]), int(state["episodes"]), float(state["debt"])
            self.times, self._first = Times(**state["times"]), self.step
            self._saved = self.step, self.learner.updates
        for number in range(self.episodes):
            self.replay.add(read_episode(self.out / "episodes" / f"{number:06d}.npz"))
        _cut(self.out / RETURNS, self.step)
        self.report(Progress("train", self.step, self.settings.steps, f"going on from step {checkpoint_step(newest)}"))

    def _tell(self, metrics: dict[str, float], logged: bool = False) -> None:
        """Report about once a second; into TensorBoard what is `logged`."""
        now = time.monotonic()
        if logged:
            self._scalars(metrics)
        if now - self._told < 1.0 and self.step < self.settings.steps:
            return
        self._told = now
        rate = (self.step - self._first) / max(now - self._began, 1e-6)
        eta = (self.settings.steps - self.step) / rate if rate > 0 else -1.0
        named = {f"train/{name}": value for name, value in metrics.items()}
        self.report(
            Progress("train", min(self.step, self.settings.steps), self.settings.steps, metrics=named,
                     epoch=self.episodes, steps_per_second=rate, eta_s=eta)
        )  # fmt: skip

    def _scalars(self, metrics: dict[str, float]) -> None:
        if self._log is None:
            from torch.utils.tensorboard import SummaryWriter

            self._log = SummaryWriter(str(self.out / "logs"), purge_step=self.step if self.step else None)
        for name, value in metrics.items():
            self._log.add_scalar(name, value, self.step)


def make_agent(trial: Trial, settings: TryingSettings) -> LatentAgent:
    """An agent with fresh weights for an environment."""
    try:
        return LatentAgent(trial.spec, trial.actions, settings.policy, ObservationNormaliser(trial.spec))
    except ValueError as error:
        raise PolicyError(str(error)) from error


def read_episode(path: Path) -> Episode:
    """An episode that a run wrote. Raises TrainingError if it is gone or damaged."""
    try:
        with np.load(path, allow_pickle=False) as found:
            frames = {name[6:]: found[name] for name in found.files if name.startswith("frame ")}
            return Episode(frames, found["actions"], found["rewards"], bool(found["terminated"]))
    except Exception as error:
        raise TrainingError(
            f"episode {str(path)!r} cannot be read ({type(error).__name__}), which the checkpoint needs; start over "
            "with fresh"
        ) from error


def append_returns(path: Path, rows: list[tuple[int, str, int, float]]) -> None:
    """Add rows to a run's returns.csv."""
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        writer.writerows([(step, way, seed, f"{value:.3f}") for step, way, seed, value in rows])


def read_returns(path: Path) -> list[dict[str, str]]:
    """The rows of a run's returns.csv."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _cut(path: Path, step: int) -> None:
    """Leave out rows from after `step`, which a run that goes on makes again."""
    rows = [row for row in read_returns(path) if int(row["step"]) <= step]
    path.unlink(missing_ok=True)
    append_returns(path, [(int(r["step"]), r["acting"], int(r["seed"]), float(r["return"])) for r in rows])


def _remove(out: Path) -> None:
    if (out / RECORD).is_file():
        for name in ("checkpoints", "logs", "episodes"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (RECORD, RETURNS):
            (out / name).unlink(missing_ok=True)
