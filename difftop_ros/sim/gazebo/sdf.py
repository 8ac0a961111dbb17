"""A description as SDF: the world with its things, alone or with the robot under Gazebo's own joint controllers.

The robot under ros2_control is urdf.py's. Names of plugins are those of Gazebo Harmonic and later.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from difftop_ros.sim.gazebo.describe import Body, Camera, Description, Pose, Servo, Shape
from difftop_ros.sim.gazebo.xml import add, text

SDF_VERSION = "1.9"  # what Gazebo Garden and later read, and Debian's libsdformat 12
STEP_S = 0.001
_WORLD_PLUGINS = {
    "gz-sim-physics-system": "Physics",
    "gz-sim-user-commands-system": "UserCommands",
    "gz-sim-sensors-system": "Sensors",
    "gz-sim-scene-broadcaster-system": "SceneBroadcaster",
    "gz-sim-contact-system": "Contact",
}
STIFF = {"kp": 1e6, "kd": 1e2}  # of contacts [N/m], [N s/m]: softer ones let a grasped cube sink into the fingers


@dataclass(frozen=True)
class Pictures:
    """width, height of pictures [px] and how many a second."""

    width: int
    height: int
    rate_hz: float


def world(description: Description, pictures: Pictures, comment: str, gains: Mapping[str, Servo] | None = None) -> str:
    """The world's SDF text. With `gains`, joint -> servo, the robot is in it, moved by Gazebo's own controllers."""
    root = ET.Element("sdf", version=SDF_VERSION)
    scene = add(root, "world", name=description.name)
    physics = add(scene, "physics", name="fine", type="ignored")
    add(physics, "max_step_size", STEP_S)
    add(physics, "real_time_factor", 1.0)
    for file, name in _WORLD_PLUGINS.items():
        plugin = add(scene, "plugin", filename=file, name=f"gz::sim::systems::{name}")
        if name == "Sensors":
            add(plugin, "render_engine", "ogre2")
    add(scene, "gravity", (0.0, 0.0, -9.81))
    ambience = add(scene, "scene")
    add(ambience, "ambient", (*description.ambient, 1))
    add(ambience, "background", (0.66, 0.73, 0.83, 1))
    add(ambience, "shadows", False)
    for number, light in enumerate(description.lights):
        sun = add(scene, "light", name=f"sun_{number}", type="directional")
        add(sun, "cast_shadows", False)
        add(sun, "diffuse", (*light.colour, 1))
        add(sun, "specular", (0, 0, 0, 1))
        add(sun, "direction", light.direction)
    fixed = _model(scene, "surroundings", static=True)
    link = add(fixed, "link", name="link")
    for shape in description.surroundings:
        _shape(link, shape)
    for camera in description.cameras:
        link = add(_model(scene, f"{camera.name}_camera", static=True), "link", name="link")
        sensor(link, camera, pictures, description)
    for thing in description.things:
        model = _model(scene, thing.name)
        add(model, "pose", (*thing.pose.xyz, *thing.pose.rpy))
        _link(model, thing, Pose(np.zeros(3), np.eye(3)), pictures, description)
    if gains is not None:
        _robot(scene, description, pictures, gains)
    return text(root, comment)


def _model(parent: ET.Element, name: str, static: bool = False) -> ET.Element:
    model = add(parent, "model", name=name)
    if static:
        add(model, "static", True)
    return model


def _robot(parent: ET.Element, description: Description, pictures: Pictures, gains: Mapping[str, Servo]) -> None:
    model = _model(parent, "robot")
    add(model, "self_collide", False)
    for body in description.robot:
        if not body.parent:
            joint = add(model, "joint", name=f"{body.name}_base", type="fixed")
            add(joint, "parent", "world")
            add(joint, "child", body.name)
        _link(model, body, body.pose, pictures, description)
    for body in description.robot:
        for name, pose in body.frames.items():
            _posed(add(model, "frame", name=name, attached_to=body.name), pose)
        if body.parent:
            _joint(model, body)
    _controllers(model, description, gains)


def _link(parent: ET.Element, body: Body, pose: Pose, pictures: Pictures, description: Description) -> None:
    link = add(parent, "link", name=body.name)
    _posed(link, pose, body.parent)
    if body.weightless:
        add(link, "gravity", False)
    inertial = add(link, "inertial")
    add(inertial, "pose", (*body.com, 0, 0, 0))
    add(inertial, "mass", body.mass)
    inertia = add(inertial, "inertia")
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
        add(inertia, f"i{'xyz'[row]}{'xyz'[column]}", float(body.inertia[row, column]))
    for shape in body.shapes:
        _shape(link, shape)
    for camera in body.cameras:
        sensor(link, camera, pictures, description)


def _posed(element: ET.Element, pose: Pose, relative_to: str = "") -> None:
    attributes = {"relative_to": relative_to} if relative_to else {}
    add(element, "pose", (*pose.xyz, *pose.rpy), **attributes)


def _joint(model: ET.Element, body: Body) -> None:
    joint = body.joint
    if joint is None:
        fixed = add(model, "joint", name=f"{body.name}_mount", type="fixed")
        add(fixed, "parent", body.parent)
        add(fixed, "child", body.name)
        return
    element = add(model, "joint", name=joint.name, type=joint.kind)
    add(element, "parent", body.parent)
    add(element, "child", body.name)
    axis = add(element, "axis")
    add(axis, "xyz", joint.axis)
    limit = add(axis, "limit")
    if np.isfinite(joint.lower):
        add(limit, "lower", joint.lower)
        add(limit, "upper", joint.upper)
    if joint.effort:
        add(limit, "effort", joint.effort)
    add(add(axis, "dynamics"), "damping", joint.damping)


def _shape(link: ET.Element, shape: Shape) -> None:
    for tag in ("visual", "collision") if shape.solid else ("visual",):
        part = add(link, tag, name=shape.name if tag == "visual" else f"{shape.name}_solid")
        _posed(part, shape.pose)
        geometry = add(add(part, "geometry"), shape.kind)
        if shape.kind == "box":
            add(geometry, "size", shape.size)
        elif shape.kind == "plane":
            add(geometry, "normal", (0, 0, 1))
            add(geometry, "size", (2 * shape.size[0], 2 * shape.size[1]))
        else:
            add(geometry, "radius", shape.size[0])
            if len(shape.size) > 1:
                add(geometry, "length", shape.size[1])
        if tag == "visual":
            material = add(part, "material")
            add(material, "ambient", shape.colour)
            add(material, "diffuse", shape.colour)
        else:
            surface = add(part, "surface")
            friction = add(add(surface, "friction"), "ode")
            add(friction, "mu", shape.friction)
            add(friction, "mu2", shape.friction)
            contact = add(add(surface, "contact"), "ode")
            for key, value in STIFF.items():
                add(contact, key, value)


def sensor(parent: ET.Element, camera: Camera, pictures: Pictures, description: Description) -> ET.Element:
    """An RGB-D camera: NAME/image, NAME/depth_image, NAME/camera_info in the frame NAME_optical_frame."""
    found = add(parent, "sensor", name=camera.name, type="rgbd_camera")
    _posed(found, camera.pose)
    add(found, "update_rate", pictures.rate_hz)
    add(found, "topic", f"camera/{camera.name}")
    add(found, "gz_frame_id", f"{camera.name}_optical_frame")
    lens = add(found, "camera", name=camera.name)
    add(lens, "optical_frame_id", f"{camera.name}_optical_frame")
    wide = 2 * np.arctan(np.tan(camera.fovy / 2) * pictures.width / pictures.height)
    add(lens, "horizontal_fov", float(wide))
    image = add(lens, "image")
    add(image, "width", pictures.width)
    add(image, "height", pictures.height)
    add(image, "format", "R8G8B8")
    clip = add(lens, "clip")
    add(clip, "near", description.near_m)
    add(clip, "far", description.far_m)
    return found


def _controllers(model: ET.Element, description: Description, gains: Mapping[str, Servo]) -> None:
    """Gazebo's JointTrajectoryController; its gains follow the order of the joints' names.

    Damping goes by the velocity's gain: by the position's it would act on the jumps of the target.
    """
    plugin = add(
        model,
        "plugin",
        filename="gz-sim-joint-trajectory-controller-system",
        name="gz::sim::systems::JointTrajectoryController",
    )
    joints = description.joints
    for name in gains:
        add(plugin, "joint_name", name)
    for name, gain in gains.items():
        add(plugin, "initial_position", joints[name].home)
        add(plugin, "position_p_gain", gain.stiffness)
        add(plugin, "position_cmd_min", -gain.effort)
        add(plugin, "position_cmd_max", gain.effort)
        add(plugin, "velocity_p_gain", gain.damping)
        add(plugin, "velocity_cmd_min", -gain.effort)
        add(plugin, "velocity_cmd_max", gain.effort)
    states = add(
        model, "plugin", filename="gz-sim-joint-state-publisher-system", name="gz::sim::systems::JointStatePublisher"
    )
    for name in joints:
        add(states, "joint_name", name)
