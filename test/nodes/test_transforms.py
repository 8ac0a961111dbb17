"""TF over DDS: what a publisher latched and sends places clouds in the node, and `contract check` compares it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from difftop_ros.contract import parse_contract
from difftop_ros.data.bags.check import check
from tools.patience import patience

CONTRACT = {
    "name": "turning", "rate_hz": 10, "control_rate_hz": 50,
    "command": {"topic": "/command", "type": "sensor_msgs/msg/JointState",
                "joints": [{"name": "turn", "position": [-3, 3], "velocity": 2}]},
    "observations": {
        "joints": {"kind": "joint_state", "topic": "/joint_states", "joints": ["turn"],
                   "max_age_ms": 60_000},
        "cloud": {"kind": "point_cloud", "topic": "/points", "frame": "base", "points": 8, "max_age_ms": 60_000,
                  "transform": {"from_frame": "eye", "tf": True}},
    },
}  # fmt: skip
URDF = """<robot name="r"><link name="base"/><link name="arm"/><link name="eye"/>
<joint name="turn" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 0 1"/></joint>
<joint name="mount" type="fixed"><parent link="arm"/><child link="eye"/><origin xyz="{x} 0 0"/></joint></robot>"""

# Sends what is fixed once, before anybody listens, and then 4 s of an arm that turns with a camera on it.
ARM = """
import time
from difftop_ros.nodes import environment as ros_env
ros_env.prepare(local_only=True)
import numpy as np, rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from scipy.spatial.transform import Rotation
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import ros_types
rclpy.init()
node = rclpy.create_node("arm")
kind = ros_types("tf2_msgs/msg/TFMessage")
def tf(parent, child, at, xyz, turn):
    told = ros_types("geometry_msgs/msg/TransformStamped")()
    told.header.frame_id, told.child_frame_id = parent, child
    told.header.stamp.sec, told.header.stamp.nanosec = divmod(round(at * 1e9), 10**9)
    told.transform.translation.x, told.transform.translation.y, told.transform.translation.z = xyz
    q = Rotation.from_rotvec([0, 0, turn]).as_quat()
    r = told.transform.rotation
    r.x, r.y, r.z, r.w = q
    return kind(transforms=[told])
fixed = node.create_publisher(kind, "/tf_static", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
fixed.publish(tf("arm", "eye", 0, (0.5, 0.0, 0.0), 0.0))
moving = node.create_publisher(kind, "/tf", 100)
joints = node.create_publisher(ros_types("sensor_msgs/msg/JointState"), "/joint_states", 100)
points = node.create_publisher(ros_types("sensor_msgs/msg/PointCloud2"), "/points", 10)
print("ready", flush=True)
while any(p.get_subscription_count() < 1 for p in (moving, joints, points)):
    time.sleep(0.02)
target = np.random.default_rng(0).uniform(0.2, 0.6, (8, 3))
for step in range(4000):
    now = time.time()
    angle = 0.5 * np.sin(now)
    joints.publish(joint_state(ros_types, ["turn"], now, np.array([angle])))
    moving.publish(tf("base", "arm", now, (0.0, 0.0, 0.0), angle))
    if step % 5 == 0:
        seen = Rotation.from_rotvec([0, 0, -angle]).apply(target) - [0.5, 0, 0]
        points.publish(point_cloud2(ros_types, seen.astype(np.float32), now, "eye"))
    time.sleep(0.01)
"""


def test_a_running_graph_places_clouds_and_is_compared_with_the_model(
    ros_context: Any, spawn: Any, tmp_path: Path
) -> None:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from difftop_ros.nodes.listening import listen
    from difftop_ros.nodes.policy.connections import Connections
    from difftop_ros.nodes.topics import deserialize
    from difftop_ros.runtime.clock import SystemTime
    from difftop_ros.runtime.worker import PolicyWorker

    (tmp_path / "arm.urdf").write_text(URDF.format(x=0.5))
    (tmp_path / "other.urdf").write_text(URDF.format(x=0.52))
    contract = parse_contract(yaml.safe_dump({**CONTRACT, "robot": {"description": str(tmp_path / "arm.urdf")}}))
    arm = spawn([sys.executable, "-c", ARM])
    arm.wait_for("ready")
    node = rclpy.create_node("listener", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    source = SystemTime()
    connections, worker = Connections(node, contract, source, 1), PolicyWorker(None, contract, deserialize)
    target, seen = np.random.default_rng(0).uniform(0.2, 0.6, (8, 3)), 0
    deadline = time.monotonic() + patience(60)
    while seen < 20:
        assert time.monotonic() < deadline, arm.output()
        executor.spin_once(timeout_sec=0.05)
        request = connections.streams.request(connections.streams.synchronised_ns(source.now_ns(), 10**9), 1, 0.1)
        if connections.streams.missing() or {"/tf", "/tf_static"} - {topic for topic, _ in request.followed}:
            continue
        frames, _ = worker.observe(request)
        near = np.linalg.norm(frames["cloud"][0][:, None] - target[None], axis=2).min(1)
        seen += bool(near.max() < 1e-4)  # else the transform of the cloud's own stamp is under way still
    connections.close()
    executor.shutdown()
    node.destroy_node()
    offer = listen(contract, 1.5)
    (found,) = [finding for finding in check(contract, offer, live=True) if finding.subject == "tf"]
    assert found.level == "ok" and "put 2 frames where the model does, from 'base' within 0." in found.text
    other = parse_contract(yaml.safe_dump({**CONTRACT, "robot": {"description": str(tmp_path / "other.urdf")}}))
    (found,) = [finding for finding in check(other, listen(other, 1.5), live=True) if finding.subject == "tf"]
    assert found.level == "warning" and "put 'eye' 20.0 mm and 0.00 deg from where robot.description does" in found.text
