"""What Drake's own reader leaves out of an SDF world made for Gazebo: cameras, gains of controllers, weightless links.

Physics and pictures are world.py's and stage.py's.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.sim.errors import SimError

# Gazebo's cameras look along x with z up; REP-103 optical frames along z with y down.
GAZEBO_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_GAZEBO_ALONE = ("plugin", "sensor", "physics", "gravity", "self_collide", "light", "scene")


@dataclass(frozen=True)
class SdfCamera:
    """link_from_optical (4, 4) [m]; fovy: vertical angle of view [rad]; near, far [m]."""

    model: str
    link: str
    link_from_optical: np.ndarray
    fovy: float
    near: float
    far: float


@dataclass(frozen=True)
class Gains:
    """Of Gazebo's JointTrajectoryController: force = position * error - velocity * speed, each at most effort.

    initial: the first target.
    """

    position: float
    velocity: float
    effort: float
    initial: float


@dataclass(frozen=True)
class SdfWorld:
    """robot: name of the model with the controllers; weightless: models of which every link floats.

    bodies: the SDF without plugins and sensors, as Drake reads it. ambient: RGB 0..1 of light from everywhere; lights:
    directions (3,) and RGB.
    """

    path: Path
    bodies: str
    robot: str
    gains: dict[str, Gains]
    cameras: dict[str, SdfCamera]
    weightless: tuple[str, ...]
    ambient: tuple[float, ...]
    lights: tuple[tuple[np.ndarray, tuple[float, ...]], ...]


def read_world(path: Path) -> SdfWorld:
    """Reads an SDF world. Raises SimError for a file that is none, or whose robot has no JointTrajectoryController."""
    try:
        world = ET.parse(path).getroot().find("world")
    except (OSError, ET.ParseError) as error:
        raise SimError(f"the world '{path}' cannot be read: {error}; give an SDF file with a <world>") from error
    if world is None:
        raise SimError(f"'{path}' has no <world>; the engine drake runs SDF worlds such as config/gazebo's")
    models = {str(model.get("name")): model for model in world.findall("model")}
    driven = {n: p for n, m in models.items() for p in m.findall("plugin") if "JointTraj" in str(p.get("name"))}
    if len(driven) != 1:
        raise SimError(
            f"'{path}' has {len(driven)} models with a JointTrajectoryController; the engine drake needs the one whose "
            "gains it takes: see config/gazebo/panda_table.sdf"
        )
    ((robot, plugin),) = driven.items()
    weightless = tuple(n for n, m in models.items() if m.find("link") is not None and all(map(_floats, m.iter("link"))))
    cameras = {
        str(sensor.get("name")): _camera(name, str(link.get("name")), sensor)
        for name, model in models.items()
        for link in model.findall("link")
        for sensor in link.findall("sensor[@type='rgbd_camera']")
    }
    lights = tuple((np.array(_row(light, "direction")), _row(light, "diffuse")[:3]) for light in world.findall("light"))
    ambient = _row(world, "scene/ambient")[:3]
    return SdfWorld(path, _bodies(world), robot, _gains(plugin), cameras, weightless, ambient, lights)


def _row(element: ET.Element, path: str) -> tuple[float, ...]:
    return tuple(float(v) for v in (element.findtext(path) or "0 0 0").split())


def _bodies(world: ET.Element) -> str:
    """Drake's reader takes elements that it does not know for errors; what they say stands in SdfWorld."""
    bare = copy.deepcopy(world)
    for parent in list(bare.iter()):
        for child in [child for child in parent if child.tag in _GAZEBO_ALONE]:
            parent.remove(child)
    root = ET.Element("sdf", version="1.9")
    root.append(bare)
    return ET.tostring(root, encoding="unicode")


def _floats(link: ET.Element) -> bool:
    return link.findtext("gravity", "true").strip() in ("false", "0")


def _gains(plugin: ET.Element) -> dict[str, Gains]:
    def column(tag: str) -> list[float]:
        return [float(element.text or 0) for element in plugin.findall(tag)]

    names = [element.text or "" for element in plugin.findall("joint_name")]
    tags = ("position_p_gain", "velocity_p_gain", "position_cmd_max", "initial_position")
    return {name: Gains(*row) for name, *row in zip(names, *(column(tag) for tag in tags), strict=True)}


def _camera(model: str, link: str, sensor: ET.Element) -> SdfCamera:
    pose = np.eye(4)
    numbers = [float(v) for v in sensor.findtext("pose", "0 0 0 0 0 0").split()]
    pose[:3, 3] = numbers[:3]
    pose[:3, :3] = Rotation.from_euler("xyz", numbers[3:]).as_matrix() @ GAZEBO_FROM_OPTICAL

    def value(path: str) -> float:
        return float(sensor.findtext(f"camera/{path}", "nan"))

    shape = value("image/height") / value("image/width")
    fovy = float(2 * np.arctan(np.tan(value("horizontal_fov") / 2) * shape))
    return SdfCamera(model, link, pose, fovy, value("clip/near"), value("clip/far"))
