"""The tool's pose as numbers for a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from difftop_ros.contract import ToolPoseObs
from difftop_ros.contract.base import Place


def tool_pose_frame(obs: ToolPoseObs, messages: Mapping[str, Any], poses: Mapping[Place, np.ndarray]) -> np.ndarray:
    """Float32 (9,) or (3,): place [m], then the tool's x and y axis; see ToolPoseObs."""
    pose = poses[obs.places[0]]
    numbers = [pose[:3, 3], pose[:3, 0], pose[:3, 1]] if obs.rotation else [pose[:3, 3]]
    return np.concatenate(numbers).astype(np.float32)
