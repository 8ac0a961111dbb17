"""Kinds of observation: each tells its fields, its frame's shape and dtype, and its topics. Decoding: messages/.

A kind is a subclass of Observation (base.py) with a `kind` of its own; clouds have a file of their own. More kinds come
by `register_kind`, or from installed packages by the entry point group `difftop_ros.observations`: importing what an
entry point names must register it.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from inspect import isabstract
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, SerializeAsAny, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator, model_validator
from pydantic_core import PydanticKnownError

from difftop_ros.contract.base import (
    LONGEST_SIDE,
    MOST_PIXELS,
    Coupling,
    Name,
    Observation,
    Place,
    Size,
    require_coupled,
    require_unique,
)
from difftop_ros.contract.clouds import DepthCloudObs, PointCloudObs
from difftop_ros.errors import UserError

GROUP = "difftop_ros.observations"


class JointStateObs(Observation):
    """Joint readings, frame float32 (len(fields) * len(joints),), field-major: all positions, then velocities, …

    coupling: for a joint that the driver does not name, the driver's joints that stand for it.
    """

    transport = Observation.transport | {"coupling"}

    kind: Literal["joint_state"]
    type: Literal["sensor_msgs/msg/JointState"] = "sensor_msgs/msg/JointState"
    max_mb: float = Field(default=1.0, ge=0.001, le=1024)
    joints: tuple[Name, ...] = Field(min_length=1, max_length=256)
    continuous: tuple[Name, ...] = Field(default=(), max_length=256)  # their driver's angles wrap around at pi
    fields: tuple[Literal["position", "velocity", "effort"], ...] = ("position",)
    coupling: Coupling | None = Field(default=None, max_length=64)

    @model_validator(mode="after")
    def _distinct(self) -> JointStateObs:
        require_unique(list(self.joints), "joints")
        require_unique(list(self.fields), "fields")
        unknown = sorted(set(self.continuous) - set(self.joints))
        if unknown:
            raise ValueError(f"continuous names {unknown}, which are not among the joints {list(self.joints)}")
        require_coupled(self.coupling, list(self.joints), "coupling")
        return self

    @property
    def sent_names(self) -> list[str]:
        """The joints that its messages must name."""
        return [part for name in self.joints for part in (self.coupling or {}).get(name, {name: 1.0})]

    @property
    def shape(self) -> tuple[int, ...]:
        """(len(fields) * len(joints),)."""
        return (len(self.fields) * len(self.joints),)

    @property
    def positions(self) -> dict[str, int]:
        """Joint name -> index of its position in the frame."""
        if "position" not in self.fields:
            return {}
        start = self.fields.index("position") * len(self.joints)
        return {name: start + i for i, name in enumerate(self.joints)}


class ToolPoseObs(Observation):
    """The tool's pose in the base frame by the robot's model, frame float32 (9,), or (3,) without rotation.

    x, y, z [m], then the x and the y axis of the tool in the base frame: a rotation in six numbers that change evenly
    with it. topic: of a joint_state observation, whose messages say when. link: frame of the description; None: the
    robot's tool_frame.
    """

    kind: Literal["tool_pose"]
    type: Literal["sensor_msgs/msg/JointState"] = "sensor_msgs/msg/JointState"
    max_mb: float = Field(default=1.0, ge=0.001, le=1024)
    link: Name | None = None
    rotation: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """(9,) or (3,)."""
        return (9 if self.rotation else 3,)

    @property
    def places(self) -> tuple[Place, ...]:
        """The tool's."""
        return (Place(self.topic, self.link or ""),)

    @property
    def spatial(self) -> tuple[tuple[int, bool], ...]:
        """The place, and two directions."""
        return ((0, True), (3, False), (6, False)) if self.rotation else ((0, True),)


class ImageObs(Observation):
    """A picture, frame uint8 (height, width, 3) RGB. `crop` is (top, left, height, width) [px], before resize.

    size: (height, width) [px] that the camera must have; min_contrast: standard deviation of the frame's numbers
    [0..255] below which the camera counts as blind.
    """

    modality = "image"
    dtype = np.dtype(np.uint8)
    transport = Observation.transport | {"size", "max_pixels", "min_contrast"}

    kind: Literal["image"]
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    crop: tuple[int, int, int, int] | None = None
    resize: tuple[Annotated[int, Field(ge=8, le=2048)], Annotated[int, Field(ge=8, le=2048)]]
    size: Size | None = None
    max_pixels: int = Field(default=MOST_PIXELS, ge=1, le=100_000_000)
    min_contrast: float = Field(default=1.0, ge=0, le=127)

    @model_validator(mode="after")
    def _sane_crop(self) -> ImageObs:
        if self.crop and (min(self.crop[:2]) < 0 or min(self.crop[2:]) < 1 or max(self.crop) > LONGEST_SIDE):
            raise ValueError(
                f"crop {list(self.crop)} is (top, left, height, width) in pixels, none negative, at most {LONGEST_SIDE}"
            )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, 3)."""
        return (*self.resize, 3)


KINDS: dict[str, type[Observation]] = {
    "joint_state": JointStateObs,
    "image": ImageObs,
    "tool_pose": ToolPoseObs,
    "point_cloud": PointCloudObs,
    "depth_cloud": DepthCloudObs,
}
_asked: set[str] = set()


def register_kind(kind: str, observation: type[Observation]) -> None:
    """Let contracts use `kind`. Raises UserError when another class has it, or this one lacks its kind or shape."""
    known = KINDS.get(kind, observation)
    if known is not observation:
        where = f"{known.__module__}.{known.__name__}"
        raise UserError(f"observation kind '{kind}' is {where} already; choose another name")
    if get_args(observation.model_fields["kind"].annotation) != (kind,):
        raise UserError(
            f"{observation.__name__} is to be of kind '{kind}' but does not say so; write kind: Literal['{kind}']"
        )
    if isabstract(observation):
        raise UserError(f"{observation.__name__} does not say the shape of its frames; give it a property 'shape'")
    KINDS[kind] = observation


def load_installed_kinds() -> None:
    """Import, once, what installed packages offer under the entry point group; an import that fails is told."""
    if GROUP in _asked:
        return
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        # Somebody else's module may fail in any way; the user must learn which package it is.
        except Exception as error:
            raise UserError(
                f"the observation kind '{entry.name}' ({entry.value}) of an installed package cannot be imported "
                f"({type(error).__name__}: {error}); repair or uninstall that package"
            ) from error
    _asked.add(GROUP)


def _of_its_kind(value: Any, _: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Observation:
    """The observation of the class its `kind` names; the errors are those of a pydantic union told apart by `kind`."""
    if isinstance(value, Observation):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise PydanticKnownError("union_tag_not_found", {"discriminator": "'kind'"})
    if kind not in KINDS:
        load_installed_kinds()
    if kind not in KINDS:
        expected = ", ".join(repr(known) for known in KINDS)
        raise PydanticKnownError(
            "union_tag_invalid", {"discriminator": "'kind'", "tag": str(kind), "expected_tags": expected}
        )
    return KINDS[kind].model_validate(value, context=info.context)


AnyObservation = Annotated[SerializeAsAny[Observation], WrapValidator(_of_its_kind)]
