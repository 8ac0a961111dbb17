"""The robot's own model in torch: where every link, the tool and the collision spheres are for given joint positions.

URDF and MJCF are read by pytorch_kinematics. Spheres come from a file that `difftop contract spheres` writes. Nothing
here is learned; everything is differentiable twice and compiles as one graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difftop_ros.errors import UserError
from difftop_ros.plain_yaml import read_yaml

FARTHEST = 1e3  # [m]; nothing of a robot is so far from its base
Coupling = Mapping[str, Mapping[str, float]]  # commanded joint -> {joint of the model: metres or radians per unit}


class RobotModelError(UserError):
    """The robot's description cannot be read, or does not have what is asked of it."""


@dataclass(frozen=True)
class Spheres:
    """links: S names; centres float32 (S, 3) in their link's frame [m]; radii float32 (S,) [m]."""

    links: tuple[str, ...]
    centres: Tensor
    radii: Tensor

    @classmethod
    def load(cls, path: str | Path) -> Spheres:
        """Read `link: [[x, y, z, radius], ...]`. Raises RobotModelError naming the link that is not so."""
        data = read_yaml(path, "spheres", RobotModelError).data
        if not isinstance(data, dict) or not data:
            raise RobotModelError(f"{path}: expected 'link: [[x, y, z, radius], ...]' [m], got {data!r:.60}")
        links: list[str] = []
        rows: list[list[float]] = []
        for link, spheres in data.items():
            for row in spheres if isinstance(spheres, list) else [spheres]:
                if not (isinstance(row, list) and len(row) == 4 and all(isinstance(v, int | float) for v in row)):
                    raise RobotModelError(f"{path}: a sphere of '{link}' is {row!r:.60}; expected [x, y, z, radius]")
                if not row[3] > 0:
                    raise RobotModelError(f"{path}: a sphere of '{link}' has radius {row[3]}; expected more than 0")
                if not all(abs(value) <= FARTHEST for value in row):
                    raise RobotModelError(
                        f"{path}: a sphere of '{link}' is {row!r:.60}; nothing lies beyond {FARTHEST} m"
                    )
                links.append(str(link))
                rows.append([float(value) for value in row])
        if not rows:
            raise RobotModelError(f"{path} names {len(data)} links and no sphere; expected [[x, y, z, radius], ...]")
        table = torch.tensor(rows, dtype=torch.float32)
        return cls(tuple(links), table[:, :3], table[:, 3])


class RobotModel:
    """Forward kinematics for the commanded joints (A,) in their order.

    Joints of the description that are not commanded stay at 0. frames: the description's frame names, in the order of
    `transforms`. Not a module: it has no parameters; `to` moves it.
    """

    def __init__(
        self, path: str | Path, joints: Sequence[str], coupling: Coupling | None = None, spheres: Spheres | None = None
    ) -> None:
        """coupling: for a commanded joint that is not one of the description's, the joints that it moves.

        Raises RobotModelError for a description that cannot be read, and for joints or links it does not have.
        """
        self.path, self.joints = Path(path), tuple(joints)
        chain = _read(self.path).to(dtype=torch.float32)
        own = list(chain.get_joint_parameter_names())
        self.frames: tuple[str, ...] = tuple(chain.get_frame_names(exclude_fixed=False))
        order = torch.zeros(len(own), len(self.joints))
        for column, name in enumerate(self.joints):
            for moved, ratio in (coupling or {}).get(name, {name: 1.0}).items():
                if moved not in own:
                    raise RobotModelError(
                        f"{self.path} has no joint '{moved}' (for the commanded joint '{name}'); it has {own}: correct "
                        "the name, or say in robot.coupling which of its joints the command moves"
                    )
                order[own.index(moved), column] = ratio
        self._chain, self._order = chain, order
        self._index = {name: int(chain.frame_to_idx[name]) for name in self.frames}
        self.spheres = spheres
        if spheres is not None:
            for link in spheres.links:
                self._row(link)
            self._of_sphere = torch.tensor([self._row(link) for link in spheres.links])
            self._centres = torch.cat([spheres.centres, torch.ones(len(spheres.links), 1)], dim=1)
            self.radii = spheres.radii

    def _row(self, frame: str) -> int:
        if frame not in self._index:
            raise RobotModelError(f"{self.path} has no frame '{frame}'; it has {list(self.frames)}")
        return self._index[frame]

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> RobotModel:
        """The same model with its constants there; in place, returns itself."""
        self._chain = self._chain.to(device=device, dtype=dtype)
        self._order = self._order.to(device, dtype)
        if self.spheres is not None:
            self._of_sphere = self._of_sphere.to(device)
            self._centres, self.radii = self._centres.to(device, dtype), self.radii.to(device, dtype)
        return self

    def transforms(self, positions: Tensor) -> Tensor:
        """base_from_frame (..., F, 4, 4) [m] of all frames for joint positions (..., A) [rad | m]."""
        flat = positions.reshape(-1, positions.shape[-1]) @ self._order.T
        # Not the library's analytical gradient: the implicit adjoint differentiates twice.
        found = self._chain.forward_kinematics_tensor(flat, analytical_grad=False)
        return found.transpose(0, 1).reshape(*positions.shape[:-1], *found.shape[:1], 4, 4)

    def pose(self, positions: Tensor, frame: str) -> Tensor:
        """base_from_frame (..., 4, 4) of one frame."""
        return self.transforms(positions)[..., self._row(frame), :, :]

    def sphere_centres(self, positions: Tensor) -> Tensor:
        """Centres (..., S, 3) [m] in the base frame; `radii` (S,) go with them. Raises RobotModelError without any."""
        if self.spheres is None:
            raise RobotModelError(
                f"{self.path} has no collision spheres; write them with 'difftop contract spheres' and name the file "
                "in robot.spheres"
            )
        poses = self.transforms(positions)[..., self._of_sphere, :3, :]
        return (poses @ self._centres[:, :, None]).squeeze(-1)


def _read(path: Path) -> Any:
    """The description as a pytorch_kinematics Chain."""
    import pytorch_kinematics

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RobotModelError(f"robot description {str(path)!r} cannot be read: {error}") from None
    if "<robot" in text:
        build: Any = pytorch_kinematics.build_chain_from_urdf
        given: str | bytes = text.encode()  # a str may declare no encoding
    elif "<mujoco" in text:
        build, given = pytorch_kinematics.build_chain_from_mjcf, text
    else:
        raise RobotModelError(f"{path} is neither URDF (<robot>) nor MJCF (<mujoco>); xacro must be expanded first")
    try:
        return build(given)
    except Exception as error:  # the library raises whatever its parsers raise
        raise RobotModelError(f"{path} cannot be read as a robot: {' '.join(str(error).split())[:200]}") from None
