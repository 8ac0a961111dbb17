"""The contract's joint limits as arrays for one control rate. Checking commands against them is gate.py's job."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from difftop_ros.contract import Command
from difftop_ros.contract.run_limits import RunLimits


@dataclass(frozen=True)
class MotionLimits:
    """Limits of the A commanded joints, float64 (A,) each, in the contract's units; `dt` is the control period [s].

    position  lower, upper [unit];  velocity [unit/s];  acceleration [unit/s^2], jerk [unit/s^3], inf where the
              contract has none;
    step      largest |change| of one command [unit] (position, delta_position) or [unit/s] (velocity), inf if none
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    mode: str
    dt: float
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray
    step: np.ndarray

    @classmethod
    def of(cls, command: Command, control_rate_hz: float) -> MotionLimits:
        """The limits of `command` when one command is published every 1 / `control_rate_hz` seconds."""
        joints = command.joints

        def numbers(name: str) -> np.ndarray:
            return np.array([float("inf") if getattr(j, name) is None else getattr(j, name) for j in joints])

        return cls(
            names=tuple(j.name for j in joints),
            units=tuple(j.unit for j in joints),
            mode=command.mode,
            dt=1.0 / control_rate_hz,
            lower=np.array([j.position[0] for j in joints]),
            upper=np.array([j.position[1] for j in joints]),
            velocity=numbers("velocity"),
            acceleration=numbers("acceleration"),
            jerk=numbers("jerk"),
            step=numbers("step"),
        )

    def within(self, run: RunLimits) -> MotionLimits:
        """The same with the shares of velocity and acceleration that a run allows."""
        return replace(self, velocity=run.velocity * self.velocity, acceleration=run.acceleration * self.acceleration)

    @property
    def size(self) -> int:
        """Number of commanded joints A."""
        return len(self.names)

    @property
    def top_speed(self) -> np.ndarray:
        """Largest speed one command may ask for [unit/s], (A,): the velocity limit, or the step limit if tighter."""
        return self.velocity if self.mode == "velocity" else np.minimum(self.velocity, self.step / self.dt)

    @property
    def per_tick(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Largest change (A,) from one command to the next: of position [unit], of that change, and of that one again.

        The unit of time is the tick; all are finite, since no motion between the speed limits needs more.
        """
        speed = self.top_speed * self.dt
        most = np.minimum(self.acceleration * self.dt**2, 2.0 * speed)
        if self.mode == "velocity":
            most = np.minimum(most, self.step * self.dt)
        return speed, most, np.minimum(self.jerk * self.dt**3, 2.0 * most)

    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (A,), (A,) of a plan's steps: positions [unit], velocities [unit/s], or increments per policy step."""
        if self.mode == "position":
            return self.lower, self.upper
        size = self.velocity if self.mode == "velocity" else self.step
        return -size, size
