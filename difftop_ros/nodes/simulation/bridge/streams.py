"""Which camera topics the simulation bridge offers, from contract and cameras. Publishing is publishers.py's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from difftop_ros.contract import CloudObs, Contract, DepthCloudObs, JointStateObs, Observation
from difftop_ros.errors import UserError
from difftop_ros.messages.coupling import Coupling
from difftop_ros.sim.interface import require_made

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


def joint_topics(contract: Contract) -> dict[str, Coupling | None]:
    """Topics of the contract's joint states, and what their messages call its joints; joint_states if there is none."""
    found: dict[str, Coupling | None] = {
        o.topic: o.coupling for o in contract.observations.values() if isinstance(o, JointStateObs)
    }
    return found or {"joint_states": None}


def plan_streams(
    contract: Contract, cameras: tuple[str, ...], extra: Iterable[Kind] = (), namespace: str = "/"
) -> tuple[Stream, ...]:
    """The contract's camera topics and, for the kinds in `extra`, the standard camera/<name>/... in `namespace`.

    An observation's camera is the contract's sim.cameras entry, else the camera its topic names, else the first one.
    Raises UserError when the model has no such camera, or one topic would carry two things.
    """
    offered: dict[str, Stream] = {}
    for key, observation in contract.observations.items():
        if observation.kind in ("joint_state", "tool_pose"):
            continue
        require_made(key, observation)
        stream = _stream(contract, key, observation, cameras)
        _add(offered, stream)
        if isinstance(observation, DepthCloudObs) and observation.color and observation.color_image:
            kind: Kind = "compressed" if observation.color_type.endswith("CompressedImage") else "color"
            _add(offered, Stream(kind, observation.color_image, stream.camera, stream.frame_id))
    # The contract's topics win over standard ones of the same name.
    for stream in _standard_streams(cameras, tuple(extra), namespace):
        offered.setdefault(stream.topic, stream)
    return tuple(offered.values())


def _stream(contract: Contract, key: str, observation: Observation, cameras: tuple[str, ...]) -> Stream:
    camera, topic = _camera_of(contract, key, observation.topic, cameras), observation.topic
    if isinstance(observation, CloudObs):
        info = observation.camera_info if isinstance(observation, DepthCloudObs) else None
        kind: Kind = "points" if info is None else "depth"
        if observation.transform is not None:
            return Stream(kind, topic, camera, observation.transform.from_frame, info)
        return Stream(kind, topic, camera, observation.frame, info, info is None and observation.frame in _FIXED_FRAMES)
    if observation.type.endswith("CompressedImage"):
        return Stream("compressed", topic, camera, optical_frame(camera))
    return Stream("color", topic, camera, optical_frame(camera), f"{topic.rpartition('/')[0]}/camera_info")


def _camera_of(contract: Contract, key: str, topic: str, cameras: tuple[str, ...]) -> str:
    if not cameras:
        raise UserError(f"the observation '{key}' needs a camera, but the model has none; add <camera name=...> to it")
    named = contract.sim.cameras.get(key)
    if named is not None:
        if named not in cameras:
            raise UserError(f"sim.cameras gives '{key}' the camera '{named}'; the model has {list(cameras)}")
        return named
    return next((c for c in cameras if c in topic.split("/")), cameras[0])


def _standard_streams(cameras: tuple[str, ...], kinds: tuple[Kind, ...], namespace: str) -> list[Stream]:
    found = []
    for camera in cameras:
        base, frame = f"{namespace.rstrip('/')}/camera/{camera}", optical_frame(camera)
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
