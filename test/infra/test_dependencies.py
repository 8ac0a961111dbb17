"""Declared and pinned dependencies: everything imported is declared, everything declared is pinned exactly."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Import names that differ from the distribution's name.
DISTRIBUTION = {
    "cv2": "opencv-python-headless",
    "open3d": "open3d-cpu",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "pydantic_core": "pydantic",
    "theseus": "theseus-ai",
    "pydrake": "drake",
    "pxr": "usd-core",
    "foxglove": "foxglove-sdk",
    "google": "protobuf",
}
OURS = {"difftop_ros", "benchmarks", "tools", *(path.stem for path in (ROOT / "test/support").glob("*.py"))}
# Part of ROS 2 itself: from the wheels in the extra [ros], or from the ROS 2 installation.
ROS = re.compile(
    r"rclpy|rcl_interfaces|launch(_ros)?|ament_index_python|builtin_interfaces|rosidl_\w+|rpyutils|[a-z]+_msgs|std_srvs|simulation_interfaces"
)


def declared() -> tuple[list[str], dict[str, list[str]]]:
    """BASE and EXTRAS of setup.py, read without running it."""
    values = {}
    for statement in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if name in ("BASE", "EXTRAS"):
                values[name] = ast.literal_eval(statement.value)
    return values["BASE"], values["EXTRAS"]


def bare(requirement: str) -> str:
    """'ros-rclpy[fastrtps]<8' -> 'ros-rclpy', in the spelling of constraints.txt."""
    return re.split(r"[\[<>=!~ ;]", requirement)[0].lower().replace("_", "-")


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_constraints_are_exact_versions_only() -> None:
    for line in pins():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*( ; .+)?", line), line


def test_everything_declared_is_pinned() -> None:
    base, extras = declared()
    pinned = {bare(line) for line in pins()}
    assert {bare(r) for r in [*base, *(r for group in extras.values() for r in group)]} <= pinned


def test_a_robot_needs_no_simulator_and_no_training_library() -> None:
    base, extras = declared()
    robot = {bare(r) for r in [*base, *extras["ros"]]}
    assert not robot & {"mujoco", "lightning", "pytorch-lightning", "tensorboard", "matplotlib", "pytest"}


def imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports in a file, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("folder", ["difftop_ros", "test"])
def test_everything_imported_is_declared(folder: str) -> None:
    base, extras = declared()
    tools = {"colcon"} if folder == "test" else {"colcon", "dev"}
    wanted = [*base, *(r for name, group in extras.items() if name not in tools for r in group)]
    known = {bare(r) for r in wanted} | {"theseus-ai"}  # which the Makefile installs without its declared needs
    missing = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in imported(path) - sys.stdlib_module_names - OURS:
            if not ROS.fullmatch(name) and DISTRIBUTION.get(name, name).lower().replace("_", "-") not in known:
                missing.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert not missing, "declare these in setup.py and pin them in constraints.txt"


def test_the_core_imports_no_rclpy() -> None:
    for path in sorted((ROOT / "difftop_ros").rglob("*.py")):
        if "nodes" not in path.relative_to(ROOT).parts and path.parent.name != "commands" and path.name != "cli.py":
            assert "rclpy" not in imported(path), path
