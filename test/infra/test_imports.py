"""Imports run one way: nothing but nodes/ knows ROS, data and contract know no policy, the heavy come lazily."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "difftop_ros"
PROBE = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({name.split('.')[0] for name in sys.modules} | set(sys.modules))))
"""
ROS = {"rclpy", "rcl_interfaces", "sensor_msgs", "std_msgs", "launch", "difftop_ros.msg", "difftop_ros_interfaces"}
POLICIES = {"difftop_ros.policies", "difftop_ros.nets", "difftop_ros.learning"}


def modules(*areas: str) -> list[str]:
    """Every module of the areas by its dotted name; of commands what answers `--help`."""
    paths = [path for area in areas for path in sorted((PACKAGE / area).rglob("*.py"))]
    paths = [path for path in paths if PACKAGE / "commands" not in path.parents[1:] or path.stem == "__init__"]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def loaded(names: list[str]) -> set[str]:
    """What is in sys.modules of a fresh process that has imported `names`."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(names)], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


# area -> what must not be imported by any of its modules
FORBIDDEN = {
    "contract": ROS | POLICIES | {"torch", "difftop_ros.data", "difftop_ros.sim"},
    "messages": ROS | POLICIES | {"torch", "mujoco", "lightning", "difftop_ros.data", "difftop_ros.sim"},
    "data": ROS | POLICIES | {"torch", "mujoco", "lightning", "difftop_ros.sim", "difftop_ros.trajopt"},
    "trajopt": ROS | POLICIES | {"lightning", "mujoco", "difftop_ros.data", "difftop_ros.contract"},
    "space": ROS | POLICIES | {"torch", "lightning", "mujoco", "difftop_ros.data", "difftop_ros.sim"},
    "costs": ROS | POLICIES | {"lightning", "mujoco", "difftop_ros.data"},
    "nets": ROS | {"lightning", "mujoco", "difftop_ros.data", "difftop_ros.policies", "difftop_ros.learning"},
    "novelty": ROS | POLICIES | {"torch", "lightning", "mujoco", "difftop_ros.data", "difftop_ros.contract"},
    "policies": ROS | {"lightning", "mujoco", "zarr", "rosbags", "difftop_ros.learning"},
    "runtime": ROS | {"torch", "lightning", "mujoco", "zarr", "rosbags", "difftop_ros.nodes", "difftop_ros.learning"},
    "safety": ROS | POLICIES | {"torch", "lightning", "mujoco"},
    "sim": ROS | POLICIES | {"torch", "lightning"},
    "learning": ROS | {"difftop_ros.nodes"},
    "commands": {"torch", "rclpy", "numpy", "lightning", "mujoco", "cv2", "open3d"},
}


@pytest.mark.parametrize("area", FORBIDDEN)
def test_an_area_imports_no_more_than_it_may(area: Any) -> None:
    names = modules(area)
    assert len(names) > 1
    assert not loaded(names) & FORBIDDEN[area]


def test_every_area_is_watched() -> None:
    areas = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert areas == {*FORBIDDEN, "nodes"}
