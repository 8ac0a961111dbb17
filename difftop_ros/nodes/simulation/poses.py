"""Poses (7,), x, y, z [m] and quaternion x, y, z, w, as geometry_msgs/Pose and back. Import after prepare()."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion


def pose_message(pose: np.ndarray) -> Pose:
    """The message of `pose` (7,)."""
    x, y, z, *turn = map(float, pose)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(**dict(zip("xyzw", turn, strict=True))))


def pose_array(pose: Pose) -> np.ndarray:
    """The inverse of `pose_message`."""
    return np.array([*(getattr(pose.position, a) for a in "xyz"), *(getattr(pose.orientation, a) for a in "xyzw")])
