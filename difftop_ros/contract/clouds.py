"""Observations that are clouds of points: of one or several cameras, measured or made of depth pictures.

Decoding: messages/clouds.py.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from difftop_ros.contract.base import (
    MOST_PIXELS,
    Length,
    Name,
    Observation,
    Place,
    Section,
    Text,
    Topic,
    Vector3,
    require_unique,
)

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
CLOUD_TYPES = ("sensor_msgs/msg/PointCloud2", "point_cloud_interfaces/msg/CompressedPointCloud2")
COLOUR_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
DEPTH_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
UNTURNED = (0.0, 0.0, 0.0, 1.0)
Angle = Annotated[float, Field(ge=-7, le=7)]  # [rad]; larger ones are degrees


class Transform(Section):
    """Pose of `from_frame` in the observation's `frame`, or on `link`: x' = R x + xyz [m], R of quat_xyzw or of rpy.

    link: frame of the robot's description that the camera is mounted on; `frame` is the robot's base then.
    tf: the pose is the one that TF tells, of `from_frame` in `frame`; the rest is left out.
    rpy: roll, pitch and yaw about fixed axes [rad], as in URDF, in place of quat_xyzw.
    """

    from_frame: Text  # '' for drivers that leave it empty
    link: Name | None = None
    tf: bool = False
    xyz: Vector3 = (0.0, 0.0, 0.0)
    quat_xyzw: tuple[Length, Length, Length, Length] = UNTURNED
    rpy: tuple[Angle, Angle, Angle] | None = None

    @model_validator(mode="after")
    def _unit(self) -> Transform:
        norm = float(np.linalg.norm(self.quat_xyzw))
        if abs(norm - 1.0) > 1e-3:
            raise ValueError(f"quat_xyzw {list(self.quat_xyzw)} has length {norm:.4f}; a rotation has length 1")
        if self.rpy is not None and self.quat_xyzw != UNTURNED:
            raise ValueError(f"the rotation is given twice, by quat_xyzw and by rpy {list(self.rpy)}; leave one out")
        if self.tf and (self.link or any(self.xyz) or self.rpy is not None or self.quat_xyzw != UNTURNED):
            raise ValueError("with tf, TF tells the whole pose of from_frame: leave link, xyz and the rotation out")
        if self.tf and not self.from_frame:
            raise ValueError("a frame without a name is not in TF: give from_frame, or leave tf out")
        return self

    @property
    def rotation(self) -> np.ndarray:
        """R as float64 (3, 3)."""
        from scipy.spatial.transform import Rotation  # here: it takes longer to import than all the contract

        turn = Rotation.from_quat(self.quat_xyzw) if self.rpy is None else Rotation.from_euler("xyz", self.rpy)
        return turn.as_matrix()

    @property
    def pose(self) -> np.ndarray:
        """[R xyz; 0 1] as float64 (4, 4)."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation, self.xyz
        return pose


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
    for 16UC1. color_image: the colour picture that is registered to the depth picture, of the same size; read where
    the cloud has colour.
    """

    topic: Topic
    type: str
    transform: Transform | None = None
    camera_info: Topic | None = None
    color_image: Topic | None = None
    color_type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
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
        if self.color_image and not self.camera_info:
            raise ValueError("color_image goes with a depth picture; a PointCloud2 brings its own colour: leave it out")
        if not 0 <= self.depth_range_m[0] < self.depth_range_m[1]:
            raise ValueError(f"depth_range_m {list(self.depth_range_m)} must be [near, far] with 0 <= near < far")
        return self

    @property
    def is_rectified(self) -> bool:
        """`rectified`, or what the topic's name says: a part of it begins with 'rect', as in image_rect_raw."""
        if self.rectified is not None:
            return self.rectified
        return any(word.startswith("rect") for word in re.split("[/_]", self.topic))

    def place(self, frame: str) -> Place | None:
        """What must be known of a message's moment to place points in `frame`; None where the camera stands still."""
        if self.transform is None or not (self.transform.link or self.transform.tf):
            return None
        if self.transform.tf:
            return Place(self.topic, self.transform.from_frame, frame)
        return Place(self.topic, self.transform.link or "")

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

    relative_to: makes it hand-centric, after the crop in `frame`: 'tool_position' puts the origin at the tool's point,
    'tool' turns the axes to the tool's too.
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
    relative_to: Literal["tool_position", "tool"] | None = None
    points: int = Field(default=512, ge=8, le=100_000)
    color: bool = False
    min_points: int | None = Field(default=None, ge=1, le=10_000_000)
    min_finite: float = Field(default=0.02, ge=0, le=1)
    max_pixels: int = Field(default=MOST_PIXELS, ge=1, le=100_000_000)

    @model_validator(mode="after")
    def _sources_suit(self) -> CloudObs:
        require_unique([source.topic for source in self.sources], "topic and also")
        pale = [source.topic for source in self.sources if source.camera_info and not source.color_image]
        if self.color and pale:
            raise ValueError(
                f"the depth pictures on {pale} have no colour: give each the color_image that is registered to it, set "
                "color to false, or observe a PointCloud2 with rgb"
            )
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
        """The topics of all cameras' points or depth, then of the colour that is read."""
        return (self.topic, *(source.topic for source in self.also), *self._colours)

    @property
    def places(self) -> tuple[Place, ...]:
        """Of the cameras that move, and of the tool where the cloud is relative to it."""
        moving = tuple(place for source in self.sources if (place := source.place(self.frame)))
        return moving if self.relative_to is None else (*moving, self.tool)

    @property
    def tool(self) -> Place:
        """The tool at the stamp of the first camera's message."""
        return Place(self.topic)

    @property
    def spatial(self) -> tuple[tuple[int, bool], ...]:
        """Its points."""
        return () if self.relative_to == "tool" else ((0, self.relative_to is None),)

    @property
    def _colours(self) -> dict[str, str]:
        """Topic -> type of the colour pictures that are read."""
        return {s.color_image: s.color_type for s in self.sources if self.color and s.color_image}

    @property
    def topics(self) -> dict[str, str]:
        """The cameras' topics, then those of the CameraInfos and of the colour pictures."""
        sources = self.sources
        infos = {source.camera_info: CAMERA_INFO for source in sources if source.camera_info}
        return {**{source.topic: source.type for source in sources}, **infos, **self._colours}

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
    """A depth picture plus CameraInfo made into points; frame as PointCloudObs. Fields: CloudSource."""

    transport = CloudObs.transport | {
        "camera_info", "color_image", "color_type", "depth_range_m", "depth_unit_m", "rectified",
    }  # fmt: skip

    kind: Literal["depth_cloud"]
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    camera_info: Topic
    color_image: Topic | None = None
    color_type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    depth_range_m: tuple[Length, Length] = (0.05, 10.0)
    depth_unit_m: float | None = Field(default=None, ge=1e-6, le=1000)
    rectified: bool | None = None
