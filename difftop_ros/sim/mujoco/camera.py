"""Drawing one camera's colour and depth in a single pass, and the camera's geometry. Clouds are sim/cloud.py's."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from difftop_ros.sim.errors import SimError
from difftop_ros.sim.interface import Snapshot
from difftop_ros.sim.mujoco.gl import make_context

# MuJoCo's cameras look along -z with y up; REP-103 optical frames look along +z with y down.
_OPTICAL_FROM_MUJOCO = np.diag([1.0, -1.0, -1.0])


def camera_names(model: Any) -> tuple[str, ...]:
    """Names of the model's cameras, in its order; cameras without a name are left out."""
    names = (mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_CAMERA, i) for i in range(model.ncam))
    return tuple(name for name in names if name)


def camera_id(model: Any, camera: str) -> int:
    """The camera's index; SimError naming the known ones."""
    found = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
    if found < 0:
        raise SimError(f"camera '{camera}' is not in the model; it has {list(camera_names(model))}")
    return found


def intrinsics(model: Any, camera: str, width: int, height: int) -> np.ndarray:
    """K (3, 3) float64 [px] of a pinhole camera with square pixels; pixel (0, 0) has its centre at (0, 0)."""
    fovy = float(model.cam_fovy[camera_id(model, camera)])
    focal = 0.5 * height / np.tan(np.deg2rad(fovy) / 2)
    return np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])


def camera_pose(model: Any, data: Any, camera: str) -> np.ndarray:
    """world_from_optical (4, 4) float64: x right, y down, z forward in the camera's frame [m]."""
    index = camera_id(model, camera)
    pose = np.eye(4)
    pose[:3, :3] = data.cam_xmat[index].reshape(3, 3) @ _OPTICAL_FROM_MUJOCO
    pose[:3, 3] = data.cam_xpos[index]
    return pose


def prepare_for_speed(model: Any, width: int, height: int) -> None:
    """Shadows and multisampling off, and a buffer that is large enough. Call it before a CameraRenderer is made."""
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = max(int(model.vis.global_.offwidth), width)
    model.vis.global_.offheight = max(int(model.vis.global_.offheight), height)


_PARTS = ("qpos", "mocap_pos", "mocap_quat")  # all that a picture needs of a moment


def snapshot(data: Any) -> Snapshot:
    """The present moment of a mujoco.MjData: copies, so that the physics can go on while it is drawn."""
    return {name: getattr(data, name).astype(np.float64).ravel() for name in _PARTS}


class SnapshotRenderer:
    """Draws snapshots of a world's past moments in a thread of its own: made, used and closed in that thread."""

    def __init__(self, model: Any, width: int, height: int) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._renderer = CameraRenderer(model, width, height)
        for camera in camera_names(model)[:1]:  # the driver compiles its shaders at the first picture
            self.render(snapshot(self._data), camera)

    def render(self, snapshot: Snapshot, camera: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colour uint8 (h, w, 3), depth float32 (h, w) [m] and world_from_optical (4, 4) at the snapshot's moment."""
        for name in _PARTS:
            part = getattr(self._data, name)
            part[:] = snapshot[name].reshape(part.shape)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mj_tendon(self._model, self._data)
        colour, depth = self._renderer.render(self._data, camera)
        return colour, depth, camera_pose(self._model, self._data, camera)

    def close(self) -> None:
        """Frees the GL context; may be called twice."""
        self._renderer.close()


class CameraRenderer:
    """Renders a model's cameras without a display. Belongs to the thread that made it; `close()` frees the context.

    mujoco.Renderer draws the scene once for colour and once for depth; reading both from one pass halves the time.
    """

    def __init__(self, model: Any, width: int, height: int) -> None:
        self._model = model
        self._width, self._height = width, height
        self._context = make_context(width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=2000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE):
            self._scene.flags[flag] = 0
        self._option = mujoco.MjvOption()
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._gpu = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._gpu)
        self._gpu.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        extent = float(model.stat.extent)
        near, far = float(model.vis.map.znear) * extent, float(model.vis.map.zfar) * extent
        # Reversed z: 1 at the near plane, 0 at the far one; depth = near * far / (near + d * (far - near)).
        self._near_far, self._near, self._span = np.float32(near * far), np.float32(near), np.float32(far - near)

    def render(self, data: Any, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """Colour uint8 (h, w, 3) RGB and depth float32 (h, w) [m] along the optical axis. SimError: unknown camera."""
        if self._gpu is None:
            raise SimError("the renderer was closed; make a new world")
        self._context.make_current()
        self._view.fixedcamid = camera_id(self._model, camera)
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        mujoco.mjr_render(self._rect, self._scene, self._gpu)
        colour = np.empty((self._height, self._width, 3), np.uint8)
        depth = np.empty((self._height, self._width), np.float32)
        mujoco.mjr_readPixels(colour, depth, self._rect, self._gpu)
        depth *= self._span
        depth += self._near
        np.divide(self._near_far, depth, out=depth)
        return np.ascontiguousarray(colour[::-1]), np.ascontiguousarray(depth[::-1])

    def close(self) -> None:
        """Frees the GL context; may be called twice."""
        if self._gpu is not None:
            self._gpu.free()
            self._gpu = None
            self._context.free()
