"""Tasks of dm_control as gymnasium environments, by names such as 'cartpole-swingup'. Needs the extra [dmcontrol].

Every episode lasts 1000 control steps and is truncated there, never terminated, as the suite has it.
"""

from __future__ import annotations

import difflib
import os
from typing import Any

import gymnasium
import numpy as np

from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.gl import choose_backend, wake_display

# Control steps per action, as PlaNet (arXiv 1811.04551) and its successors have them; 4 where they have none.
ACTION_REPEATS = {"cartpole": 8, "finger": 2, "walker": 2}
USUAL_REPEAT = 4
PICTURE = 84  # side of a picture [px]
STACKED = 3  # pictures in one observation, the newest last


def load_suite() -> Any:
    """dm_control's suite. It chooses how to draw when it is imported, with a warning where there is no display."""
    try:
        os.environ.setdefault("MUJOCO_GL", choose_backend())
    except SimError:  # nothing can draw here, which only pictures need
        pass
    from dm_control import suite

    return suite


def split(name: str) -> tuple[str, str]:
    """'ball_in_cup-catch' -> ('ball_in_cup', 'catch'). Raises SimError with near names for a task there is not."""
    suite = load_suite()
    domain, _, task = name.partition("-")
    domain, task = {"cup": "ball_in_cup"}.get(domain, domain), task.replace("-", "_")
    if (domain, task) not in suite.ALL_TASKS:
        raise SimError(f"dm_control has no task {name!r}{nearest(name, names())}", "env")
    return domain, task


def names() -> list[str]:
    """All tasks, as 'DOMAIN-TASK'."""
    suite = load_suite()
    return sorted(f"{domain}-{task.replace('_', '-')}" for domain, task in suite.ALL_TASKS)


def nearest(name: str, known: list[str]) -> str:
    """The end of a sentence: which known names are near, or all of them."""
    near = difflib.get_close_matches(name, known, 3, 0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(known)}"


class ControlSuiteEnv(gymnasium.Env[Any, np.ndarray]):
    """One task. observation_space: Dict of 'state' (n,) float32, or of 'pixels' uint8 (84, 84, 9), three pictures.

    action_space: Box [-1, 1], mapped to the task's own bounds. A step holds the action for `action_repeat` control
    steps; its reward is their mean, so that returns at any repeat compare (`info['return']` sums control steps).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}
    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.spaces.Box

    def __init__(
        self, name: str, *, action_repeat: int = 0, pixels: bool = False, render_mode: str | None = None
    ) -> None:
        """action_repeat: 0 for the task's usual one. Raises SimError for an unknown task."""
        suite = load_suite()
        domain, task = split(name)
        self.name, self.render_mode, self._pixels = name, render_mode, pixels
        self.action_repeat = action_repeat or ACTION_REPEATS.get(domain, USUAL_REPEAT)
        self._env = suite.load(domain, task, task_kwargs={"random": 0})
        spec = self._env.action_spec()
        self._low, self._high = (
            np.broadcast_to(np.asarray(b, np.float64), spec.shape) for b in (spec.minimum, spec.maximum)
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, spec.shape, np.float32)
        if pixels:
            shape = (PICTURE, PICTURE, 3 * STACKED)
            spaces: dict[str, Any] = {"pixels": gymnasium.spaces.Box(0, 255, shape, np.uint8)}
        else:
            size = sum(int(np.prod(part.shape)) for part in self._env.observation_spec().values())
            spaces = {"state": gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)}
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self._pictures: list[np.ndarray] = []
        self._return = 0.0

    @property
    def control_steps(self) -> int:
        """Control steps of an episode."""
        return int(self._env._step_limit)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts the episode of `seed`, always the same one; one drawn from the last given seed for None."""
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._env.task.random.seed(seed)
        found = self._env.reset()
        self._return, self._pictures = 0.0, []
        return self._observation(found.observation), {"seed": seed, "return": 0.0}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Holds `action` (A,); SimError if it is not finite."""
        values = np.asarray(action, np.float64)
        if not np.isfinite(values).all():
            raise SimError(f"the action {values.tolist()} is not finite; nothing was simulated")
        scaled = self._low + (np.clip(values, -1, 1) + 1) / 2 * (self._high - self._low)
        total, count = 0.0, 0
        while count < self.action_repeat:
            found = self._env.step(scaled)
            total, count = total + float(found.reward or 0.0), count + 1
            if found.last():
                break
        self._return += total
        ended = found.last() and found.discount == 0
        info = {"return": self._return}
        return self._observation(found.observation), total / self.action_repeat, ended, found.last() and not ended, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """A picture, uint8 (240, 320, 3); None without render_mode."""
        return None if self.render_mode is None else self._drawn(240, 320)

    def close(self) -> None:
        """Frees the physics and its renderer."""
        self._env.close()

    def _drawn(self, height: int, width: int) -> np.ndarray:
        wake_display()
        return self._env.physics.render(height, width, camera_id=0)

    def _observation(self, found: Any) -> dict[str, np.ndarray]:
        if not self._pixels:
            return {"state": np.concatenate([np.ravel(part) for part in found.values()]).astype(np.float32)}
        picture = self._drawn(PICTURE, PICTURE)
        self._pictures = ([*self._pictures, picture] if self._pictures else [picture] * STACKED)[-STACKED:]
        return {"pixels": np.concatenate(self._pictures, axis=2)}
