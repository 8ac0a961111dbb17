"""Drawing goes on after another engine in the process has ended its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from difftop_ros.sim.mujoco.gl import choose_backend

OURS = """
from difftop_ros.sim.mujoco.gl import make_context
def draw():
    make_context(64, 64).free()
"""
SUITE = """
from difftop_ros.sim.control_suite import ControlSuiteEnv
def draw():
    env = ControlSuiteEnv("cartpole-swingup", pixels=True)
    assert env.reset(seed=0)[0]["pixels"].std() > 5
    env.close()
"""
TERMINATED = """
draw()
import sys
from OpenGL import EGL
for name in ("mujoco.egl", "dm_control._render.pyopengl.egl_renderer"):
    if getattr(sys.modules.get(name), "EGL_DISPLAY", None) is not None:
        EGL.eglTerminate(sys.modules[name].EGL_DISPLAY)
draw()
"""


@pytest.mark.skipif(choose_backend() != "egl", reason="this machine does not draw by EGL")
@pytest.mark.parametrize("drawn", [OURS, SUITE], ids=["ours", "control suite"])
def test_a_terminated_display_is_woken(drawn: str) -> None:
    if drawn is SUITE:
        pytest.importorskip("dm_control", reason="the extra [dmcontrol] is not installed")
    done = subprocess.run(
        [sys.executable, "-c", drawn + TERMINATED], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
