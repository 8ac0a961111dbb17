"""TF: poses between named frames as /tf and /tf_static tell them, kept by time. No tf2 needed, in bags nor live."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.messages.places.readings import Readings
from difftop_ros.messages.types import NANO

TF_MESSAGE = "tf2_msgs/msg/TFMessage"
MOST_FRAMES = 1000
FARTHEST_M = 1e6  # between two frames; beyond it numbers are mistakes
UNIT = 0.01  # how far from 1 a quaternion's length may be


class Transforms:
    """The frames told of so far: each hangs on one other, and where on it at which time. Used by one thread.

    keep: readings of each frame; None: all. What /tf_static tells holds for ever.
    """

    def __init__(self, keep: int | None) -> None:
        self._keep = keep
        self._parents: dict[str, str] = {}
        self._readings: dict[str, Readings] = {}
        self._fixed: dict[str, np.ndarray] = {}

    @property
    def frames(self) -> set[str]:
        """Every frame told of."""
        return {*self._parents, *self._parents.values()}

    def take(self, message: Any, received_ns: int | None, fixed: bool) -> None:
        """Note what a TFMessage tells; numbers that are no pose are passed over.

        received_ns: counts in place of each transform's own stamp; None: the stamps count. Raises AttributeError for a
        message of another type.
        """
        for told in message.transforms:
            child, parent = told.child_frame_id.lstrip("/"), told.header.frame_id.lstrip("/")
            shift, turn = told.transform.translation, told.transform.rotation
            pose = np.array([shift.x, shift.y, shift.z, turn.x, turn.y, turn.z, turn.w], np.float64)
            length = np.linalg.norm(pose[3:])
            known = child in self._parents or len(self._parents) < MOST_FRAMES
            if not (child and parent and child != parent and known):
                continue
            if not (np.abs(pose[:3]).max() <= FARTHEST_M and abs(length - 1.0) <= UNIT):  # false for NaN too
                continue
            pose[3:] /= length
            if self._parents.get(child) != parent:
                self._parents[child] = parent
                self._readings.pop(child, None)
                self._fixed.pop(child, None)
            if fixed:
                self._fixed[child] = pose
                continue
            stamp = told.header.stamp
            at = stamp.sec * NANO + stamp.nanosec if received_ns is None else received_ns
            self._readings.setdefault(child, Readings(self._keep)).add(at, pose)

    def pose(self, base: str, frame: str, stamp_ns: int) -> tuple[np.ndarray, int, str]:
        """base_from_frame (4, 4) at a stamp; of the readings it is made of, how far the farthest is [ns], and of what.

        Raises KeyError with a clause that says what is not known.
        """
        up = self._way(frame.lstrip("/"))
        down = self._way(base.lstrip("/"))
        shared = next((name for name in up if name in down), None)
        if shared is None:
            for name in (frame, base):
                if name.lstrip("/") not in self.frames:
                    raise KeyError(f"nothing tells of '{name}'; known are {sorted(self.frames)[:20]}")
            raise KeyError(f"'{frame}' and '{base}' are not connected: they hang on '{up[-1]}' and '{down[-1]}'")
        farthest, of = 0, ""
        found = []
        for names in (up[: up.index(shared)], down[: down.index(shared)]):
            pose = np.eye(4)
            for name in names:
                own, away = self._own(name, stamp_ns)
                pose = own @ pose
                if away > farthest:
                    farthest, of = away, name
            found.append(pose)
        return np.linalg.inv(found[1]) @ found[0], farthest, of

    def _way(self, frame: str) -> list[str]:
        """The frame, what it hangs on, and so on."""
        way = [frame]
        while (above := self._parents.get(way[-1])) is not None and above not in way:
            way.append(above)
        return way

    def _own(self, frame: str, stamp_ns: int) -> tuple[np.ndarray, int]:
        """Its pose (4, 4) on its parent, and how far the nearest reading is [ns]."""
        away, pose = 0, self._fixed.get(frame)
        if pose is None:
            away, before, after, share = self._readings[frame].around(stamp_ns)
            pose = _between(before, after, share)
        found = np.eye(4)
        found[:3, :3], found[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
        return found, away

    def clear(self) -> None:
        """Forget what moves; what is fixed stays."""
        for readings in self._readings.values():
            readings.clear()
        for name in self._readings:
            if name not in self._fixed:
                self._parents.pop(name, None)
        self._readings.clear()


def _between(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Pose (7,) on the straight way from one to another, turning evenly."""
    place = before[:3] + share * (after[:3] - before[:3])
    first = Rotation.from_quat(before[3:])
    turn = first * Rotation.from_rotvec(share * (first.inv() * Rotation.from_quat(after[3:])).as_rotvec())
    return np.concatenate([place, turn.as_quat()])
