"""Where a robot's frames are when its joints are as its drivers measure them, commanded or not. numpy alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.space.body import Body
from difftop_ros.space.description import BASE, read_description
from difftop_ros.space.errors import RobotModelError


class MeasuredBody:
    """A contract's robot moved by the joints that its observations measure.

    joints: of those the ones that move it, by the names of the contract; keys: joint -> the observation that has it.
    """

    def __init__(self, contract: Contract) -> None:
        """Raises UserError for a description that is not named, is nowhere or cannot be read."""
        path = contract.robot.path("description")
        self._found, self._path = read_description(path), path
        own = {joint.name for joint in self._found.joints}
        self.keys: dict[str, str] = {}
        for key, obs in contract.observations.items():
            for name in obs.positions:
                if name in own or name in contract.robot.coupling:
                    self.keys.setdefault(name, key)
        self.joints = tuple(self.keys)
        self.body = Body.of(self._found, path, self.joints, contract.robot.coupling)

    def moving(self, link: str) -> list[str]:
        """The joints (of `joints`) on the way from the base to a frame.

        Raises RobotModelError for a frame that there is not, and for a joint on the way that nothing measures.
        """
        at = int(self.body.frame_joints[self.body.row(link)])
        used: set[str] = set()
        unknown: list[str] = []
        while at != BASE:
            row = np.flatnonzero(self.body.coupling[at])
            used.update(self.joints[column] for column in row)
            if not row.size:
                unknown.append(self._found.joints[at].name)
            at = int(self.body.parents[at])
        if unknown:
            raise RobotModelError(
                f"'{link}' of {self._path} hangs on the joints {unknown[::-1]}, which no joint_state observation "
                "measures; add them to the joints of one"
            )
        return [name for name in self.joints if name in used]

    def pose(self, positions: Mapping[str, float], link: str) -> np.ndarray:
        """base_from_link (4, 4) [m] for joint positions [rad | m]; joints that are left out stand at 0."""
        values = np.array([[positions.get(name, 0.0) for name in self.joints]])
        return self.body.pose(values, link)[0]
