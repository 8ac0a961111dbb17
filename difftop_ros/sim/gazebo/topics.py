"""What Gazebo and ROS say to each other: the bridge's YAML, and that of the controllers. Worlds are sdf.py's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from difftop_ros.contract import Contract
from difftop_ros.sim.gazebo.describe import Description
from difftop_ros.sim.gazebo.urdf import CONTROL_HZ

# ROS type -> Gazebo's, of those that are bridged here
GZ_TYPES = {
    "rosgraph_msgs/msg/Clock": "gz.msgs.Clock",
    "sensor_msgs/msg/Image": "gz.msgs.Image",
    "sensor_msgs/msg/CameraInfo": "gz.msgs.CameraInfo",
    "sensor_msgs/msg/PointCloud2": "gz.msgs.PointCloudPacked",
    "sensor_msgs/msg/JointState": "gz.msgs.Model",
    "trajectory_msgs/msg/JointTrajectory": "gz.msgs.JointTrajectory",
}
CONTROLLER = "joint_trajectory_controller"


def bridge(description: Description, contract: Contract | None = None) -> list[dict[str, Any]]:
    """Entries for ros_gz_bridge: clock and cameras; with a contract also the joints of Gazebo's own controllers."""
    entries = [_entry("/clock", "/clock", "rosgraph_msgs/msg/Clock")]
    for camera in [*description.cameras, *(c for body in description.robot for c in body.cameras)]:
        ros, gz = f"camera/{camera.name}", f"/camera/{camera.name}"
        for name, topic, kind in (
            ("color/image_raw", "image", "sensor_msgs/msg/Image"),
            ("color/camera_info", "camera_info", "sensor_msgs/msg/CameraInfo"),
            ("depth/image_raw", "depth_image", "sensor_msgs/msg/Image"),
            ("depth/camera_info", "camera_info", "sensor_msgs/msg/CameraInfo"),
            ("gazebo_points", "points", "sensor_msgs/msg/PointCloud2"),
        ):
            entries.append(_entry(f"{ros}/{name}", f"{gz}/{topic}", kind, lazy=True))
    if contract is not None:
        joints = next(o.topic for o in contract.observations.values() if o.kind == "joint_state")
        states = f"/world/{description.name}/model/robot/joint_state"
        entries.append(_entry(joints, states, "sensor_msgs/msg/JointState"))
        entries.append(
            _entry(contract.command.topic, "/model/robot/joint_trajectory", contract.command.type, "ROS_TO_GZ")
        )
    return entries


def _entry(ros: str, gz: str, kind: str, direction: str = "GZ_TO_ROS", lazy: bool = False) -> dict[str, Any]:
    entry = {
        "ros_topic_name": ros,
        "gz_topic_name": gz,
        "ros_type_name": kind,
        "gz_type_name": GZ_TYPES[kind],
        "direction": direction,
    }
    return {**entry, "lazy": True} if lazy else entry


def controllers(joints: Iterable[str]) -> dict[str, Any]:
    """Parameters of the controller manager, a broadcaster of states and one controller of trajectories."""
    return {
        "controller_manager": {
            "ros__parameters": {
                "update_rate": CONTROL_HZ,
                "use_sim_time": True,
                "joint_state_broadcaster": {"type": "joint_state_broadcaster/JointStateBroadcaster"},
                CONTROLLER: {"type": "joint_trajectory_controller/JointTrajectoryController"},
            }
        },
        CONTROLLER: {
            "ros__parameters": {
                "joints": list(joints),
                "command_interfaces": ["position"],
                "state_interfaces": ["position", "velocity"],
                "allow_nonzero_velocity_at_trajectory_end": True,
            }
        },
    }


def as_yaml(content: Any, comment: str) -> str:
    """YAML with a comment before it."""
    return f"# {comment}\n{yaml.safe_dump(content, sort_keys=False, width=120)}"
