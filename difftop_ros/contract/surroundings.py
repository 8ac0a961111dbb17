"""What a robot must not touch: known shapes, and the points of a cloud that are neither its own nor what it handles.

One description for the costs that plan around it and for the gate that refuses what would touch it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from difftop_ros.contract.base import Section, Vector3
from difftop_ros.contract.shapes import AnyShape


class Surroundings(Section):
    """Lengths in metres, in the robot's base frame."""

    shapes: tuple[AnyShape, ...] = Field(
        (), max_length=256, description="boxes, cylinders and half-spaces in the base frame"
    )
    cloud: str | None = Field(None, description="observation whose points are obstacles")
    low: Vector3 = Field((-0.2, -0.8, 0.0), description="lowest corner of where points count [m]")
    high: Vector3 = Field((1.0, 0.8, 1.0), description="highest corner of it [m]")
    above: float = Field(
        0.0, description="points lower than this are no obstacles: the table, and what is to be touched [m]"
    )
    robot_margin: float = Field(0.03, ge=0, description="points so near to the robot's spheres are the robot's own [m]")
    tool_margin: float = Field(0.06, ge=0, description="points so near to the tool's point are what it holds [m]")
    thickness: float = Field(
        0.03, ge=0, le=0.2, description="how far things are taken to reach behind the surface that the camera sees [m]"
    )
    ahead_s: float = Field(
        0.4, ge=0, le=2, description="what moves is taken to be wherever it comes within this time, too [s]"
    )
    memory_s: float = Field(
        2.0, ge=0, le=60, description="how long a point counts after it was last seen while the arm hides it [s]"
    )
    max_age_ms: float | None = Field(
        None, gt=0, le=60_000, description="age of the cloud beyond which on_stale applies; the observation's own if "
        "left out [ms]",
    )  # fmt: skip
    on_stale: Literal["hold", "go_on"] = Field(
        "hold", description="with too old a cloud: hold, or go on with what was seen last"
    )

    @model_validator(mode="after")
    def _spanned(self) -> Surroundings:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low is {list(self.low)} and high {list(self.high)}; expected the first below the second")
        return self
