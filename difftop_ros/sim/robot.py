"""A robot contract on top of a simulated world, in one process and in lock step: for learning without ROS.

The messages are those the simulation bridge publishes and the frames those the live node sees, by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from difftop_ros.contract import Contract, Observation
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationPipeline, images
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import rosbags_types
from difftop_ros.sim import make_world
from difftop_ros.sim.cloud import DepthProjector
from difftop_ros.sim.interface import require_made, require_mode


class SimulatedRobot:
    """Observes and commands a world as `contract` says. Times are simulation seconds.

    Raises UserError when the contract asks for a camera or joint the world does not have.
    """

    def __init__(self, contract: Contract, task: str | None = None, disturbance: float = 0.0, **world: Any) -> None:
        """world: more options of the task's simulator, such as obstacles."""
        self.contract = contract
        self.task = task or contract.sim.task or "none"
        options: dict[str, Any] = {"width": contract.sim.width, "height": contract.sim.height}
        self.world = make_world(self.task, contract.sim.model, disturbance=disturbance, **options, **world)
        self.pipeline = ObservationPipeline(contract)
        names = list(self.world.joint_names)
        lacking = [n for n in contract.command.joint_names if n not in names]
        if lacking:
            raise UserError(f"the simulated world has no joints {lacking}; it has {names}: correct command.joints")
        direct = require_mode(self.world, contract.command.mode)
        self._direct_velocity = direct and contract.command.mode == "velocity"
        self._order = [names.index(n) for n in contract.command.joint_names]
        self._target = self.world.joint_state()[0]
        self._projectors: dict[str, DepthProjector] = {}
        self._makers: dict[str, Callable[..., list[Any]]] = {
            "image": self._image,
            "point_cloud": self._point_cloud,
            "depth_cloud": self._depth_cloud,
        }
        self.pictures: dict[str, np.ndarray] = {}

    @property
    def max_steps(self) -> int:
        """Policy steps of the longest episode: what the contract and the task allow both."""
        return round(min(self.contract.episode.max_seconds, self.world.task.max_seconds) * self.contract.rate_hz)

    def reset(self, seed: int) -> None:
        """Start the episode of `seed`; the command is the measured position until the first `apply`."""
        self.world.reset(seed)
        self._target = self.world.joint_state()[0]

    def observe(self) -> dict[str, np.ndarray]:
        """Frames of all observations now, as ObservationPipeline.spec says."""
        latest: dict[str, tuple[int, Any]] = {}
        drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        now = self.world.time
        stamp = round(now * 1e9)
        for key, obs in self.contract.observations.items():
            for topic, message in self._messages(key, obs, now, drawn):
                latest[topic] = (stamp, message)
        self.pictures = {camera: rgb for camera, (rgb, _) in drawn.items()}
        return self.pipeline.observe(latest, stamp).frames

    def _messages(self, key: str, obs: Observation, now: float, drawn: dict[str, Any]) -> list[tuple[str, Any]]:
        if obs.kind == "tool_pose":  # made of the joint states on its topic
            return []
        if obs.kind == "joint_state":
            names, state = self.world.joint_names, self.world.joint_state()
            return [(obs.topic, joint_state(rosbags_types, names, now, *state, getattr(obs, "coupling", None)))]
        require_made(key, obs)
        camera = self.contract.sim.cameras.get(key)
        if camera is None:
            raise UserError(f"sim.cameras does not say which camera observation '{key}' comes from; add it")
        if camera not in drawn:
            drawn[camera] = self.world.render(camera)
        return list(zip(obs.topics, self._makers[obs.kind](obs, camera, *drawn[camera], now), strict=True))

    def _image(self, obs: Any, camera: str, rgb: np.ndarray, depth: np.ndarray, now: float) -> list[Any]:
        make = images.compressed_image if obs.type.endswith("CompressedImage") else images.image
        return [make(rosbags_types, rgb, now, _frame(camera))]

    def _depth_cloud(self, obs: Any, camera: str, rgb: np.ndarray, depth: np.ndarray, now: float) -> list[Any]:
        height, width = depth.shape
        K, frame = self.world.intrinsics(camera), _frame(camera)
        info = images.camera_info(rosbags_types, K, width, height, now, frame)
        messages = [images.depth_image(rosbags_types, depth, now, frame), info]
        if obs.color:
            make = images.compressed_image if obs.color_type.endswith("CompressedImage") else images.image
            messages.append(make(rosbags_types, rgb, now, frame))
        return messages

    def _point_cloud(self, obs: Any, camera: str, rgb: np.ndarray, depth: np.ndarray, now: float) -> list[Any]:
        if camera not in self._projectors:
            self._projectors[camera] = DepthProjector(self.world.intrinsics(camera), *depth.shape[::-1])
        return [point_cloud2(rosbags_types, self._projectors[camera].points(depth), now, _frame(camera), rgb)]

    def apply(self, action: np.ndarray, duration_s: float) -> None:
        """Hold one action (A,) of the contract's mode for `duration_s`."""
        mode = self.contract.command.mode
        if self._direct_velocity:
            command = np.zeros(len(self.world.joint_names))
            command[self._order] = action
            self.world.step(command, duration_s)
            return
        if mode == "position":
            self._target[self._order] = action
            self.world.step(self._target, duration_s)
            return
        rate = action if mode == "velocity" else action / duration_s
        ticks = max(1, round(duration_s * self.contract.control_rate_hz))
        for _ in range(ticks):
            self._target[self._order] += rate * (duration_s / ticks)
            self.world.step(self._target, duration_s / ticks)

    def success(self) -> bool:
        """Whether the task is done, by physics."""
        return self.world.success()

    def close(self) -> None:
        """Free the renderer."""
        self.world.close()


def _frame(camera: str) -> str:
    return f"{camera}_optical_frame"
