"""The robot's body (space/body.py) in torch: where its frames and spheres are; differentiable twice, compiles whole.

A joint's pose in the one it hangs on is linear in (1, sin q, cos q, q); poses are their products along the chain. The
spheres are linear in the poses, which makes them one product of matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difftop_ros.space import Body, RobotModelError, Spheres
from difftop_ros.space.body import Coupling


class RobotModel:
    """Forward kinematics for the commanded joints (A,) in their order. Not a module: it has no parameters."""

    def __init__(
        self, path: str | Path, joints: Sequence[str], coupling: Coupling | None = None, spheres: Spheres | None = None
    ) -> None:
        """As Body.read."""
        self.body = Body.read(path, joints, coupling, spheres)
        self.to("cpu")

    @classmethod
    def of(cls, body: Body) -> RobotModel:
        """The model of a body that was read already."""
        model = cls.__new__(cls)
        model.body = body
        return model.to("cpu")

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> RobotModel:
        """The same model with its constants there; in place, returns itself."""

        def constant(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array).to(device, dtype)

        body = self.body
        self._coupling, self._rest = constant(body.coupling.T), constant(body.rest)
        self._basis = constant(body.basis.reshape(len(body.parents), 4, 16))
        self._base = torch.eye(4, dtype=dtype, device=device)
        self._parents: list[int] = body.parents.tolist()
        self._hung_on: list[int] = body.frame_joints.tolist()
        self._frame_joints = torch.as_tensor(body.frame_joints + 1, device=device)
        self._frame_poses = constant(body.frame_poses)
        if body.spheres is not None:
            self._sphere_map = constant(body.sphere_map.reshape(len(body.radii), -1).T)
            self._radii = constant(body.radii)
        return self

    @property
    def frames(self) -> tuple[str, ...]:
        """The description's frames, in the order of `transforms`."""
        return self.body.frames

    @property
    def joints(self) -> tuple[str, ...]:
        """The commanded joints."""
        return self.body.joints

    @property
    def radii(self) -> Tensor:
        """(S,) [m]. Raises RobotModelError without spheres."""
        if self.body.spheres is None:
            raise RobotModelError(self.body.lacks_spheres)
        return self._radii

    def _poses(self, positions: Tensor) -> list[Tensor]:
        """Poses (N, 4, 4) of the joints for commands (N, A)."""
        own = positions @ self._coupling + self._rest
        parts = torch.stack([torch.ones_like(own), own.sin(), own.cos(), own], dim=-1)
        local = torch.einsum("nmk,mki->nmi", parts, self._basis).unflatten(2, (4, 4)).unbind(1)
        poses: list[Tensor] = []
        for pose, parent in zip(local, self._parents, strict=True):
            poses.append(_product(poses[parent], pose) if parent >= 0 else pose)
        return poses

    def _with_base(self, positions: Tensor) -> Tensor:
        """Poses (N, M + 1, 4, 4), the base's own first, for commands (..., A)."""
        flat = positions.reshape(-1, positions.shape[-1])
        return torch.stack([self._base.expand(len(flat), 4, 4), *self._poses(flat)], dim=1)

    def transforms(self, positions: Tensor) -> Tensor:
        """base_from_frame (..., F, 4, 4) [m] of all frames for joint positions (..., A) [rad | m]."""
        found = self._with_base(positions)[:, self._frame_joints] @ self._frame_poses
        return found.reshape(*positions.shape[:-1], *found.shape[1:])

    def pose(self, positions: Tensor, frame: str) -> Tensor:
        """base_from_frame (..., 4, 4) of one frame. Raises RobotModelError for one that there is not."""
        row = self.body.row(frame)
        flat = positions.reshape(-1, positions.shape[-1])
        joint, own = self._hung_on[row], self._frame_poses[row]
        found = self._poses(flat)[joint] @ own if joint >= 0 else own.expand(len(flat), 4, 4)
        return found.reshape(*positions.shape[:-1], 4, 4)

    def sphere_centres(self, positions: Tensor) -> Tensor:
        """Centres (..., S, 3) [m] in the base frame; `radii` (S,) go with them. Raises RobotModelError without any."""
        count = len(self.radii)
        poses = self._with_base(positions)[:, :, :3].transpose(1, 2).flatten(2)  # (N, 3, (M + 1) 4)
        return (poses @ self._sphere_map).transpose(1, 2).reshape(*positions.shape[:-1], count, 3)


def _product(one: Tensor, two: Tensor) -> Tensor:
    """Matrix product (N, 4, 4); written out where a compiler fuses it: a call costs more than so small a product."""
    if torch.compiler.is_compiling():
        return (one[:, :, :, None] * two[:, None]).sum(2)
    return one @ two
