"""Which camera topics the simulation bridge offers, from contract and cameras. Publishing is publishers.py's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from difftop_ros.contract import Contract, DepthCloudObs, ImageObs, JointStateObs, PointCloudObs
from difftop_ros.errors import UserError

Kind = Literal["color", "compressed", "depth", "points"]
MESSAGE_TYPES: dict[Kind, str] = {
    "color": "sensor_msgs/msg/Image",
    "compressed": "sensor_msgs/msg/CompressedImage",
    "depth": "sensor_msgs/msg/Image",
    "points": "sensor_msgs/msg/PointCloud2",
}
_FIXED_FRAMES = ("world", "map", "base_link", "panda_link0")


@dataclass(frozen=True)
class Stream:
    """One offered topic. `in_world`: the cloud's points are moved into the world frame before they are published."""

    kind: Kind
    topic: str
    camera: str
    frame_id: str
    info_topic: str | None = None
    in_world: bool = False

    @property
    def type(self) -> str:
        """ROS type of the topic."""
        return MESSAGE_TYPES[self.kind]


def optical_frame(camera: str) -> str:
    """The camera's REP-103 optical frame."""
    return f"{camera}_optical_frame"


def joint_topics(contract: Contract) -> tuple[str, ...]:
    """Topics of the contract's joint states, without repeats; /joint_states if it observes none."""
    topics = dict.fromkeys(o.topic for o in contract.observations.values() if isinstance(o, JointStateObs))
    return tuple(topics) or ("/joint_states",)


def plan_streams(contract: Contract, cameras: tuple[str, ...], extra: Iterable[Kind] = ()) -> tuple[Stream, ...]:
    """The contract's camera topics and, for the kinds in `extra`, the standard /camera/<name>/... topics.

    An observation's camera is the contract's sim.cameras entry, else the camera its topic names, else the first one.
    Raises UserError when the model has no such camera, or one topic would carry two things.
    """
    offered: dict[str, Stream] = {}
    for key, observation in contract.observations.items():
        if isinstance(observation, JointStateObs):
            continue
        _add(offered, _stream(contract, key, observation, cameras))
    # The contract's topics win over standard ones of the same name.
    for stream in _standard_streams(cameras, tuple(extra)):
        offered.setdefault(stream.topic, stream)
    return tuple(offered.values())


def _stream(
    contract: Contract, key: str, observation: ImageObs | PointCloudObs | DepthCloudObs, cameras: tuple[str, ...]
) -> Stream:
    camera = _camera_of(contract, key, observation.topic, cameras)
    if isinstance(observation, ImageObs):
        kind: Kind = "compressed" if observation.type.endswith("CompressedImage") else "color"
        info = None if kind == "compressed" else f"{observation.topic.rpartition('/')[0]}/camera_info"
        return Stream(kind, observation.topic, camera, optical_frame(camera), info)
    if observation.transform is not None:
        frame, in_world = observation.transform.from_frame, False
    else:
        frame, in_world = observation.frame, observation.frame in _FIXED_FRAMES
    if isinstance(observation, DepthCloudObs):
        return Stream("depth", observation.topic, camera, frame, observation.camera_info)
    return Stream("points", observation.topic, camera, frame, None, in_world)


def _camera_of(contract: Contract, key: str, topic: str, cameras: tuple[str, ...]) -> str:
    if not cameras:
        raise UserError(f"the observation '{key}' needs a camera, but the model has none; add <camera name=...> to it")
    named = contract.sim.cameras.get(key)
    if named is not None:
        if named not in cameras:
            raise UserError(f"sim.cameras gives '{key}' the camera '{named}'; the model has {list(cameras)}")
        return named
    return next((c for c in cameras if c in topic.split("/")), cameras[0])


def _standard_streams(cameras: tuple[str, ...], kinds: tuple[Kind, ...]) -> list[Stream]:
    found = []
    for camera in cameras:
        base, frame = f"/camera/{camera}", optical_frame(camera)
        every = (
            Stream("color", f"{base}/color/image_raw", camera, frame, f"{base}/color/camera_info"),
            Stream("compressed", f"{base}/color/image_raw/compressed", camera, frame),
            Stream("depth", f"{base}/depth/image_raw", camera, frame, f"{base}/depth/camera_info"),
            Stream("points", f"{base}/points", camera, frame),
        )
        found += [s for s in every if s.kind in kinds]
    return found


def _add(offered: dict[str, Stream], stream: Stream) -> None:
    known = offered.setdefault(stream.topic, stream)
    if known != stream:
        raise UserError(
            f"topic '{stream.topic}' would carry {known.kind} of camera '{known.camera}' in '{known.frame_id}' and "
            f"{stream.kind} of '{stream.camera}' in '{stream.frame_id}'; give the observations topics of their own"
        )
