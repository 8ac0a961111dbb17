"""Drawing goes on after another engine in the process has ended its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from difftop_ros.sim.mujoco.gl import choose_backend

TERMINATED = """
from mujoco import egl
from OpenGL import EGL
from difftop_ros.sim.mujoco.gl import make_context
make_context(64, 64).free()
EGL.eglTerminate(egl.EGL_DISPLAY)
make_context(64, 64).free()
"""


@pytest.mark.skipif(choose_backend() != "egl", reason="this machine does not draw by EGL")
def test_a_terminated_display_is_woken() -> None:
    done = subprocess.run([sys.executable, "-c", TERMINATED], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
