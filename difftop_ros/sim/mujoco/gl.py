"""Choosing how to draw without a display: EGL or OSMesa. The drawing itself is camera.py's."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from difftop_ros.sim.errors import SimError

_REMEDY = "install one of them (Debian/Ubuntu: apt install libegl1 libgl1-mesa-dri libopengl0, or libosmesa6)"
_EGL_PLATFORM_DEVICE = 0x313F


def choose_backend() -> str:
    """'egl', 'osmesa' or 'glfw': MUJOCO_GL where the user has set it, else the first that this machine can start.

    Raises SimError when neither EGL nor OSMesa can be used. Takes milliseconds; nothing is drawn.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked:
        if asked not in ("egl", "osmesa", "glfw"):
            raise SimError(
                f"MUJOCO_GL is '{asked}'; set it to egl, osmesa or glfw, or unset it for the automatic choice"
            )
        return asked
    if _loads("libOpenGL.so.0", "libGL.so.1") and _egl_starts():
        return "egl"
    if _loads("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        return "osmesa"
    raise SimError(f"cannot draw pictures: neither EGL nor OSMesa works on this machine; {_REMEDY}")


def make_context(width: int, height: int) -> Any:
    """A GL context of the chosen backend with `make_current()` and `free()`; it belongs to the calling thread.

    Raises SimError when the backend does not start.
    """
    backend = choose_backend()
    os.environ.setdefault("MUJOCO_GL", backend)
    try:
        if backend == "egl":
            from mujoco.egl import GLContext

            wake_display()
        elif backend == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            from mujoco.glfw import GLContext
        context = GLContext(width, height)
        context.make_current()
    except (ImportError, RuntimeError, AttributeError) as error:
        # AttributeError: PyOpenGL's way to say that the library lacks the function.
        raise SimError(f"MUJOCO_GL={backend} does not start ({error}); set another one or {_REMEDY}") from error
    return context


def wake_display() -> None:
    """Initialise the displays of mujoco and dm_control once more: other engines in the process end them when they have
    drawn.
    """
    for name in ("mujoco.egl", "dm_control._render.pyopengl.egl_renderer"):
        module = sys.modules.get(name)
        if module is not None and module.EGL_DISPLAY is not None:
            module.EGL.eglInitialize(module.EGL_DISPLAY, None, None)


def _loads(*names: str) -> bool:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def _egl_starts() -> bool:
    """Whether any EGL device display can be initialised: the library alone says nothing about drivers."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        get_address = egl.eglGetProcAddress
    except (OSError, AttributeError):
        return False
    get_address.restype = ctypes.c_void_p
    get_address.argtypes = [ctypes.c_char_p]
    query_at = get_address(b"eglQueryDevicesEXT")
    display_at = get_address(b"eglGetPlatformDisplayEXT")
    if not query_at or not display_at:
        return False
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(query_at)
    platform_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(display_at)
    initialise = egl.eglInitialize
    initialise.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    devices = (ctypes.c_void_p * 16)()
    count = ctypes.c_int(0)
    if not query(16, devices, ctypes.byref(count)):
        return False
    for index in range(count.value):
        display = platform_display(_EGL_PLATFORM_DEVICE, devices[index], None)
        if display and initialise(display, None, None):
            # Not terminated: EGL displays are shared per process, and mujoco will want this one.
            return True
    return False
