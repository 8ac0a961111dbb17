"""The contract's joint limits as arrays for one control rate. Checking commands against them is gate.py's job."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from difftop_ros.contract import Command


@dataclass(frozen=True)
class MotionLimits:
    """Limits of the A commanded joints, float64 (A,) each, in the contract's units; `dt` is the control period [s].

    position  lower, upper [unit];  velocity [unit/s];  acceleration [unit/s^2], inf where the contract has none;
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
    step: np.ndarray

    @classmethod
    def of(cls, command: Command, control_rate_hz: float) -> MotionLimits:
        """The limits of `command` when one command is published every 1 / `control_rate_hz` seconds."""
        joints = command.joints
        missing = float("inf")
        return cls(
            names=tuple(j.name for j in joints),
            units=tuple(j.unit for j in joints),
            mode=command.mode,
            dt=1.0 / control_rate_hz,
            lower=np.array([j.position[0] for j in joints]),
            upper=np.array([j.position[1] for j in joints]),
            velocity=np.array([j.velocity for j in joints]),
            acceleration=np.array([missing if j.acceleration is None else j.acceleration for j in joints]),
            step=np.array([missing if j.step is None else j.step for j in joints]),
        )

    @property
    def size(self) -> int:
        """Number of commanded joints A."""
        return len(self.names)

    @property
    def top_speed(self) -> np.ndarray:
        """Largest speed one command may ask for [unit/s], (A,): the velocity limit, or the step limit if tighter."""
        return self.velocity if self.mode == "velocity" else np.minimum(self.velocity, self.step / self.dt)

    @property
    def top_acceleration(self) -> np.ndarray:
        """Largest change of speed [unit/s^2], (A,); in velocity mode the step limit bounds it too."""
        return np.minimum(self.acceleration, self.step / self.dt) if self.mode == "velocity" else self.acceleration

    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (A,), (A,) of a plan's steps: positions [unit], velocities [unit/s], or increments per policy step."""
        if self.mode == "position":
            return self.lower, self.upper
        size = self.velocity if self.mode == "velocity" else self.step
        return -size, size

    def stop_speed(self, distance: np.ndarray) -> np.ndarray:
        """Largest speed (A,) [unit/s] from which the joint still stops within `distance` (A,) [unit] of travel.

        Counts the tick that moves at this speed and then one reduction by acceleration * dt per tick:
        v dt + v^2 / 2a <= distance. A speed chosen so keeps the next tick's choice possible (see test_shaper.py).
        """
        room = np.maximum(distance, 0.0)
        acceleration = self.top_acceleration
        finite = np.isfinite(acceleration)
        a = np.where(finite, acceleration, 1.0)
        braking = -a * self.dt + np.sqrt((a * self.dt) ** 2 + 2.0 * a * room)
        return np.where(finite, braking, room / self.dt)
