"""The contract's fields and the rules between them. Reading YAML and naming lines is load.py's job."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

Vector3 = tuple[float, float, float]
COMMAND_TYPES = Literal[
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
]


def _topic_name(name: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*", name):
        raise ValueError(
            f"topic {name!r} is no ROS name: letters, digits and '_' between single '/', such as 'joint_states' (in "
            "the node's namespace) or '/joint_states' (the same for every robot)"
        )
    namespace = (info.context or {}).get("namespace")
    return name if namespace is None or name.startswith("/") else f"{namespace.rstrip('/')}/{name}"


# Relative names live in the namespace of the node that uses them, see Contract.in_namespace.
Topic = Annotated[str, AfterValidator(_topic_name)]


class _Section(BaseModel):
    """Frozen, and an unknown key is an error: a misspelt limit must never be a limit that is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class JointLimits(_Section):
    """One commanded joint. Units are [unit], [unit/s] and [unit/s^2]; `step` is the largest change per control tick."""

    name: str = Field(min_length=1)
    unit: Literal["rad", "m"] = "rad"
    position: tuple[float, float]
    velocity: float = Field(gt=0)
    acceleration: float | None = Field(default=None, gt=0)
    step: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> JointLimits:
        if self.position[0] >= self.position[1]:
            raise ValueError(f"position limits of '{self.name}' are {list(self.position)}; the lower must come first")
        return self


class Command(_Section):
    """What the policy may publish: `mode` position [unit], velocity [unit/s] or delta_position [unit per step]."""

    topic: Topic
    type: COMMAND_TYPES
    mode: Literal["position", "velocity", "delta_position"] = "position"
    joints: tuple[JointLimits, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Command:
        _unique([joint.name for joint in self.joints], "command.joints")
        if self.mode == "delta_position":
            lacking = [joint.name for joint in self.joints if joint.step is None]
            if lacking:
                raise ValueError(f"mode delta_position needs 'step' (largest increment) for joints {lacking}")
        if self.type == "trajectory_msgs/msg/JointTrajectory" and self.mode == "delta_position":
            raise ValueError("a JointTrajectory carries positions or velocities; use mode position or velocity")
        return self

    @property
    def joint_names(self) -> list[str]:
        """Joint names in command order (A,)."""
        return [joint.name for joint in self.joints]

    def bounds(self) -> tuple[list[float], list[float]]:
        """Lower and upper bound of one action per joint, (A,) each, in the mode's unit."""
        if self.mode == "position":
            return [j.position[0] for j in self.joints], [j.position[1] for j in self.joints]
        size = [j.velocity if self.mode == "velocity" else float(j.step or 0.0) for j in self.joints]
        return [-s for s in size], size


class _Stream(_Section):
    topic: Topic
    max_age_ms: float = Field(default=200.0, gt=0)
    on_stale: Literal["hold", "drop"] = "hold"
    resample: Literal["as_of", "hold"] = "as_of"


class JointStateObs(_Stream):
    """Joint readings, frame float32 (len(fields) * len(joints),), field-major: all positions, then velocities, …"""

    kind: Literal["joint_state"]
    type: Literal["sensor_msgs/msg/JointState"] = "sensor_msgs/msg/JointState"
    joints: tuple[str, ...] = Field(min_length=1)
    fields: tuple[Literal["position", "velocity", "effort"], ...] = ("position",)

    @model_validator(mode="after")
    def _distinct(self) -> JointStateObs:
        _unique(list(self.joints), "joints")
        _unique(list(self.fields), "fields")
        return self


class ImageObs(_Stream):
    """A picture, frame uint8 (height, width, 3) RGB. `crop` is (top, left, height, width) [px], before resize."""

    kind: Literal["image"]
    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    crop: tuple[int, int, int, int] | None = None
    resize: tuple[Annotated[int, Field(ge=8, le=2048)], Annotated[int, Field(ge=8, le=2048)]]

    @model_validator(mode="after")
    def _sane_crop(self) -> ImageObs:
        if self.crop and (min(self.crop[:2]) < 0 or min(self.crop[2:]) < 1):
            raise ValueError(f"crop {list(self.crop)} is (top, left, height, width) in pixels, none negative")
        return self


class Transform(_Section):
    """Pose of `from_frame` in the observation's `frame`: x_frame = R(quat_xyzw) x + xyz [m]."""

    from_frame: str = Field(min_length=1)
    xyz: Vector3 = (0.0, 0.0, 0.0)
    quat_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    @model_validator(mode="after")
    def _unit(self) -> Transform:
        norm = sum(q * q for q in self.quat_xyzw) ** 0.5
        if abs(norm - 1.0) > 1e-3:
            raise ValueError(f"quat_xyzw {list(self.quat_xyzw)} has length {norm:.4f}; a rotation has length 1")
        return self


class Crop(_Section):
    """Axis-aligned box in the observation's frame [m]; points outside are dropped."""

    min: Vector3
    max: Vector3

    @model_validator(mode="after")
    def _ordered(self) -> Crop:
        if any(lo >= hi for lo, hi in zip(self.min, self.max, strict=True)):
            raise ValueError(f"crop min {list(self.min)} must be below max {list(self.max)} on every axis")
        return self


class Outliers(_Section):
    """Statistical outlier removal: points whose mean distance to `neighbours` exceeds mean + `std_ratio` deviations."""

    neighbours: int = Field(default=16, ge=2)
    std_ratio: float = Field(default=2.0, gt=0)


class _Cloud(_Stream):
    frame: str = Field(min_length=1)
    transform: Transform | None = None
    crop: Crop | None = None
    voxel_m: float | None = Field(default=None, gt=0)
    outliers: Outliers | None = None
    points: int = Field(default=512, ge=8, le=100_000)
    color: bool = False


class PointCloudObs(_Cloud):
    """A PointCloud2, frame float32 (points, 3), or (points, 6) with colour 0..1; xyz [m] in `frame`."""

    kind: Literal["point_cloud"]
    type: Literal["sensor_msgs/msg/PointCloud2"] = "sensor_msgs/msg/PointCloud2"


class DepthCloudObs(_Cloud):
    """A depth Image (32FC1 [m] or 16UC1 [mm]) plus CameraInfo made into points; frame as PointCloudObs, no colour."""

    kind: Literal["depth_cloud"]
    type: Literal["sensor_msgs/msg/Image"] = "sensor_msgs/msg/Image"
    camera_info: Topic
    depth_range_m: tuple[float, float] = (0.05, 10.0)

    @model_validator(mode="after")
    def _no_colour(self) -> DepthCloudObs:
        if self.color:
            raise ValueError("a depth image has no colour: set color to false, or observe a PointCloud2 with rgb")
        if not 0 <= self.depth_range_m[0] < self.depth_range_m[1]:
            raise ValueError(f"depth_range_m {list(self.depth_range_m)} must be [near, far] with 0 <= near < far")
        return self


Observation = Annotated[JointStateObs | ImageObs | PointCloudObs | DepthCloudObs, Field(discriminator="kind")]


class Episode(_Section):
    """An episode's marks: its longest duration [s] and, in simulation, the std_msgs/Bool topic that tells success."""

    max_seconds: float = Field(default=60.0, gt=0)
    success_topic: Topic | None = None


class SimSection(_Section):
    """Read by the simulation bridge alone: task, MJCF path, picture size [px], observation key -> camera name."""

    task: str | None = None
    model: str | None = None
    width: int = Field(default=160, ge=16, le=1920)
    height: int = Field(default=120, ge=16, le=1080)
    cameras: dict[str, str] = Field(default_factory=dict)


class Contract(_Section):
    """One robot and task. `rate_hz` is the policy's step and resampling rate; `control_rate_hz` the publishing rate."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_\-]+$")
    robot: str = ""
    rate_hz: float = Field(gt=0, le=1000)
    control_rate_hz: float = Field(gt=0, le=1000)
    clock: Literal["header", "receive"] = "header"
    command: Command
    observations: dict[str, Observation] = Field(min_length=1)
    episode: Episode = Episode()
    sim: SimSection = SimSection()

    @model_validator(mode="after")
    def _across(self) -> Contract:
        if self.control_rate_hz < self.rate_hz:
            raise ValueError(f"control_rate_hz {self.control_rate_hz} is below rate_hz {self.rate_hz}; raise it")
        joints = [o for o in self.observations.values() if isinstance(o, JointStateObs)]
        measured = {n for o in joints if "position" in o.fields for n in o.joints}
        lacking = [n for n in self.command.joint_names if n not in measured]
        if lacking:
            raise ValueError(
                f"the position of commanded joints {lacking} is measured by no joint_state observation; without it a "
                "command cannot be checked: add the joints, and 'position' to its fields"
            )
        unknown = sorted(set(self.sim.cameras) - set(self.observations))
        if unknown:
            raise ValueError(f"sim.cameras names {unknown}, which are not observations {sorted(self.observations)}")
        if any(o.topic == self.command.topic for o in self.observations.values()):
            raise ValueError(f"topic {self.command.topic!r} is both the command and an observation")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse_contract` reads back to an equal contract."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_yaml(self) -> str:
        """YAML text that `parse_contract` reads back to an equal contract."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=120)

    def in_namespace(self, namespace: str) -> Contract:
        """The same contract with its relative topics made absolute in `namespace` ('/' or '/left')."""
        return Contract.model_validate(self.to_dict(), context={"namespace": namespace})

    def as_recorded(self, topics: Collection[str]) -> Contract:
        """The contract in the namespace whose robot is in a bag of these `topics`; in '/' if it is in none or several.

        So the bags of a robot in a namespace train a policy for any other.
        """
        wanted = self.in_namespace("/").command.topic
        spaces = [topic.removesuffix(wanted) or "/" for topic in topics if topic.endswith(wanted)]
        return self.in_namespace(spaces[0] if len(spaces) == 1 else "/")

    @property
    def sha256(self) -> str:
        """Hash of all that is real on a robot; the `sim` section is left out."""
        content = {k: v for k, v in self.to_dict().items() if k != "sim"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def data_sha256(self) -> str:
        """Hash of what decides an ingested dataset's content: rates, clock, command and observations."""
        keys = ("rate_hz", "clock", "command", "observations", "episode")
        content = {k: v for k, v in self.to_dict().items() if k in keys}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def incompatibilities(self, trained: Contract) -> list[str]:
        """Why a policy trained under `trained` cannot run under this contract; empty if it can.

        Topics, transports, ages and limits may differ; what decides the meaning of a number may not.
        """
        found = []
        if self.rate_hz != trained.rate_hz:
            found.append(f"rate_hz is {self.rate_hz}, the policy was trained at {trained.rate_hz}")
        for name in ("mode", "joint_names"):
            here, there = getattr(self.command, name), getattr(trained.command, name)
            if here != there:
                found.append(f"command.{name} is {here}, the policy was trained with {there}")
        units = [[j.unit for j in c.command.joints] for c in (self, trained)]
        if units[0] != units[1]:
            found.append(f"command joint units are {units[0]}, the policy was trained with {units[1]}")
        for key, there in trained.observations.items():
            here = self.observations.get(key)
            if here is None:
                found.append(f"observations lacks '{key}', which the policy was trained with")
                continue
            found += _meaning_differences(key, here, there)
        return found


_TRANSPORT = {"topic", "type", "kind", "max_age_ms", "on_stale", "resample"}
_TRANSPORT |= {"camera_info", "transform", "depth_range_m"}


def _meaning_differences(key: str, here: Any, there: Any) -> list[str]:
    clouds = (PointCloudObs, DepthCloudObs)
    if type(here) is not type(there) and not (isinstance(here, clouds) and isinstance(there, clouds)):
        return [f"observation '{key}' is a {here.kind}, the policy was trained with a {there.kind}"]
    fields = [f for f in type(there).model_fields if f not in _TRANSPORT and f in type(here).model_fields]
    return [
        f"observation '{key}' has {f} = {getattr(here, f)}, the policy was trained with {getattr(there, f)}"
        for f in fields
        if getattr(here, f) != getattr(there, f)
    ]


def _unique(names: list[str], where: str) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{where} names {twice} more than once")
