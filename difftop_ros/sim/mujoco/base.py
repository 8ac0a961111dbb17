"""What all MuJoCo worlds share: reading a model, whole steps of time, cameras, snapshots. Tasks are the worlds' own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from difftop_ros.contract.shapes import AnyShape
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.interface import Snapshot, checked_pose
from difftop_ros.sim.mujoco import camera as cameras
from difftop_ros.sim.mujoco import obstacles


def load_model(path: str | os.PathLike[str], shapes: Sequence[AnyShape] = ()) -> Any:
    """The mujoco.MjModel at `path` (MJCF or URDF), with obstacles in it. SimError when it cannot be read."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise SimError(f"the model '{file}' does not exist; give the path of an MJCF (.xml) file")
    try:
        file.read_text(encoding="utf-8")  # names of other bytes could not be asked for
        if not shapes:
            return mujoco.MjModel.from_xml_path(str(file))
        spec = mujoco.MjSpec.from_file(str(file))
        obstacles.add_to(spec, shapes)
        return spec.compile()
    except ValueError as error:
        raise SimError(f"the model '{file}' cannot be read by MuJoCo: {error}".replace("\n", " ")) from error


class MujocoWorld:
    """A model with its state, seen by its cameras; base of the worlds, which add reset, step, success and reward.

    model, data: MuJoCo's; width, height: of pictures [px]; cameras: the model's, by name. Rendering needs EGL or
    OSMesa and starts with the first `render`.
    """

    joint_names: tuple[str, ...]

    def __init__(self, model: Any, data: Any, width: int, height: int) -> None:
        """Raises SimError for a size below 1 pixel."""
        if width < 1 or height < 1:
            raise SimError(f"picture size is {width}x{height}; both must be positive [px]")
        self.model, self.data = model, data
        self.width, self.height = int(width), int(height)
        cameras.prepare_for_speed(model, self.width, self.height)
        self.cameras = cameras.camera_names(model)
        self._renderer: cameras.CameraRenderer | None = None
        self._owed_s = 0.0

    def render(self, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """Colour uint8 (h, w, 3) RGB and depth float32 (h, w) [m]. The first call decides the thread that may render.

        Raises SimError for an unknown camera or when neither EGL nor OSMesa works.
        """
        if self._renderer is None:
            self._renderer = cameras.CameraRenderer(self.model, self.width, self.height)
        return self._renderer.render(self.data, camera)

    def intrinsics(self, camera: str) -> np.ndarray:
        """K (3, 3) float64 [px]."""
        return cameras.intrinsics(self.model, camera, self.width, self.height)

    def camera_pose(self, camera: str) -> np.ndarray:
        """world_from_optical (4, 4) float64 [m], REP-103: x right, y down, z forward."""
        return cameras.camera_pose(self.model, self.data, camera)

    def snapshot(self) -> Snapshot:
        """Copies of all that a picture of this moment needs, for `make_renderer`'s renderer."""
        return cameras.snapshot(self.data)

    def make_renderer(self) -> cameras.SnapshotRenderer:
        """Draws this world's snapshots; to be called in the thread that will draw. SimError where nothing can."""
        return cameras.SnapshotRenderer(self.model, self.width, self.height)

    def bodies(self) -> dict[str, np.ndarray]:
        """See `interface.HasBodies`: bodies with a free joint."""
        starts = {name: int(self.model.jnt_qposadr[joint]) for name, joint in self._free_joints().items()}
        order = [0, 1, 2, 4, 5, 6, 3]  # MuJoCo's quaternions begin with w
        return {name: self.data.qpos[start : start + 7][order].copy() for name, start in starts.items()}

    def place(self, name: str, pose: np.ndarray) -> None:
        """See `interface.HasBodies`."""
        joints = self._free_joints()
        values = checked_pose(name, joints, pose)
        start, speed = self.model.jnt_qposadr[joints[name]], self.model.jnt_dofadr[joints[name]]
        self.data.qpos[start : start + 7] = values[[0, 1, 2, 6, 3, 4, 5]]
        self.data.qvel[speed : speed + 6] = 0.0
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_fwdVelocity(self.model, self.data)

    def _free_joints(self) -> dict[str, int]:
        free = np.flatnonzero(self.model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        named = {mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_BODY, self.model.jnt_bodyid[j]): j for j in free}
        return {name: int(joint) for name, joint in named.items() if name}

    def close(self) -> None:
        """Frees the renderer; may be called twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _checked(self, command: np.ndarray) -> np.ndarray:
        """The command as float64 (n,); SimError for a wrong size or numbers that are not finite."""
        values, names = np.asarray(command, np.float64), self.joint_names
        if values.shape != (len(names),):
            raise SimError(
                f"the command has shape {values.shape}; expected ({len(names)},), one number for each of {list(names)}"
            )
        if not np.isfinite(values).all():
            raise SimError(f"the command {values.tolist()} is not finite; nothing was simulated")
        return values

    def _whole_steps(self, duration: float, step_s: float) -> int:
        """How many steps of `step_s` to simulate now. The rest is carried over, so long runs keep their time."""
        self._owed_s += duration
        steps = int(np.floor(self._owed_s / step_s + 1e-6))
        self._owed_s -= steps * step_s
        return steps
