"""Known obstacles as signed distances in torch: boxes, cylinders and half-spaces in the robot's base frame.

A fixed number of each is held as tensors, so that obstacles can move, come and go under a compiled or captured solve.
Where they come from (a file, a topic) is others' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from difftop_ros.contract.shapes import AnyShape, Box, Cylinder, HalfSpace

FAR = 1e3  # [m]; where an unused row lies


@dataclass(frozen=True)
class Shapes:
    """Rows of obstacles, a batch first.

    boxes (B, N, 15): centre [m], rotation (base_from_box, row-major 9), half sizes [m]
    cylinders (B, M, 8): centre [m], axis (unit), radius [m], half length [m]
    planes (B, K, 4): unit normal n pointing out of the solid, offset d [m]; solid where n·x < d
    """

    boxes: Tensor
    cylinders: Tensor
    planes: Tensor

    @classmethod
    def none(cls, boxes: int = 4, cylinders: int = 4, planes: int = 2, batch: int = 1) -> Shapes:
        """Room for so many of each, none of them near."""
        box = torch.tensor([FAR, FAR, FAR, *torch.eye(3).flatten().tolist(), 1e-3, 1e-3, 1e-3])
        cylinder = torch.tensor([FAR, FAR, FAR, 0.0, 0.0, 1.0, 1e-3, 1e-3])
        plane = torch.tensor([0.0, 0.0, 1.0, -FAR])
        return cls(*(row.repeat(batch, n, 1) for row, n in ((box, boxes), (cylinder, cylinders), (plane, planes))))

    @classmethod
    def of(cls, given: Sequence[AnyShape], room: tuple[int, int, int] = (0, 0, 0)) -> Shapes:
        """The shapes as they are described, a batch of one; at least `room` rows of boxes, cylinders and planes."""
        boxes = [box(s.centre, [e / 2 for e in s.size], _rotation(s.quat_xyzw)) for s in given if isinstance(s, Box)]
        cylinders = [cylinder(s.centre, s.axis, s.radius, s.length / 2) for s in given if isinstance(s, Cylinder)]
        planes = [plane(s.point, s.normal) for s in given if isinstance(s, HalfSpace)]
        unused = [max(n - len(rows), 0) for n, rows in zip(room, (boxes, cylinders, planes), strict=True)]
        free = cls.none(*unused)
        groups = zip((boxes, cylinders, planes), free.groups, strict=True)
        return cls(*(torch.cat([torch.stack(rows)[None], rest], 1) if rows else rest for rows, rest in groups))

    @property
    def groups(self) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, cylinders and planes."""
        return self.boxes, self.cylinders, self.planes

    def and_also(self, others: Shapes) -> Shapes:
        """These and others, of the same batch."""
        return Shapes(*(torch.cat(pair, 1) for pair in zip(self.groups, others.groups, strict=True)))

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (B, ...) [m] of points (B, ..., 3) to the nearest obstacle's surface; negative inside."""
        flat = points.flatten(1, -2)
        kinds = ((box_distance, self.boxes), (cylinder_distance, self.cylinders), (plane_distance, self.planes))
        near = [distance(flat, rows) for distance, rows in kinds if rows.shape[1]]  # what is not there costs nothing
        if not near:
            return torch.full_like(points[..., 0], FAR)
        return torch.cat(near, dim=2).amin(2).view(points.shape[:-1])


def box_distance(points: Tensor, boxes: Tensor) -> Tensor:
    """(B, P, 3), (B, N, 15) -> (B, P, N)."""
    offset = points[:, :, None] - boxes[:, None, :, :3]
    rotation = boxes[:, :, 3:12].unflatten(2, (3, 3))
    inside = torch.einsum("bpni,bnij->bpnj", offset, rotation).abs() - boxes[:, None, :, 12:]
    return _length(inside.clamp_min(0.0)) + inside.amax(3).clamp_max(0.0)


def cylinder_distance(points: Tensor, cylinders: Tensor) -> Tensor:
    """(B, P, 3), (B, M, 8) -> (B, P, M)."""
    offset = points[:, :, None] - cylinders[:, None, :, :3]
    axis = cylinders[:, None, :, 3:6]
    along = (offset * axis).sum(3)
    across = _length(offset - along[..., None] * axis)
    inside = torch.stack([across - cylinders[:, None, :, 6], along.abs() - cylinders[:, None, :, 7]], dim=3)
    return _length(inside.clamp_min(0.0)) + inside.amax(3).clamp_max(0.0)


def plane_distance(points: Tensor, planes: Tensor) -> Tensor:
    """(B, P, 3), (B, K, 4) -> (B, P, K)."""
    return points @ planes[:, :, :3].mT - planes[:, None, :, 3]


def _length(vector: Tensor) -> Tensor:
    """Euclidean length over the last dimension, with a finite gradient at 0."""
    return (vector.square().sum(-1) + 1e-12).sqrt()


def plane(point: Sequence[float], normal: Sequence[float]) -> Tensor:
    """One row (4,) of `Shapes.planes`: solid below `point` along the unit `normal`."""
    direction = torch.tensor([*normal], dtype=torch.float32)
    return torch.cat([direction, (direction @ torch.tensor([*point], dtype=torch.float32))[None]])


def _rotation(quat_xyzw: Sequence[float]) -> Tensor:
    return torch.from_numpy(Rotation.from_quat([*quat_xyzw]).as_matrix()).to(torch.float32)


def box(centre: Sequence[float], half_sizes: Sequence[float], rotation: Tensor | None = None) -> Tensor:
    """One row (15,) of `Shapes.boxes`."""
    turn = torch.eye(3) if rotation is None else rotation
    return torch.cat([torch.tensor([*centre]), turn.flatten().to(torch.float32), torch.tensor([*half_sizes])])


def cylinder(centre: Sequence[float], axis: Sequence[float], radius: float, half_length: float) -> Tensor:
    """One row (8,) of `Shapes.cylinders`."""
    direction = torch.tensor([*axis], dtype=torch.float32)
    return torch.cat([torch.tensor([*centre]), direction / direction.norm(), torch.tensor([radius, half_length])])
