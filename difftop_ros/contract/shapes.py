"""Obstacles and regions as plain numbers: boxes, cylinders and half-spaces in the robot's base frame.

One description for all who use them: the costs that plan around them, the gate that refuses what would touch them, and
the simulation that makes them solid.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeVar, cast

from pydantic import Field, TypeAdapter, field_validator

from difftop_ros.contract.base import Section, Vector3

Quaternion = tuple[float, float, float, float]
SMALLEST_M = 1e-3
UNIT = 1e-3  # how far from 1 the length of a direction or quaternion may be before it is taken for a mistake


Vector = TypeVar("Vector", bound=tuple[float, ...])


def unit_length(value: Vector) -> Vector:
    """A direction or quaternion, made exactly of length 1. Raises ValueError where it is not nearly so."""
    length = math.hypot(*value)
    if abs(length - 1.0) > UNIT:
        raise ValueError(f"{list(value)} has length {length:.4g}; expected 1")
    return cast(Vector, tuple(part / length for part in value))


class Shape(Section):
    """What every shape has: a name for messages ('' = its kind)."""

    name: str = ""
    kind: str


class Box(Shape):
    """centre [m]; size: whole edge lengths [m]; quat_xyzw: base_from_box."""

    kind: Literal["box"]
    centre: Vector3
    size: tuple[
        Annotated[float, Field(ge=SMALLEST_M)],
        Annotated[float, Field(ge=SMALLEST_M)],
        Annotated[float, Field(ge=SMALLEST_M)],
    ]
    quat_xyzw: Quaternion = (0.0, 0.0, 0.0, 1.0)

    _unit = field_validator("quat_xyzw")(unit_length)


class Cylinder(Shape):
    """centre [m]; axis: its direction; radius [m]; length: whole [m]."""

    kind: Literal["cylinder"]
    centre: Vector3
    axis: Vector3 = (0.0, 0.0, 1.0)
    radius: float = Field(ge=SMALLEST_M)
    length: float = Field(ge=SMALLEST_M)

    _unit = field_validator("axis")(unit_length)


class HalfSpace(Shape):
    """Solid below a plane: everything on the other side of `point` [m] than `normal` points to."""

    kind: Literal["half_space"]
    point: Vector3
    normal: Vector3 = (0.0, 0.0, 1.0)

    _unit = field_validator("normal")(unit_length)


AnyShape = Annotated[Box | Cylinder | HalfSpace, Field(discriminator="kind")]
SHAPES: TypeAdapter[tuple[AnyShape, ...]] = TypeAdapter(tuple[AnyShape, ...])
