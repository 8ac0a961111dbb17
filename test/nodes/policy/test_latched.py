"""What a camera says of itself once, before the policy node is there, is received all the same: over real DDS."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import parse_contract
from tools.patience import patience

CONTRACT = parse_contract("""
name: depth
rate_hz: 10
control_rate_hz: 50
command: {topic: /command, type: sensor_msgs/msg/JointState, joints: [{name: a, position: [-2, 2], velocity: 1}]}
observations:
  state: {kind: joint_state, topic: /joint_states, joints: [a]}
  cloud: {kind: depth_cloud, topic: /depth, camera_info: /info, frame: camera, points: 16}
""")
PUBLISHER = """
import sys, time
from difftop_ros.nodes.environment import prepare
prepare(local_only=True)
import numpy as np, rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from difftop_ros.messages.images import camera_info, depth_image
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import ros_types as t
rclpy.init()
node = rclpy.create_node("camera")
kept = DurabilityPolicy.TRANSIENT_LOCAL if sys.argv[1] == "once" else DurabilityPolicy.VOLATILE
info = node.create_publisher(t("sensor_msgs/msg/CameraInfo"), "/info", QoSProfile(depth=1, durability=kept))
best = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
depth = node.create_publisher(t("sensor_msgs/msg/Image"), "/depth", best)
joints = node.create_publisher(t("sensor_msgs/msg/JointState"), "/joint_states", 10)
k = np.array([[20.0, 0, 8], [0, 20, 8], [0, 0, 1]])
said = lambda: info.publish(camera_info(t, k, 16, 16, node.get_clock().now().nanoseconds / 1e9, "camera"))
said()
print("publishing", flush=True)
while True:
    now = node.get_clock().now().nanoseconds / 1e9
    depth.publish(depth_image(t, np.linspace(0.5, 1, 256, dtype=np.float32).reshape(16, 16), now, "camera", "32FC1"))
    joints.publish(joint_state(t, ["a"], now, np.array([0.1])))
    if sys.argv[1] == "again":
        said()
    time.sleep(0.05)
"""


@pytest.mark.parametrize("info", ["once", "again"])
def test_a_camera_info_is_received_whether_it_is_sent_once_or_again(info: str, ros_context: Any, spawn: Any) -> None:
    import sys

    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from difftop_ros.messages import ObservationPipeline
    from difftop_ros.nodes.policy.connections import Connections
    from difftop_ros.nodes.topics import deserialize
    from difftop_ros.runtime.clock import SystemTime

    spawn([sys.executable, "-c", PUBLISHER, info]).wait_for("publishing")
    node = rclpy.create_node("late", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    connections = Connections(node, CONTRACT, SystemTime(), 1)
    end = time.monotonic() + patience(20)
    while connections.streams.missing():
        assert time.monotonic() < end, connections.streams.missing()
        executor.spin_once(timeout_sec=0.1)
    now = time.time_ns()
    connections.streams.refuse_stale(CONTRACT, now)
    pick = connections.streams.request(now, 1, 0.1).picks[0]
    latest = {topic: (m.stamp_ns, deserialize(m.raw, m.kind)) for topic, m in pick.items()}
    cloud = ObservationPipeline(CONTRACT).observe(latest, now).frames["cloud"]
    assert cloud.shape == (16, 3)
    assert np.isfinite(cloud).all()
    connections.close()
    executor.shutdown()
    node.destroy_node()
