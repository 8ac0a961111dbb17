"""Whether TF puts the robot's frames where its model does: two accounts of one robot, of which one may be wrong."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.contract import Contract
from difftop_ros.contract.base import Place
from difftop_ros.errors import UserError
from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.places.whereabouts import KEPT, Whereabouts, transform_topics
from difftop_ros.messages.types import message_stamp

FARTHEST_M, FARTHEST_RAD = 0.005, 0.01  # apart, and the two still say the same
MOMENTS = 20  # at which they are compared
NEAR_NS = 50_000_000  # from a moment that TF must have a reading


class FrameComparison:
    """Hears joint states and TF (`take`, topics in `topics`) and compares at moments spread over the newest of them."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._where = Whereabouts(contract, KEPT, every=True)
        self._stamps: deque[int] = deque(maxlen=KEPT)
        self.topics = self._where.topics if contract.robot.description else ()

    def take(self, topic: str, received_ns: int, message: Any) -> None:
        """Note a message on one of `topics`."""
        stamp = message_stamp(self._contract.clock, message, received_ns)
        if topic not in transform_topics(self._contract):
            self._stamps.append(stamp)
        self._where.take(topic, stamp, message)

    def finding(self) -> tuple[str, str] | None:
        """Level and sentence; None where there is no TF, or no model, to compare."""
        told = self._where.tf.frames
        if not self.topics or not told:
            return None
        try:
            frames = [name for name in self._where.body.body.frames if name in told]
        except UserError as error:
            return "error", f"TF cannot be compared with the robot's model: {error}"
        topics = " and ".join(f"'{topic}'" for topic in transform_topics(self._contract))
        if len(frames) < 2:
            return "warning", (
                f"{topics} tell of none of the frames of robot.description but {frames}; they tell of "
                f"{sorted(told)[:8]}: is it the description of this robot?"
            )
        base, apart = frames[0], {name: self._apart(frames[0], name) for name in frames[1:]}
        known = {name: found for name, found in apart.items() if found is not None}
        if not known:
            return (
                "warning",
                f"{topics} and the joints that are measured have no moment in common at which to compare them",
            )
        shift, turn = (max(found[i] for found in known.values()) for i in (0, 1))
        astray = [name for name, found in known.items() if found[0] > FARTHEST_M or found[1] > FARTHEST_RAD]
        if not astray:
            return "ok", (
                f"{topics} put {len(known)} frames where the model does, from '{base}' within {1e3 * shift:.1f} mm and "
                f"{np.degrees(turn):.2f} deg"
            )
        first = astray[0]
        more = f"; so are {len(astray) - 1} frames behind it" if len(astray) > 1 else ""
        return "warning", (
            f"{topics} put '{first}' {1e3 * known[first][0]:.1f} mm and {np.degrees(known[first][1]):.2f} deg from "
            f"where robot.description does, seen from '{base}'{more}: one of the two is of another calibration, or its "
            "joints have other names"
        )

    def _apart(self, base: str, frame: str) -> tuple[float, float] | None:
        """How far apart [m], [rad] at most; None if that cannot be told at any moment."""
        # At the ends one of the two may have no reading beyond yet.
        stamps = list(self._stamps)[len(self._stamps) // 10 : len(self._stamps) - len(self._stamps) // 10]
        found: list[tuple[float, float]] = []
        for index in np.unique(np.linspace(0, len(stamps) - 1, MOMENTS).astype(int)) if stamps else ():
            try:
                told, away, _ = self._where.tf.pose(base, frame, stamps[index])
                ours = [self._where.by_model("tf", Place(base, name), stamps[index]) for name in (base, frame)]
            except (KeyError, ObservationError):  # joints that nothing measures, or silence
                continue
            if away > NEAR_NS:
                continue
            error = np.linalg.inv(np.linalg.inv(ours[0]) @ ours[1]) @ told
            found.append((float(np.linalg.norm(error[:3, 3])), float(Rotation.from_matrix(error[:3, :3]).magnitude())))
        return (max(shift for shift, _ in found), max(turn for _, turn in found)) if found else None
