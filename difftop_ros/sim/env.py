"""A robot contract with a simulated task as a gymnasium environment. Needs the extra [sim]; evaluation does without."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError
from difftop_ros.sim.robot import SimulatedRobot

Frames = dict[str, np.ndarray]


class ContractEnv(gymnasium.Env[Any, np.ndarray]):
    """Observes what the contract observes, acts as it commands, at its rate_hz, in lock step.

    observation_space: Dict of the contract's observations: uint8 (h, w, 3) pictures, float32 others, as
    ObservationPipeline.spec. action_space: Box (A,) float32 between the command's bounds, in its unit; what is beyond
    counts as the end. The reward is the world's dense one after the step. An episode is terminated on success and
    truncated at the shorter of the contract's and the task's max_seconds, or when an observation cannot be made.
    `info`: seed of the episode, success, time_s since the reset, and note, why it was cut short ('' if it was not).
    """

    metadata = {"render_modes": ["rgb_array"]}
    observation_space: gymnasium.spaces.Dict
    action_space: gymnasium.spaces.Box

    def __init__(
        self,
        contract: Contract,
        task: str | None = None,
        *,
        disturbance: float = 0.0,
        camera: str | None = None,
        render_mode: str | None = None,
        ends_on_success: bool = True,
    ) -> None:
        """task: None is the contract's; camera: drawn by `render`, None is the world's first.

        ends_on_success: where not, an episode goes on to its time, as a dense reward that ends with success is not
        worth the success to who collects it.

        Raises UserError when the world lacks a joint or camera that is asked for.
        """
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": contract.rate_hz}
        self.contract = contract
        self.robot = SimulatedRobot(contract, task, disturbance)
        cameras = self.robot.world.cameras
        if render_mode and (not cameras or camera not in (None, *cameras)):
            self.robot.close()
            raise UserError(f"camera is {camera!r}; the world of task '{self.robot.task}' has {list(cameras)}")
        self._ends_on_success = ends_on_success
        self._camera = camera or next(iter(cameras), None)
        self.observation_space = gymnasium.spaces.Dict(
            {key: space_of(shape, dtype) for key, (shape, dtype) in self.robot.pipeline.spec.items()}
        )
        self._lower, self._upper = (np.asarray(bound, np.float32) for bound in contract.command.bounds())
        self.action_space = gymnasium.spaces.Box(self._lower, self._upper, dtype=np.float32)
        self._seed, self._steps = 0, 0
        self._frames: Frames = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frames, dict[str, Any]]:
        """Starts the world's episode `seed`; one drawn from the last given seed for None.

        Raises ObservationError when the first frames cannot be made.
        """
        super().reset(seed=seed)
        self._seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._steps = 0
        self.robot.reset(self._seed)
        self._frames = self.robot.observe()
        return self._observation(), self._info("")

    def step(self, action: np.ndarray) -> tuple[Frames, float, bool, bool, dict[str, Any]]:
        """Holds `action` (A,) for one policy step; SimError for a wrong size or numbers that are not finite."""
        clipped = np.clip(np.asarray(action, np.float64), self._lower, self._upper)
        self.robot.apply(clipped, 1 / self.contract.rate_hz)
        self._steps += 1
        note = ""
        try:
            self._frames = self.robot.observe()
        except ObservationError as error:
            note = str(error)  # the last frames stand in for those that cannot be made
        truncated = bool(note) or self._steps >= self.robot.max_steps
        info = self._info(note)
        terminated = info["success"] and self._ends_on_success
        return self._observation(), self.robot.world.reward(), terminated, truncated, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The camera's picture, uint8 (h, w, 3) RGB; None without render_mode."""
        if self.render_mode is None or self._camera is None:
            return None
        return self.robot.world.render(self._camera)[0]

    def close(self) -> None:
        """Frees the renderer; may be called twice."""
        self.robot.close()

    def _observation(self) -> Frames:
        return {key: frame.copy() for key, frame in self._frames.items()}  # the pipeline's are shared with its cache

    def _info(self, note: str) -> dict[str, Any]:
        world = self.robot.world
        return {"seed": self._seed, "success": world.success(), "time_s": world.time, "note": note}


def space_of(shape: tuple[int, ...], dtype: np.dtype) -> gymnasium.spaces.Box:
    """What frames of a shape and dtype are: bytes of pictures, or numbers without bounds."""
    low, high = (0, 255) if dtype == np.uint8 else (-np.inf, np.inf)
    return gymnasium.spaces.Box(low, high, shape, dtype.type)
