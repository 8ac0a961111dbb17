"""Lets a scripted expert drive the simulated robot through its command topic, for demonstrations.

The expert sees the simulation's own state, but its commands go out on the topic like anybody's and reach the robot by
the bridge's subscription: what a recorder sees is what moved the arm. Experts are made in difftop_ros.sim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.messages.commands import array_to_command
from difftop_ros.messages.types import ros_types
from difftop_ros.sim import make_expert
from difftop_ros.sim.interface import SimWorld, require_mode


class ExpertDriver:
    """Call it at the beginning of every policy step: it publishes the step's command, stamped with the step's time."""

    def __init__(self, node: Any, contract: Contract, columns: Sequence[int], world: SimWorld) -> None:
        """columns: for each of the contract's joints its place among the world's. Raises UserError for a task or model
        without an expert, and for a contract of another rate than the experts'.
        """
        self._world, self._expert = world, make_expert(world)
        step_s = self._expert.step_s
        if abs(contract.rate_hz * step_s - 1) > 1e-6:
            raise UserError(
                f"rate_hz is {contract.rate_hz:g}; the scripted expert of '{world.task.name}' acts at {1 / step_s:g} "
                "Hz: set that"
            )
        self._step_s, self._direct = step_s, require_mode(world, contract.command.mode)
        self._contract, self._columns = contract, list(columns)
        self._publisher = node.create_publisher(ros_types(contract.command.type), contract.command.topic, 10)
        self._low, self._high = (np.array(side) for side in contract.command.bounds())
        self._target = np.zeros(len(columns))

    def begin(self, world: SimWorld) -> None:
        """An episode begins: commands of the modes velocity and delta_position start at the measured position."""
        if world is not self._world:
            self._world, self._expert = world, make_expert(world)
        self._target = world.joint_state()[0][self._columns]

    def __call__(self, time_ns: int) -> None:
        """Publish the command for the policy step that begins at `time_ns` of simulated time."""
        wanted = self._as_mode(self._expert.act()[self._columns])
        self._publisher.publish(array_to_command(self._contract, wanted, time_ns, ros_types))

    def _as_mode(self, wanted: np.ndarray) -> np.ndarray:
        """The expert's command (A,) in the contract's mode, within its bounds."""
        if self._direct:
            return np.clip(wanted, self._low, self._high)
        span = self._step_s if self._contract.command.mode == "velocity" else 1.0
        values = np.clip((wanted - self._target) / span, self._low, self._high)
        self._target = self._target + values * span
        return values
