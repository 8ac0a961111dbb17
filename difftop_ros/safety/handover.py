"""Whether a person moves the robot instead of the policy, and when it may be taken back. No rclpy here.

A person takes over by raising a flag (topic difftop/intervention). What is done meanwhile is the control loop's affair:
it comes to rest within the limits, then says nothing, and begins anew from where the robot then is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from difftop_ros.safety.limits import MotionLimits

STILL_TICKS = 25  # in a row in which the robot must stand before it is taken back
STILL = 0.03  # share of top speed, on average over those ticks, that counts as standing


class HandOver:
    """Asked by the control thread at every tick, with what was measured then.

    raised: whether the flag is raised now. A robot is taken back once it is lowered and the robot, whose readings are
    believed, has stood for STILL_TICKS ticks: the policy begins at rest, so the person must have come to rest too.
    """

    def __init__(self, limits: MotionLimits, raised: Callable[[], bool]) -> None:
        self._raised = raised
        self._most = STILL * limits.velocity * limits.dt * STILL_TICKS
        self._poses: deque[np.ndarray] = deque(maxlen=STILL_TICKS)
        self._given = False

    def look(self, position: np.ndarray, fault: str) -> str:
        """Why the policy must not move the robot now, as a sentence; '' if it may.

        position: where it is believed to be (A,) [unit]; fault: why the newest readings are not believed, or ''.
        """
        if self._raised():
            self._given = True
            self._poses.clear()
            return "a person has taken over (difftop/intervention is raised)"
        if not self._given:
            return ""
        if fault:
            self._poses.clear()
            return f"not taken back yet: {fault}"
        self._poses.append(position)
        if len(self._poses) == STILL_TICKS:
            self._given = bool(np.any(np.ptp(np.array(self._poses), axis=0) > self._most))
        return "not taken back yet: the robot must stand where the person has left it" if self._given else ""
