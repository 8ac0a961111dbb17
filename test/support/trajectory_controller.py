"""A double of joint_trajectory_controller: it interpolates and replaces trajectories as the real one does.

Between points it is linear, or cubic where velocities are given; before the first point it goes there from where it is;
after the last it stays. A stamp of zero starts a trajectory on arrival. What a message replaces: `keeps=False`, as on
Jazzy and Kilted, everything at once; `keeps=True`, as newer ones do, only what lies behind its start.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np


def seconds(stamp: Any) -> float:
    return stamp.sec + stamp.nanosec * 1e-9


class TrajectoryController:
    """joints: their order in `sample`; open_loop: a trajectory's beginning is joined to the last reference, not to what
    is measured. `refused` says why a message was.
    """

    def __init__(self, joints: list[str], position: np.ndarray, *, open_loop: bool, keeps: bool) -> None:
        self.joints, self.open_loop, self.keeps = joints, open_loop, keeps
        self.reference = np.array(position, float)
        self.refused: list[str] = []
        self._points: list[tuple[float, np.ndarray, np.ndarray | None]] = [(0.0, self.reference.copy(), None)]
        self._before: tuple[float, np.ndarray] | None = None

    def receive(self, message: Any, now: float, measured: np.ndarray) -> None:
        """A JointTrajectory arrives at `now` [s] while the robot is measured at `measured` (n,)."""
        if list(message.joint_names) != self.joints:
            self.refused.append(f"joints {message.joint_names}")
            return
        times = [seconds(point.time_from_start) for point in message.points]
        if not times or any(b <= a for a, b in itertools.pairwise(times)):
            self.refused.append(f"times {times}")
            return
        last = message.points[-1]
        if len(last.velocities) and np.abs(last.velocities).max() > 1e-9:
            self.refused.append("velocity of the last point is not zero")
            return
        start = seconds(message.header.stamp) or now
        if start + times[-1] < now:
            self.refused.append("ends in the past")
            return
        points = [
            (start + t, np.array(p.positions), np.array(p.velocities) if len(p.velocities) else None)
            for t, p in zip(times, message.points, strict=True)
        ]
        if self.keeps and start > now:
            old = [p for p in self._points if p[0] < points[0][0]]
            points = old + points
        else:
            self._before = (now, self.reference.copy() if self.open_loop else np.array(measured, float))
        self._points = points

    def sample(self, now: float) -> np.ndarray:
        """The reference (n,) at `now` [s]."""
        points = self._points
        if now >= points[-1][0]:
            self.reference = points[-1][1].copy()
        elif now < points[0][0]:
            begin, place = self._before or (now, self.reference)
            share = np.clip((now - begin) / max(points[0][0] - begin, 1e-9), 0, 1)
            self.reference = place + share * (points[0][1] - place)
        else:
            index = max(i for i, point in enumerate(points) if point[0] <= now)
            self.reference = _between(points[index], points[index + 1], now)
        return self.reference


def _between(a: Any, b: Any, now: float) -> np.ndarray:
    span, s = b[0] - a[0], (now - a[0]) / (b[0] - a[0])
    if a[2] is None or b[2] is None:
        return a[1] + s * (b[1] - a[1])
    hermite = (2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, -2 * s**3 + 3 * s**2, s**3 - s**2)
    return hermite[0] * a[1] + hermite[1] * span * a[2] + hermite[2] * b[1] + hermite[3] * span * b[2]
