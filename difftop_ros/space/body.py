"""A robot's body as arrays: joints that a command moves, frames and spheres that hang on them, and where they are.

numpy alone, so that the gate can ask it at every tick; costs/kinematics.py computes the same in torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.space.description import Description, Joint, read_description
from difftop_ros.space.errors import RobotModelError
from difftop_ros.space.spheres import Spheres

Coupling = Mapping[str, Mapping[str, float]]  # commanded joint -> {joint of the description: its motion per unit}


@dataclass(frozen=True)
class Body:
    """For A commanded joints, M joints of the description, F frames and S spheres.

    basis    (M, 4, 4, 4): a joint's pose in the one it hangs on is basis · (1, sin q, cos q, q)
    parents  (M,) int: the joint it hangs on, -1 for the base; parents come before children
    coupling (M, A), rest (M,): positions of the description's joints are coupling · command + rest [rad | m]
    frames   names; frame_joints (F,) int the joint each hangs on, -1 for the base; frame_poses (F, 4, 4) there
    spheres  None, or in their links' frames
    """

    path: Path
    joints: tuple[str, ...]
    basis: np.ndarray
    parents: np.ndarray
    coupling: np.ndarray
    rest: np.ndarray
    frames: tuple[str, ...]
    frame_joints: np.ndarray
    frame_poses: np.ndarray
    spheres: Spheres | None = None
    _rows: dict[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def read(
        cls, path: str | Path, joints: Sequence[str], coupling: Coupling | None = None, spheres: Spheres | None = None
    ) -> Body:
        """coupling: for a commanded joint that is not one of the description's, the joints that it moves.

        Joints of the description that are not commanded stay at 0. Raises RobotModelError for a description that cannot
        be read, and for joints or links it does not have.
        """
        return cls.of(read_description(Path(path)), Path(path), joints, coupling, spheres)

    @classmethod
    def of(
        cls,
        found: Description,
        path: Path,
        joints: Sequence[str],
        coupling: Coupling | None = None,
        spheres: Spheres | None = None,
    ) -> Body:
        """As `read`, of the description that `path` was read as."""
        order, rest = _coupled(found, path, joints, coupling or {})
        rows = {name: row for row, name in enumerate(found.frames)}
        body = cls(
            path, tuple(joints), np.array([_basis(joint) for joint in found.joints]).reshape(-1, 4, 4, 4),
            np.array([joint.parent for joint in found.joints], dtype=int), order, rest, tuple(found.frames),
            np.array([joint for joint, _ in found.frames.values()], dtype=int),
            np.array([pose for _, pose in found.frames.values()]).reshape(-1, 4, 4), spheres, rows,
        )  # fmt: skip
        for link in spheres.links if spheres else ():
            body.row(link)
        return body

    def row(self, frame: str) -> int:
        """Where a frame stands among `frames`. Raises RobotModelError for one that the description does not have."""
        if frame not in self._rows:
            raise RobotModelError(f"{self.path} has no frame '{frame}'; it has {list(self.frames)}")
        return self._rows[frame]

    @cached_property
    def sphere_map(self) -> np.ndarray:
        """(S, M + 1, 4): a sphere's place (3,) is the sum over joints (the base first) of pose[:3] · its row."""
        if self.spheres is None:
            raise RobotModelError(self.lacks_spheres)
        found = np.zeros((len(self.spheres.links), len(self.parents) + 1, 4))
        for index, (link, centre) in enumerate(zip(self.spheres.links, self.spheres.centres, strict=True)):
            row = self.row(link)
            found[index, self.frame_joints[row] + 1] = self.frame_poses[row] @ [*centre, 1.0]
        return found

    @property
    def lacks_spheres(self) -> str:
        """The sentence for what needs spheres where there are none."""
        return (
            f"{self.path} has no collision spheres; write them with 'difftop contract spheres' and name the file in "
            "robot.spheres"
        )

    @property
    def radii(self) -> np.ndarray:
        """(S,) [m]. Raises RobotModelError without spheres."""
        assert self.sphere_map is not None and self.spheres is not None
        return self.spheres.radii

    def joint_poses(self, positions: np.ndarray) -> np.ndarray:
        """Poses (N, M + 1, 4, 4) in the base frame, the base's own first, for commands (N, A) [rad | m]."""
        own = positions @ self.coupling.T + self.rest
        parts = np.stack([np.ones_like(own), np.sin(own), np.cos(own), own], axis=-1)
        local = np.einsum("nmk,mkij->nmij", parts, self.basis)
        poses = np.empty((len(positions), len(self.parents) + 1, 4, 4))
        poses[:, 0] = np.eye(4)
        for index, parent in enumerate(self.parents):
            poses[:, index + 1] = poses[:, parent + 1] @ local[:, index] if parent >= 0 else local[:, index]
        return poses

    def pose(self, positions: np.ndarray, frame: str) -> np.ndarray:
        """base_from_frame (N, 4, 4) for commands (N, A)."""
        row = self.row(frame)
        return self.joint_poses(positions)[:, self.frame_joints[row] + 1] @ self.frame_poses[row]

    def centres(self, positions: np.ndarray) -> np.ndarray:
        """Places (N, S, 3) [m] of the spheres for commands (N, A). Raises RobotModelError without spheres."""
        count, joints = len(self.sphere_map), self.sphere_map.shape[1]
        poses = self.joint_poses(positions)[:, :, :3].transpose(0, 2, 1, 3).reshape(len(positions) * 3, joints * 4)
        return (poses @ self.sphere_map.reshape(count, -1).T).reshape(-1, 3, count).transpose(0, 2, 1)


def body_of(contract: Contract) -> Body:
    """The robot of a contract, with its spheres if it names them. Raises UserError saying what the contract lacks."""
    section, command = contract.robot, contract.command
    if section.description is None:
        raise UserError(
            "the robot's model is needed, and the contract names none; add robot.description (URDF or MJCF) and "
            "robot.spheres (of 'difftop contract spheres')"
        )
    if command.mode != "position":
        raise UserError(
            f"position commands are needed, and command.mode is {command.mode!r}; leave out what needs them"
        )
    spheres = Spheres.load(section.path("spheres")) if section.spheres is not None else None
    return Body.read(section.path("description"), command.joint_names, section.coupling, spheres)


def _basis(joint: Joint) -> np.ndarray:
    """(4, 4, 4) of a joint; see Body.basis."""
    basis = np.zeros((4, 4, 4))
    x, y, z = joint.axis
    if joint.slides:
        basis[0] = joint.pose
        basis[3, :3, 3] = joint.pose[:3, :3] @ joint.axis
        return basis
    turn, along = joint.pose[:3, :3], np.outer(joint.axis, joint.axis)
    basis[0] = joint.pose
    basis[0, :3, :3] = turn @ along
    basis[1, :3, :3] = turn @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    basis[2, :3, :3] = turn @ (np.eye(3) - along)
    return basis


def _coupled(
    found: Description, path: Path, joints: Sequence[str], coupling: Coupling
) -> tuple[np.ndarray, np.ndarray]:
    """See Body.coupling and Body.rest."""
    own = {joint.name: index for index, joint in enumerate(found.joints)}
    order, rest = np.zeros((len(own), len(joints))), np.array([-joint.zero for joint in found.joints])
    for column, name in enumerate(joints):
        for moved, ratio in coupling.get(name, {name: 1.0}).items():
            if moved not in own:
                raise RobotModelError(
                    f"{path} has no joint '{moved}' (for the commanded joint '{name}'); it has {list(own)}: correct "
                    "the name, or say in robot.coupling which of its joints the command moves"
                )
            order[own[moved], column] = ratio
    for joint in found.joints:  # URDF's mimic, unless it is commanded itself
        leader, ratio, offset = joint.follows
        if leader and not order[own[joint.name]].any():
            if leader not in own:
                raise RobotModelError(f"{path}: joint '{joint.name}' mimics '{leader}', which it does not have")
            order[own[joint.name]] = ratio * order[own[leader]]
            rest[own[joint.name]] += offset
    return order, rest
