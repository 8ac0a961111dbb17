"""What is tried, as the learner sees it: frames by key, steps in [-1, 1], a reward; found by name, checked on the way.

What goes wrong in an environment (it dies, a reward is not a number, a frame has another shape) is a sentence here, so
that the run ends with what it has learned, and the same command goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from difftop_ros.contract import Contract, load_contract
from difftop_ros.errors import UserError, require_package
from difftop_ros.learning.reinforcement.rewards import Rewarding
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.settings import TrainingError
from difftop_ros.paths import share_path
from difftop_ros.policies.latent_planning.net import position_steps

Frames = dict[str, np.ndarray]
USUAL_CONTRACTS = {"panda": "panda_table", "metaworld": "metaworld_state"}
GYMNASIUM = "gymnasium:"


@dataclass(frozen=True)
class Moment:
    """After a step: frames, the step's reward, whether the episode is over for good or by time, and what else is known.

    info: 'return' in the task's own measure where it is another than the sum of rewards; 'success' where there is one.
    """

    frames: Frames
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


class Trial:
    """One environment. spec: key -> (kind, frame shape); actions; per_action: control steps an action is held.

    longest: actions of an episode, None if it is not known before. contract: the robot's, None for others.
    """

    def __init__(self, name: str, env: gymnasium.Env[Any, Any], per_action: int = 1, longest: int | None = None,
                 contract: Contract | None = None, reward_from: str = "task") -> None:  # fmt: skip
        """reward_from: see Rewarding. Raises TrainingError for spaces that cannot be learned in."""
        self.name, self.per_action, self.longest, self.contract = name, per_action, longest, contract
        self._env, self._rewarding = env, Rewarding(reward_from, contract)
        self._frames: Frames = {}
        space = env.observation_space
        self._spaces = dict(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else {"state": space}
        self.spec = {key: (_kind(name, key, part), tuple(part.shape or ())) for key, part in self._spaces.items()}
        action = env.action_space
        if (
            not isinstance(action, gymnasium.spaces.Box)
            or len(action.shape) != 1
            or not np.isfinite(action.high - action.low).all()
        ):
            raise TrainingError(f"env {name!r} takes actions {action}; expected a bounded Box of one dimension")
        self.actions = action.shape[0]
        self._low, self._high = action.low.astype(np.float64), action.high.astype(np.float64)
        self._steps = None if contract is None or contract.command.mode != "position" else position_steps(contract)

    def reset(self, seed: int) -> Frames:
        """Begin the episode of `seed`, always the same."""
        try:
            found, _ = self._env.reset(seed=seed)
        except UserError:
            raise
        except Exception as error:
            raise self._died(error) from error
        self._frames = self._checked(found)
        return self._frames

    def step(self, action: np.ndarray) -> Moment:
        """Do `action` (A,) in [-1, 1] for one step. Raises TrainingError for what no learner can use."""
        try:
            found, reward, terminated, truncated, info = self._env.step(self._command(action))
        except UserError:
            raise
        except Exception as error:
            raise self._died(error) from error
        reward = float(reward)
        if not np.isfinite(reward):
            raise TrainingError(
                f"env {self.name!r} gave the reward {reward} for the action {np.round(action, 3).tolist()}; expected a "
                "finite number: mend the environment; what was learned before this episode is kept"
            )
        before, self._frames = self._frames, self._checked(found)
        if not self._rewarding.only_task:
            success = info.get("success")
            reward = self._rewarding(before, self._frames, reward, None if success is None else bool(success))
            info = {key: value for key, value in info.items() if key != "return"}
        return Moment(self._frames, reward, bool(terminated), bool(truncated), info)

    def render(self) -> np.ndarray | None:
        """A picture, if the environment draws any."""
        return self._env.render()  # type: ignore[return-value]

    def close(self) -> None:
        """Free what the environment holds."""
        self._env.close()

    def _command(self, action: np.ndarray) -> np.ndarray:
        """The environment's own action: for positions of a contract an offset from where the joint is."""
        action = np.clip(np.asarray(action, np.float64), -1, 1)
        if self._steps is None:
            return (self._low + (action + 1) / 2 * (self._high - self._low)).astype(np.float32)
        assert self.contract is not None
        at = np.array([self._frames[key][row] for key, row in self.contract.measured], np.float64)
        return np.clip(at + action * self._steps, self._low, self._high).astype(np.float32)

    def _checked(self, found: Any) -> Frames:
        frames = {
            key: np.asarray(part) for key, part in (found.items() if isinstance(found, Mapping) else [("state", found)])
        }
        for key, (kind, shape) in self.spec.items():
            got = frames.get(key)
            if got is None or got.shape != shape:
                what = "nothing" if got is None else f"shape {got.shape}"
                raise TrainingError(f"env {self.name!r} gave {what} for observation {key!r}; expected {shape}")
            if kind != "image" and not np.isfinite(got).all():
                raise TrainingError(f"env {self.name!r} gave values that are not finite in observation {key!r}")
        kinds = {key: kind for key, (kind, _) in self.spec.items()}
        return {key: frames[key] if kind == "image" else frames[key].astype(np.float32) for key, kind in kinds.items()}

    def _died(self, error: Exception) -> TrainingError:
        return TrainingError(
            f"env {self.name!r} died ({type(error).__name__}: {error}); what was learned before this episode is kept: "
            "mend the environment, and the same command goes on"
        )


def make_trial(settings: TryingSettings, contract: Path | None = None) -> Trial:
    """The environment of the settings. Raises UserError for one unknown (with near names) or not installed."""
    name, repeat = settings.env, settings.action_repeat
    if name.startswith(GYMNASIUM):
        return _of_gymnasium(name, repeat, settings.reward_from)
    if "/" in name or name in _demo_tasks():
        found = contract_of(name, contract)
        assert found is not None
        return _of_contract(name, found, repeat, settings.reward_from)
    require_package("dm_control", f"env {name!r}")
    from difftop_ros.sim import control_suite

    try:
        env = control_suite.ControlSuiteEnv(name, action_repeat=repeat, pixels=settings.observe == "pixels")
    except UserError as error:
        near = difflib.get_close_matches(name, [*control_suite.names(), *_demo_tasks()], 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see docs/how-to/learn_by_trying.md"
        raise TrainingError(
            f"env is {name!r}; expected a task of dm_control such as cartpole-swingup, one of {_demo_tasks()} of the "
            f"demo's arm, SUITE/TASK or {GYMNASIUM}ID: {hint}", "env"
        ) from error  # fmt: skip
    return Trial(
        name, env, env.action_repeat, -(-env.control_steps // env.action_repeat), reward_from=settings.reward_from
    )


def _demo_tasks() -> list[str]:
    return ["reach", "push", "lift"]


def _of_gymnasium(name: str, repeat: int, reward_from: str) -> Trial:
    ident = name.removeprefix(GYMNASIUM)
    try:
        env = gymnasium.make(ident)
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(ident, list(gymnasium.registry), 3, 0.5)
        raise TrainingError(f"env {name!r}: {error}; near names are {near}", "env") from None
    longest = env.spec.max_episode_steps if env.spec else None
    count = max(repeat, 1)
    return Trial(name, Repeated(env, count), count, longest and -(-longest // count), reward_from=reward_from)


def contract_of(name: str, path: Path | None) -> Contract | None:
    """The contract of what is tried: the file's, else the usual one of a robot's task; None for what has no robot."""
    if path is None and (name.startswith(GYMNASIUM) or not ("/" in name or name in _demo_tasks())):
        return None
    suite = name.split("/")[0] if "/" in name else "panda"
    if path is None and suite not in USUAL_CONTRACTS:
        raise TrainingError(f"env {name!r} needs a robot: give its contract with --contract", "env")
    return load_contract(path or share_path(f"config/{USUAL_CONTRACTS[suite]}.yaml"))


def _of_contract(name: str, found: Contract, repeat: int, reward_from: str) -> Trial:
    from difftop_ros.sim.env import ContractEnv

    if repeat > 1:
        raise TrainingError(
            f"action_repeat is {repeat}, but a contract has its own rate ({found.rate_hz:g} Hz); set rate_hz there"
        )
    env = ContractEnv(found, name.removeprefix("panda/"), ends_on_success=False)
    return Trial(name, env, 1, env.robot.max_steps, found, reward_from)


class Repeated(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Holds each action for `count` steps; the reward is their mean."""

    def __init__(self, env: gymnasium.Env[Any, Any], count: int) -> None:
        super().__init__(env)
        self._count, self._return = count, 0.0

    def reset(self, **options: Any) -> Any:
        """As the environment's."""
        self._return = 0.0
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        """As the environment's, `count` times unless it ends before."""
        total, done = 0.0, 0
        while True:
            found, reward, terminated, truncated, info = self.env.step(action)
            total, done = total + float(reward), done + 1
            if terminated or truncated or done == self._count:
                self._return += total
                return found, total / self._count, terminated, truncated, {**info, "return": self._return}


def _kind(name: str, key: str, space: gymnasium.Space[Any]) -> str:
    shape = space.shape if isinstance(space, gymnasium.spaces.Box) else None
    kinds = {1: "vector", 2: "cloud", 3: "image"}
    if shape is None or len(shape) not in kinds or (len(shape) == 3) != (space.dtype == np.uint8):
        raise TrainingError(
            f"env {name!r} observes {key!r} as {space}; expected numbers (n,) or (n, c), or bytes (h, w, c)"
        )
    return kinds[len(shape)]
