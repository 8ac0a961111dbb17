"""A description's robot as URDF for ros2_control in Gazebo, its cameras as sensors. The world is sdf.py's."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

import numpy as np

from difftop_ros.sim.gazebo.describe import Body, Description, Pose, Shape
from difftop_ros.sim.gazebo.sdf import STIFF, Pictures, sensor
from difftop_ros.sim.gazebo.xml import add, number, numbers, text

CONTROL_HZ = 200  # of the controller manager
SYSTEM = "gz_ros2_control/GazeboSimSystem"


def robot(
    description: Description,
    pictures: Pictures,
    comment: str,
    velocities: Mapping[str, float],
    controllers: str,
) -> str:
    """URDF text. velocities: joint -> largest speed [rad/s | m/s]; controllers: the controller manager's YAML."""
    root = ET.Element("robot", name=description.name)
    add(root, "link", name="world")
    for body in description.robot:
        _link(root, body)
        for name, pose in body.frames.items():
            add(root, "link", name=name)
            mount = add(root, "joint", name=f"{name}_mount", type="fixed")
            _origin(mount, pose)
            add(mount, "parent", link=body.name)
            add(mount, "child", link=name)
    for body in description.robot:
        _joint(root, body, velocities)
    _control(root, description)
    for body in description.robot:
        _gazebo(root, body, pictures, description)
    plugin = add(
        add(root, "gazebo"),
        "plugin",
        filename="gz_ros2_control-system",
        name="gz_ros2_control::GazeboSimROS2ControlPlugin",
    )
    add(plugin, "parameters", controllers)
    add(plugin, "hold_joints", True)
    # speed = gain * rate * (target - position): this is the servos' own lag
    lag_s = max(servo.damping / servo.stiffness for servo in description.servos)
    add(plugin, "position_proportional_gain", 1 / (lag_s * CONTROL_HZ))
    return text(root, comment)


def _origin(element: ET.Element, pose: Pose) -> None:
    add(element, "origin", xyz=numbers(pose.xyz), rpy=numbers(pose.rpy))


def _link(root: ET.Element, body: Body) -> None:
    link = add(root, "link", name=body.name)
    inertial = add(link, "inertial")
    _origin(inertial, Pose(body.com, np.eye(3)))
    add(inertial, "mass", value=number(body.mass))
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    add(inertial, "inertia", **{f"i{'xyz'[r]}{'xyz'[c]}": number(float(body.inertia[r, c])) for r, c in pairs})
    for shape in body.shapes:
        for part in _parts(shape):
            for tag in ("visual", "collision") if shape.solid else ("visual",):
                element = add(link, tag, name=part.name if tag == "visual" else f"{part.name}_solid")
                _origin(element, part.pose)
                _geometry(element, part)
                if tag == "visual":
                    material = add(element, "material", name=f"{part.name}_colour")
                    add(material, "color", rgba=numbers(shape.colour))


def _parts(shape: Shape) -> list[Shape]:
    """URDF has no capsule: it is a cylinder and two spheres."""
    if shape.kind != "capsule":
        return [shape]
    radius, length = shape.size
    ends = [shape.pose.xyz + sign * length / 2 * shape.pose.rotation[:, 2] for sign in (-1, 1)]
    cylinder = Shape(shape.name, "cylinder", shape.size, shape.pose, shape.colour, shape.solid, shape.friction)
    return [
        cylinder,
        *(
            Shape(f"{shape.name}_end_{i}", "sphere", (radius,), Pose(end, np.eye(3)), shape.colour, shape.solid, 0.0)
            for i, end in enumerate(ends)
        ),
    ]


def _geometry(element: ET.Element, shape: Shape) -> None:
    geometry = add(element, "geometry")
    if shape.kind == "box":
        add(geometry, "box", size=numbers(shape.size))
    elif shape.kind == "cylinder":
        add(geometry, "cylinder", radius=number(shape.size[0]), length=number(shape.size[1]))
    else:
        add(geometry, "sphere", radius=number(shape.size[0]))


def _joint(root: ET.Element, body: Body, velocities: Mapping[str, float]) -> None:
    joint = body.joint
    name, kind = (f"{body.name}_mount", "fixed") if joint is None else (joint.name, joint.kind)
    element = add(root, "joint", name=name, type=kind)
    _origin(element, body.pose)
    add(element, "parent", link=body.parent or "world")
    add(element, "child", link=body.name)
    if joint is None:
        return
    add(element, "axis", xyz=numbers(joint.axis))
    ends = {} if joint.kind == "continuous" else {"lower": number(joint.lower), "upper": number(joint.upper)}
    add(element, "limit", **ends, effort=number(joint.effort), velocity=number(velocities[name]))
    add(element, "dynamics", damping=number(joint.damping))


def _control(root: ET.Element, description: Description) -> None:
    """What the controllers may command and read."""
    control = add(root, "ros2_control", name="GazeboSimSystem", type="system")
    add(add(control, "hardware"), "plugin", SYSTEM)
    for name, joint in description.joints.items():
        element = add(control, "joint", name=name)
        command = add(element, "command_interface", name="position")
        if np.isfinite(joint.lower):
            add(command, "param", joint.lower, name="min")
            add(command, "param", joint.upper, name="max")
        position = add(element, "state_interface", name="position")
        add(position, "param", joint.home, name="initial_value")
        add(element, "state_interface", name="velocity")
        add(element, "state_interface", name="effort")


def _gazebo(root: ET.Element, body: Body, pictures: Pictures, description: Description) -> None:
    element = add(root, "gazebo", reference=body.name)
    if body.weightless:
        add(element, "gravity", False)
    solid = [shape for shape in body.shapes if shape.solid]
    if solid:
        add(element, "mu1", solid[0].friction)
        add(element, "mu2", solid[0].friction)
        for key, value in STIFF.items():
            add(element, key, value)
    for camera in body.cameras:
        sensor(element, camera, pictures, description)
