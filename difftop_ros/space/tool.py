"""Where the tool's point may be and how it may lean: how far a pose is outside, and the nearest pose inside."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.contract import Contract
from difftop_ros.contract.run_limits import ToolLimits
from difftop_ros.errors import UserError
from difftop_ros.space.body import Body
from difftop_ros.space.near import shape_distance

INSIDE_M, INSIDE_RAD = 3e-3, 5e-3  # so far inside is brought what was outside: ways between poses are not straight
ROUNDS = 8
SMALL = 1e-6  # a difference of a joint [rad | m] for derivatives


class ToolRegion:
    """The limits for one robot. Positions are commands (N, A)."""

    def __init__(self, limits: ToolLimits, body: Body, frame: str) -> None:
        """Raises RobotModelError for a frame that the robot does not have."""
        self.limits, self._body, self._frame = limits, body, frame
        body.row(frame)
        self._axis = np.array(limits.axis)

    def outside(self, positions: np.ndarray) -> np.ndarray:
        """How far outside each limit the tool is, (N, L): [m], the last one [rad]; 0 or less inside."""
        poses = self._body.pose(positions, self._frame)
        return self._outside(poses)

    def _outside(self, poses: np.ndarray) -> np.ndarray:
        limits, places = self.limits, poses[:, :3, 3]
        found = []
        if limits.least is not None:
            found.append(limits.least - places[:, 2])
        if limits.most is not None:
            found.append(places[:, 2] - limits.most)
        if limits.keep_in is not None:
            box = limits.keep_in
            local = (places - box.centre) @ Rotation.from_quat(box.quat_xyzw).as_matrix()
            found += list((np.abs(local) - np.array(box.size) / 2).T)
        found += [-shape_distance(shape, places) for shape in limits.keep_out]
        if limits.tilt is not None:
            found.append(np.arccos(np.clip(poses[:, :3, 2] @ self._axis, -1.0, 1.0)) - limits.tilt)
        return np.stack(found, axis=1)

    def names(self) -> list[str]:
        """What each of `outside`'s numbers is about."""
        limits = self.limits
        names = [f"below least {limits.least:g}"] if limits.least is not None else []
        names += [f"above most {limits.most:g}"] if limits.most is not None else []
        names += ["outside keep_in"] * 3 if limits.keep_in is not None else []
        names += [f"inside keep_out '{shape.name or shape.kind}'" for shape in limits.keep_out]
        return names + ([f"leaning beyond tilt {limits.tilt:g}"] if limits.tilt is not None else [])

    def sentence(self, path: np.ndarray) -> str:
        """Why a way through positions path (K, A) leaves the limits, '' if it does not.

        What is outside at the beginning may stay or come back, and must not go farther out.
        """
        outside = self.outside(path)
        bad = (outside > 1e-6) & (outside > outside[0] + 1e-6)
        if not bad.any():
            return ""
        row = int(bad.any(1).argmax())
        index = int(bad[row].argmax())
        tilts = self.limits.tilt is not None and index == outside.shape[1] - 1
        amount = f"{outside[row, index]:.3g} rad" if tilts else f"{1e3 * outside[row, index]:.1f} mm"
        return f"the tool would be {amount} {self.names()[index]}"

    def inside(self, positions: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        """The positions (N, A), those outside moved to about the nearest inside; joints `fixed` (A,) bool stay.

        Newton steps on the limits that are broken, a little further than their bounds.
        """
        found = np.array(positions, dtype=np.float64)
        slack = np.full(len(self.names()), INSIDE_M)
        if self.limits.tilt is not None:
            slack[-1] = INSIDE_RAD
        for _ in range(ROUNDS):
            outside = self.outside(found)
            rows = np.flatnonzero((outside > 0).any(1))
            if not len(rows):
                break
            joints = np.flatnonzero(~fixed)
            moved = found[rows, None] + SMALL * np.eye(found.shape[1])[joints]
            slope = self.outside(moved.reshape(-1, found.shape[1])).reshape(len(rows), len(joints), -1)
            slope = ((slope - outside[rows, None]) / SMALL).swapaxes(1, 2)  # (rows, L, joints)
            broken = (outside[rows] > -slack)[..., None]
            step = (
                np.linalg.pinv(np.where(broken, slope, 0.0), rcond=1e-3)
                @ np.where(broken[..., 0], outside[rows] + slack, 0.0)[..., None]
            )
            found[np.ix_(rows, joints)] -= np.clip(step[..., 0], -0.2, 0.2)
        return found


def tool_region(limits: ToolLimits, body: Body, contract: Contract) -> ToolRegion:
    """The region of a contract's tool. Raises UserError if the contract names no frame of it, or a wrong one."""
    if contract.robot.tool_frame is None:
        raise UserError(
            "limits of the tool need robot.tool_frame in the contract: the frame of the point between the fingers"
        )
    return ToolRegion(limits, body, contract.robot.tool_frame)
