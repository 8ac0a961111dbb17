"""Obstacles that stand or move in a simulated world, as plain data: files keep them, a parameter carries them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, model_validator

from difftop_ros.contract.base import Section, Vector3
from difftop_ros.contract.shapes import AnyShape
from difftop_ros.contract.validated import validated
from difftop_ros.plain_yaml import parse_yaml
from difftop_ros.sim.errors import SimError


class Course(Section):
    """A straight way at constant velocity from one time of the world to another; still before and after."""

    velocity: Vector3 = Field(description="[m/s]")
    start_s: float = Field(0.0, ge=0, description="[s]")
    end_s: float = Field(gt=0, description="[s]")

    @model_validator(mode="after")
    def _forward(self) -> Course:
        if self.end_s <= self.start_s:
            raise ValueError(f"start_s is {self.start_s:g} and end_s {self.end_s:g}; expected the first below")
        return self

    def offset(self, time: float) -> np.ndarray:
        """How far (3,) [m] it has come at `time` [s]."""
        return np.asarray(self.velocity) * float(np.clip(time - self.start_s, 0.0, self.end_s - self.start_s))


class Placed(Section):
    """One obstacle where it stands at the reset, and its course if it moves."""

    shape: AnyShape
    course: Course | None = None


class _All(Section):
    obstacles: tuple[Placed, ...] = Field(max_length=64)


def parse_placed(text: str, source: str) -> tuple[Placed, ...]:
    """Obstacles of YAML, a list of {shape: {kind: …}, course: {…}}; '' is none. Raises SimError with its lines."""
    data: Any = parse_yaml(text, source, SimError).data
    return () if data is None else validated(_All, {"obstacles": data}, source, SimError).obstacles
