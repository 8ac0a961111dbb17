"""Kinds of observation: each tells its fields, its frame's shape and dtype, and its topics. Decoding: messages/.

A kind is a subclass of Observation with a `kind` of its own. More kinds come by `register_kind`, or from installed
packages by the entry point group `difftop_ros.observations`: importing what an entry point names must register it.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from difftop_ros.errors import UserError

GROUP = "difftop_ros.observations"
LONGEST_SIDE = 1 << 16  # a side of a picture
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
CLOUD_TYPES = ("sensor_msgs/msg/PointCloud2", "point_cloud_interfaces/msg/CompressedPointCloud2")
DEPTH_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
Modality = Literal["vector", "image", "cloud"]
AXES: dict[Modality, tuple[str, ...]] = {
    "vector": ("n",), "image": ("height", "width", "channels"), "cloud": ("points", "channels"),
}  # fmt: skip
# What a robot can be: a limit or a length beyond it is a mistake, or switches off the check that it is for.
FARTHEST = 1e4  # [m]
LONGEST_TOPIC = 247  # what ROS leaves of DDS's 256 characters
Length = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Vector3 = tuple[Length, Length, Length]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r:.60} has characters that cannot be printed; write it anew")
    return text


# Free text, and what a robot calls its joints and frames.
Text = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Name = Annotated[Text, Field(min_length=1)]
# What a person calls an observation: the name of files and of networks' parts.
Key = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Size = tuple[Annotated[int, Field(ge=1, le=LONGEST_SIDE)], Annotated[int, Field(ge=1, le=LONGEST_SIDE)]]


def _topic_name(name: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*", name):
        raise ValueError(
            f"topic {name!r:.80} is no ROS name: letters, digits and '_' between single '/', such as 'joint_states' "
            "(in the node's namespace) or '/joint_states' (the same for every robot)"
        )
    namespace = (info.context or {}).get("namespace")
    name = name if namespace is None or name.startswith("/") else f"{namespace.rstrip('/')}/{name}"
    if len(name) > LONGEST_TOPIC:
        raise ValueError(f"topic {name!r:.40}… has {len(name)} characters; ROS takes at most {LONGEST_TOPIC}")
    return name


# Relative names live in the namespace of the node that uses them, see Contract.in_namespace.
Topic = Annotated[str, AfterValidator(_topic_name)]


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a misspelt limit must never be a limit that is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Observation(Section):
    """What every kind has: a topic of a ROS type, how old its messages may be, and what it is to a network.

    A kind sets `kind`, `type` and `shape`; the others where they differ from what stands here. modality: 'vector' (n,),
    'image' (height, width, 3) or 'cloud' (points, 3 or 6). header: whether messages begin with a std_msgs/Header; those
    that do not count from when they were received.
    """

    modality: ClassVar[Modality] = "vector"
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    header: ClassVar[bool] = True
    # Fields that may differ between training and running: how a number comes here, not what it means.
    transport: ClassVar[frozenset[str]] = frozenset(
        {"kind", "type", "topic", "max_age_ms", "max_mb", "on_stale", "resample"}
    )

    kind: str
    type: str
    topic: Topic
    max_age_ms: float = Field(default=200.0, ge=0.1, le=600_000)
    max_mb: float = Field(default=64.0, ge=0.001, le=1024)
    on_stale: Literal["hold", "drop"] = "hold"
    resample: Literal["as_of", "hold"] = "as_of"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        raise NotImplementedError(f"{type(self).__name__} does not say its shape; give it a property 'shape'")

    @property
    def topics(self) -> dict[str, str]:
        """Topic -> ROS type of all a frame is made of, the stream first."""
        return {self.topic: self.type}

    @property
    def streams(self) -> tuple[str, ...]:
        """Those of `topics` whose age is judged; the others, such as a camera's description, may be sent once."""
        return (self.topic,)

    @property
    def remark(self) -> str:
        """What the contract leaves to a convention, as a clause for `contract check`; '' for nothing."""
        return ""

    @property
    def positions(self) -> dict[str, int]:
        """Joint name -> where its measured position stands in the frame; empty for all but joint states."""
        return {}

    @model_validator(mode="after")
    def _shape_suits_modality(self) -> Observation:
        axes = AXES[self.modality]
        if len(self.shape) != len(axes):
            raise ValueError(f"kind '{self.kind}' has frames {self.shape}; a {self.modality} has ({', '.join(axes)})")
        return self


class JointStateObs(Observation):
    """Joint readings, frame float32 (len(fields) * len(joints),), field-major: all positions, then velocities, …"""

    kind: Literal["joint_state"]
    type: Literal["sensor_msgs/msg/JointState"] = "sensor_msgs/msg/JointState"
    max_mb: float = Field(default=1.0, ge=0.001, le=1024)
    joints: tuple[Name, ...] = Field(min_length=1, max_length=256)
    continuous: tuple[Name, ...] = Field(default=(), max_length=256)  # their driver's angles wrap around at pi
    fields: tuple[Literal["position", "velocity", "effort"], ...] = ("position",)

    @model_validator(mode="after")
    def _distinct(self) -> JointStateObs:
        require_unique(list(self.joints), "joints")
        require_unique(list(self.fields), "fields")
        unknown = sorted(set(self.continuous) - set(self.joints))
        if unknown:
            raise ValueError(f"continuous names {unknown}, which are not among the joints {list(self.joints)}")
        return self

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


# Pixels of the largest picture that is decoded where a contract says nothing: above 4K.
MOST_PIXELS = 10_000_000


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


class Transform(Section):
    """Pose of `from_frame` in the observation's `frame`: x_frame = R(quat_xyzw) x + xyz [m]."""

    from_frame: Text  # '' for drivers that leave it empty
    xyz: Vector3 = (0.0, 0.0, 0.0)
    quat_xyzw: tuple[Length, Length, Length, Length] = (0.0, 0.0, 0.0, 1.0)

    @model_validator(mode="after")
    def _unit(self) -> Transform:
        norm = float(np.linalg.norm(self.quat_xyzw))
        if abs(norm - 1.0) > 1e-3:
            raise ValueError(f"quat_xyzw {list(self.quat_xyzw)} has length {norm:.4f}; a rotation has length 1")
        return self

    @property
    def rotation(self) -> np.ndarray:
        """R as float64 (3, 3)."""
        from scipy.spatial.transform import Rotation  # here: it takes longer to import than all the contract

        return Rotation.from_quat(self.quat_xyzw).as_matrix()


class Crop(Section):
    """Axis-aligned box in the observation's frame [m]; points outside are dropped."""

    min: Vector3
    max: Vector3

    @model_validator(mode="after")
    def _ordered(self) -> Crop:
        if any(lo >= hi for lo, hi in zip(self.min, self.max, strict=True)):
            raise ValueError(f"crop min {list(self.min)} must be below max {list(self.max)} on every axis")
        return self


class Outliers(Section):
    """Statistical outlier removal: points whose mean distance to `neighbours` exceeds mean + `std_ratio` deviations."""

    neighbours: int = Field(default=16, ge=2, le=1000)
    std_ratio: float = Field(default=2.0, ge=0.01, le=100)


class CloudSource(Section):
    """One camera of a cloud: a PointCloud2, or a depth picture where it names a camera_info.

    rectified: whether the depth picture is rectified, so that P of the CameraInfo holds and not K and D; None: it is
    when a part of the topic's name says so (`is_rectified`). depth_unit_m: metres of one unit; None: 1 for 32FC1, .001
    for 16UC1.
    """

    topic: Topic
    type: str
    transform: Transform | None = None
    camera_info: Topic | None = None
    depth_range_m: tuple[Length, Length] = (0.05, 10.0)
    depth_unit_m: float | None = Field(default=None, ge=1e-6, le=1000)
    rectified: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_type(cls, data: Any) -> Any:
        if isinstance(data, dict) and "type" not in data:
            return {**data, "type": DEPTH_TYPES[0] if data.get("camera_info") else CLOUD_TYPES[0]}
        return data

    @model_validator(mode="after")
    def _sane(self) -> CloudSource:
        known = DEPTH_TYPES if self.camera_info else CLOUD_TYPES
        if self.type not in known:
            raise ValueError(f"type {self.type!r} is no {'depth picture' if self.camera_info else 'cloud'}: {known}")
        if not 0 <= self.depth_range_m[0] < self.depth_range_m[1]:
            raise ValueError(f"depth_range_m {list(self.depth_range_m)} must be [near, far] with 0 <= near < far")
        return self

    @property
    def is_rectified(self) -> bool:
        """`rectified`, or what the topic's name says: a part of it begins with 'rect', as in image_rect_raw."""
        if self.rectified is not None:
            return self.rectified
        return any(word.startswith("rect") for word in re.split("[/_]", self.topic))

    @property
    def remark(self) -> str:
        """How a depth picture is projected, and why."""
        if self.camera_info is None:
            return ""
        by = "P" if self.is_rectified else "K and D"
        why = "the contract says so" if self.rectified is not None else "by its name; 'rectified' says otherwise"
        return f"'{self.topic}' is {'' if self.is_rectified else 'not '}rectified and projected by {by} ({why})"


class CloudObs(Observation):
    """What a cloud of either source has: frame float32 (points, 3), or (points, 6) with colour 0..1; xyz [m].

    also: further cameras whose points are added. min_points: points left after the crop, below which the sensor counts
    as blind (None: a fiftieth of `points`); min_finite: share of measured points that must be finite.
    """

    modality = "cloud"
    transport = Observation.transport | {"transform", "also", "min_points", "min_finite", "max_pixels"}

    frame: Name
    transform: Transform | None = None
    also: tuple[CloudSource, ...] = Field(default=(), max_length=16)
    crop: Crop | None = None
    voxel_m: float | None = Field(default=None, ge=1e-4, le=100)
    outliers: Outliers | None = None
    points: int = Field(default=512, ge=8, le=100_000)
    color: bool = False
    min_points: int | None = Field(default=None, ge=1, le=10_000_000)
    min_finite: float = Field(default=0.02, ge=0, le=1)
    max_pixels: int = Field(default=MOST_PIXELS, ge=1, le=100_000_000)

    @model_validator(mode="after")
    def _sources_suit(self) -> CloudObs:
        require_unique([source.topic for source in self.sources], "topic and also")
        if self.color and any(source.camera_info for source in self.sources):
            raise ValueError("a depth image has no colour: set color to false, or observe a PointCloud2 with rgb")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """(points, 3), or (points, 6) with colour."""
        return (self.points, 6 if self.color else 3)

    @property
    def sources(self) -> tuple[CloudSource, ...]:
        """All cameras of the cloud, its own first."""
        names = CloudSource.model_fields.keys() & type(self).model_fields.keys()
        return (CloudSource(**{name: getattr(self, name) for name in names}), *self.also)

    @property
    def streams(self) -> tuple[str, ...]:
        """The topics of all cameras' points or depth."""
        return (self.topic, *(source.topic for source in self.also))

    @property
    def topics(self) -> dict[str, str]:
        """The cameras' topics, then those of the CameraInfos."""
        sources = self.sources
        infos = {source.camera_info: CAMERA_INFO for source in sources if source.camera_info}
        return {**{source.topic: source.type for source in sources}, **infos}

    @property
    def remark(self) -> str:
        """How each depth picture is projected."""
        return "; ".join(source.remark for source in self.sources if source.remark)

    @property
    def fewest_points(self) -> int:
        """min_points, or what stands for None."""
        return self.min_points or max(1, self.points // 50)


class PointCloudObs(CloudObs):
    """A PointCloud2, frame float32 (points, 3), or (points, 6) with colour 0..1; xyz [m] in `frame`."""

    kind: Literal["point_cloud"]
    type: Literal["sensor_msgs/msg/PointCloud2", "point_cloud_interfaces/msg/CompressedPointCloud2"] = (
        "sensor_msgs/msg/PointCloud2"
    )


class DepthCloudObs(CloudObs):
    """A depth picture plus CameraInfo made into points; frame as PointCloudObs, no colour. Fields: CloudSource."""

    transport = CloudObs.transport | {"camera_info", "depth_range_m", "depth_unit_m", "rectified"}

    kind: Literal["depth_cloud"]
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    camera_info: Topic
    depth_range_m: tuple[Length, Length] = (0.05, 10.0)
    depth_unit_m: float | None = Field(default=None, ge=1e-6, le=1000)
    rectified: bool | None = None


KINDS: dict[str, type[Observation]] = {
    "joint_state": JointStateObs,
    "image": ImageObs,
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
    if observation.shape is Observation.shape:
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


def require_unique(names: list[str], where: str) -> None:
    """Raises ValueError when a name stands twice."""
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{where} names {twice} more than once")
