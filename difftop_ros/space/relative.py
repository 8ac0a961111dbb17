"""Clouds as they are seen from the tool, and back: hand-centric clouds."""

from __future__ import annotations

import numpy as np

from difftop_ros.contract import CloudObs


def from_tool(cloud: np.ndarray, obs: CloudObs, pose: np.ndarray) -> np.ndarray:
    """Points (n, 3 or 6) [m] of the base frame relative to the tool of that pose (4, 4), as the contract says."""
    found = cloud.copy()
    found[:, :3] -= pose[:3, 3].astype(np.float32)
    if obs.relative_to == "tool":
        found[:, :3] = found[:, :3] @ pose[:3, :3].astype(np.float32)
    return found


def in_base(cloud: np.ndarray, obs: CloudObs, pose: np.ndarray) -> np.ndarray:
    """The way back from `from_tool`."""
    found = cloud.copy()
    if obs.relative_to == "tool":
        found[:, :3] = found[:, :3] @ pose[:3, :3].T.astype(np.float32)
    found[:, :3] += pose[:3, 3].astype(np.float32)
    return found
