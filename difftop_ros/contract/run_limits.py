"""Limits for one run, tighter than the contract's: how fast joints may move, and where and how fast the tool may be."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from difftop_ros.contract.base import Section, Vector3
from difftop_ros.contract.shapes import AnyShape, Box, unit_length


class ToolLimits(Section):
    """Where the tool's point (robot.tool_frame) may be, in the base frame."""

    least: float | None = Field(None, ge=-10, le=10, description="lowest height [m]")
    most: float | None = Field(None, ge=-10, le=10, description="highest height [m]")
    keep_in: Box | None = Field(None, description="a box that it does not leave")
    keep_out: tuple[AnyShape, ...] = Field((), max_length=64, description="shapes that it does not enter")
    tilt: float | None = Field(None, gt=0.02, lt=math.pi, description="largest lean of its z axis from `axis` [rad]")
    axis: Vector3 = Field((0.0, 0.0, -1.0), description="direction of the base frame, length 1")

    @model_validator(mode="after")
    def _possible(self) -> ToolLimits:
        unit_length(self.axis)
        if self.least is not None and self.most is not None and not self.least < self.most:
            raise ValueError(f"least is {self.least} and most {self.most}; expected the first below the second")
        if not (self.keep_out or any(x is not None for x in (self.least, self.most, self.keep_in, self.tilt))):
            raise ValueError("names no limit; give least, most, keep_in, keep_out or tilt, or leave 'tool' out")
        return self


class RunLimits(Section):
    """Kept in every command; the contract's own limits hold as well."""

    velocity: float = Field(1.0, ge=0.01, le=1, description="share of each joint's velocity limit")
    acceleration: float = Field(1.0, ge=0.01, le=1, description="share of each joint's acceleration limit")
    tool: ToolLimits | None = Field(None, description="where the tool may be")
