"""Steps of a bag as channels of Foxglove's own schemas: in/KEY as it came, seen/KEY as the policy sees it.

in/KEY, seen/KEY   RawImage, PointCloud, or JSON of numbers by name
command            JSON of the last command by joint
ages               JSON of each observation's age [ms]
tf, body           where the tool is, the robot's spheres
log                why a step has no observation
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import foxglove
import numpy as np
from foxglove import channels, messages
from scipy.spatial.transform import Rotation

from difftop_ros.commands.view.steps import Step
from difftop_ros.contract import CloudObs, ImageObs, JointStateObs, Observation
from difftop_ros.errors import UserError
from difftop_ros.files import whole
from difftop_ros.messages.clouds import whole_cloud
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.images import whole_image
from difftop_ros.space import Body, body_of

FLOAT32 = messages.PackedElementFieldNumericType.Float32
NANO = 1_000_000_000


@dataclass
class Told:
    """steps: of the bag; seen: of those the ones with an observation; reasons: why not -> how often."""

    steps: int = 0
    seen: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def record(steps: Iterable[Step], out: Path, points: int) -> Told:
    """Writes `out` (MCAP). points: most of a cloud that came in. Raises BagError; UserError for a bag without steps."""
    context = foxglove.Context()
    screen, told = _Screen(context, points), Told()
    with whole(out) as beside:
        with foxglove.open_mcap(beside, context=context):
            for step in steps:
                screen.show(step)
                told.steps, told.seen = told.steps + 1, told.seen + (step.seen is not None)
                told.reasons.update([step.reason] if step.reason else [])
        if not told.steps:
            raise UserError(
                "the bag has no moment when every observed stream had sent; see 'difftop contract check --bag'"
            )
    return told


def serve(steps: Iterable[Step], points: int, port: int) -> None:
    """Plays the steps at their pace to whoever connects; ends with the bag or Ctrl-C."""
    context = foxglove.Context()
    server = foxglove.start_server(name="difftop view", port=port, context=context)
    print(f"in Foxglove: open connection ws://127.0.0.1:{server.port}; Ctrl-C ends")
    screen, begun = _Screen(context, points), 0.0
    try:
        for step in steps:
            begun = begun or time.monotonic() - step.time_ns / NANO
            time.sleep(max(0.0, begun + step.time_ns / NANO - time.monotonic()))
            screen.show(step)
    finally:
        server.stop()


class _Screen:
    def __init__(self, context: Any, points: int) -> None:
        self._context, self._points = context, points
        self._channels: dict[str, Any] = {}
        self._body: Body | None = None
        self._known = False

    def show(self, step: Step) -> None:
        """All of one step."""
        contract = step.pipeline.contract
        if not self._known:
            self._known = True
            try:
                self._body = body_of(contract)
            except UserError:  # no model, or commands that are no positions: nothing of it is drawn
                self._body = None
        stamp = messages.Timestamp(*divmod(step.time_ns, NANO))
        if step.reason:
            level = messages.LogLevel.Warning
            self._log("log", messages.Log(timestamp=stamp, level=level, message=step.reason, name="difftop"), step)
        if step.command:
            self._log("command", step.command, step)
        poses = self._poses(step)
        for key, obs in contract.observations.items():
            self._came_in(key, obs, step, stamp)
            if step.seen is not None:
                self._seen(key, obs, step.seen.frames[key], step, stamp)
        if step.seen is not None:
            self._log("ages", {**step.seen.ages, "stale": list(step.seen.stale)}, step)
        for name, pose in poses.items():
            self._log("tf", _transform(stamp, self._base(contract), name, pose), step)
        self._draw_body(step, stamp)

    def _base(self, contract: Any) -> str:
        clouds = [obs.frame for obs in contract.observations.values() if isinstance(obs, CloudObs)]
        return clouds[0] if clouds else "base"

    def _poses(self, step: Step) -> dict[str, np.ndarray]:
        """Where the frames of hand-centric clouds and of tool poses are."""
        found: dict[str, np.ndarray] = {}
        for key, obs in step.pipeline.contract.observations.items() if step.seen is not None else ():
            try:
                stamps = {topic: step.latest[topic][0] for topic in obs.topics if topic in step.latest}
                poses = step.pipeline.where.poses(key, stamps)
            except (ObservationError, KeyError):
                continue
            if isinstance(obs, CloudObs) and obs.relative_to is not None:
                pose = poses[obs.tool].copy()
                if obs.relative_to == "tool_position":
                    pose[:3, :3] = np.eye(3)
                found[f"{key}/{obs.relative_to}"] = pose
            elif obs.kind == "tool_pose":
                found[key] = next(iter(poses.values()))
        return found

    def _came_in(self, key: str, obs: Observation, step: Step, stamp: Any) -> None:
        arrived = {topic: step.latest[topic] for topic in obs.topics if topic in step.latest}
        if arrived.keys() != obs.topics.keys():
            return
        sent = {topic: message for topic, (_, message) in arrived.items()}
        try:
            if isinstance(obs, ImageObs):
                self._log(f"in/{key}", _image(whole_image(sent[obs.topic], obs), stamp, key), step)
            elif isinstance(obs, CloudObs):
                poses = step.pipeline.where.poses(key, {topic: at for topic, (at, _) in arrived.items()})
                cloud = whole_cloud(obs, sent, poses)
                thin = cloud[:: max(1, -(-len(cloud) // self._points))]
                self._log(f"in/{key}", _cloud(thin, stamp, obs.frame), step)
            elif isinstance(obs, JointStateObs):
                message = sent[obs.topic]
                self._log(f"in/{key}", dict(zip(message.name, map(float, message.position), strict=False)), step)
        except ObservationError:
            return  # the step's own sentence tells it

    def _seen(self, key: str, obs: Observation, frame: np.ndarray, step: Step, stamp: Any) -> None:
        if obs.modality == "image":
            self._log(f"seen/{key}", _image(frame, stamp, key), step)
        elif obs.modality == "cloud":
            relative = obs.relative_to if isinstance(obs, CloudObs) else None
            place = f"{key}/{relative}" if relative else getattr(obs, "frame", "base")
            self._log(f"seen/{key}", _cloud(frame, stamp, place), step)
        elif isinstance(obs, JointStateObs):
            names = [f"{name}.{part}" for part in obs.fields for name in obs.joints]
            self._log(f"seen/{key}", dict(zip(names, map(float, frame), strict=True)), step)
        else:
            self._log(f"seen/{key}", {f"{index}": float(value) for index, value in enumerate(frame)}, step)

    def _draw_body(self, step: Step, stamp: Any) -> None:
        body, contract = self._body, step.pipeline.contract
        if body is None or body.spheres is None or step.seen is None:
            return
        position = np.array([float(step.seen.frames[key][row]) for key, row in contract.measured])
        spheres = [
            messages.SpherePrimitive(
                pose=messages.Pose(position=messages.Vector3(x=float(x), y=float(y), z=float(z))),
                size=messages.Vector3(x=2 * r, y=2 * r, z=2 * r), color=messages.Color(r=0.1, g=0.4, b=0.9, a=0.35),
            )
            for (x, y, z), r in zip(body.centres(position[None])[0], map(float, body.radii), strict=True)
        ]  # fmt: skip
        entity = messages.SceneEntity(timestamp=stamp, frame_id=self._base(contract), id="body", spheres=spheres)
        self._log("body", messages.SceneUpdate(entities=[entity]), step)

    def _log(self, name: str, message: Any, step: Step) -> None:
        if name not in self._channels:
            topic = f"/{name}"
            if isinstance(message, dict):
                self._channels[name] = foxglove.Channel(topic, message_encoding="json", context=self._context)
            else:
                kind = getattr(channels, f"{type(message).__name__}Channel")
                self._channels[name] = kind(topic, context=self._context)
        self._channels[name].log(message, log_time=step.time_ns)


def _image(pixels: np.ndarray, stamp: Any, frame: str) -> Any:
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels, np.uint8).tobytes()
    return messages.RawImage(
        timestamp=stamp, frame_id=frame, width=width, height=height, encoding="rgb8", step=3 * width, data=data
    )


def _cloud(points: np.ndarray, stamp: Any, frame: str) -> Any:
    names = ["x", "y", "z", "red", "green", "blue", "alpha"][: 7 if points.shape[1] == 6 else 3]
    table = np.asarray(points, np.float32)
    if points.shape[1] == 6:
        table = np.concatenate([table, np.ones((len(table), 1), np.float32)], axis=1)
    fields = [messages.PackedElementField(name=name, offset=4 * i, type=FLOAT32) for i, name in enumerate(names)]
    return messages.PointCloud(
        timestamp=stamp, frame_id=frame, pose=messages.Pose(), point_stride=4 * len(names), fields=fields,
        data=np.ascontiguousarray(table).tobytes(),
    )  # fmt: skip


def _transform(stamp: Any, base: str, frame: str, pose: np.ndarray) -> Any:
    x, y, z, w = (float(value) for value in Rotation.from_matrix(pose[:3, :3]).as_quat())
    place = messages.Vector3(x=float(pose[0, 3]), y=float(pose[1, 3]), z=float(pose[2, 3]))
    return messages.FrameTransform(
        timestamp=stamp, parent_frame_id=base, child_frame_id=frame, translation=place,
        rotation=messages.Quaternion(x=x, y=y, z=z, w=w),
    )  # fmt: skip
