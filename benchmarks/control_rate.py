"""Measures the control loop beside camera callbacks: lateness p50 / p99 / max, ticks lost, command rate.

Three processes over real DDS: a publisher of joint states, pictures and clouds, or with --bridge the simulated robot;
the policy node with a policy given or a small untrained one; this one, which listens.

    python benchmarks/control_rate.py --seconds 60 --cloud 640x480
    python benchmarks/control_rate.py --seconds 60 --bridge
"""

from __future__ import annotations

import argparse
import array
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = """
name: control_rate
rate_hz: 20
control_rate_hz: {rate}
command:
  topic: /bench/command
  type: sensor_msgs/msg/JointState
  joints:
{joints}
observations:
  joints: {{kind: joint_state, topic: /bench/joint_states, joints: {names}, max_age_ms: 500}}
  cloud:
    kind: point_cloud
    topic: /bench/points
    frame: base
    crop: {{min: [-1, -1, 0.1], max: [1, 1, 3]}}
    voxel_m: 0.01
    points: 512
    max_age_ms: 1000
  picture: {{kind: image, topic: /bench/image, resize: [96, 128], max_age_ms: 1000}}
"""
NAMES = [f"joint{i}" for i in range(1, 8)]


def size(text: str) -> tuple[int, int]:
    """'640x480' -> (640, 480)."""
    width, height = text.lower().split("x")
    return int(width), int(height)


def contract_text(rate: float) -> str:
    """The benchmark's contract at a control rate [Hz]."""
    joints = "\n".join(f"    - {{name: {n}, position: [-2.9, 2.9], velocity: 2.0, acceleration: 40.0}}" for n in NAMES)
    return CONTRACT.format(rate=rate, joints=joints, names=NAMES)


def make_model(folder: Path, text: str) -> Path:
    """A small untrained policy under the contract `text`."""
    import torch

    from difftop_ros.contract import parse_contract
    from difftop_ros.policies import DifftopNet, Policy, PolicyConfig

    contract = parse_contract(text)
    return Policy(DifftopNet(contract, PolicyConfig()), contract, torch.device("cpu")).save(folder)


def publish(cloud: tuple[int, int], hz: float) -> None:
    """The publisher process: joint states at 100 Hz, one picture and one cloud of the given size at `hz`."""
    from difftop_ros.nodes.environment import prepare

    prepare(local_only=True)
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, JointState, PointCloud2

    from difftop_ros.messages.images import image
    from difftop_ros.messages.joints import joint_state
    from difftop_ros.messages.points import point_cloud2
    from difftop_ros.messages.types import ros_types

    rclpy.init()
    node = rclpy.create_node("bench_publisher")
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    random = np.random.default_rng(0)
    xyz = random.uniform([-1.5, -1.5, 0], [1.5, 1.5, 3], (cloud[1], cloud[0], 3)).astype(np.float32)
    rgb = random.integers(0, 255, (cloud[1], cloud[0], 3), dtype=np.uint8)
    messages = {
        "/bench/points": (point_cloud2(ros_types, xyz, 0.0, "base", rgb), PointCloud2),
        "/bench/image": (image(ros_types, rgb, 0.0, "camera"), Image),
        "/bench/joint_states": (joint_state(ros_types, NAMES, 0.0, np.zeros(7)), JointState),
    }
    publishers = {topic: node.create_publisher(kind, topic, qos) for topic, (_, kind) in messages.items()}
    tick = 0
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    while not stop.is_set():
        due = [t for t in messages if t.endswith("joint_states") or tick % max(round(100 / hz), 1) == 0]
        for topic in due:
            message = messages[topic][0]
            message.header.stamp = node.get_clock().now().to_msg()
            publishers[topic].publish(message)
        tick += 1
        stop.wait(0.01)


def listen(seconds: float, topic: str) -> dict[str, str]:
    """Wait for the node to be active, let it run for `seconds`, return its last diagnostics and the commands seen.

    Beside a simulation (whose /clock is heard) `sim_seconds` passed between the first and the last command.
    """
    from difftop_ros.nodes.environment import prepare

    prepare(local_only=True)
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import qos_profile_sensor_data
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import JointState

    rclpy.init()
    node = rclpy.create_node("bench_listener")
    figures: dict[str, str] = {}
    times, sim_times, now = array.array("d"), array.array("d"), [0.0]

    def on_diagnostics(message: DiagnosticArray) -> None:
        if message.status[0].name != "difftop_policy":
            return
        figures.update({v.key: v.value for v in message.status[0].values}, message=message.status[0].message)

    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)

    def on_clock(message: Clock) -> None:
        now[0] = message.clock.sec + message.clock.nanosec / 1e9

    def on_command(_: JointState) -> None:
        times.append(time.monotonic())
        sim_times.append(now[0])

    node.create_subscription(JointState, topic, on_command, 100)
    node.create_subscription(Clock, "/clock", on_clock, qos_profile_sensor_data)
    end = time.monotonic() + 90
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
        if len(times) == 1:
            end = min(end, times[0] + seconds)
    rclpy.shutdown()
    if len(times) > 1:
        figures["command_rate_hz"] = f"{(len(times) - 1) / (times[-1] - times[0]):.2f}"
        if now[0]:
            figures["sim_seconds"] = f"{sim_times[-1] - sim_times[0]:.3f}"
            figures["command_rate_sim_hz"] = f"{(len(times) - 1) / (sim_times[-1] - sim_times[0]):.2f}"
    return figures


def main() -> int:
    """Run the benchmark; 0 when no tick was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=50.0, help="control rate [Hz]")
    parser.add_argument("--cloud", type=size, default=(160, 120), help="points per cloud, also the picture's size")
    parser.add_argument("--hz", type=float, default=20.0, help="rate of picture and cloud")
    parser.add_argument("--bridge", action="store_true", help="beside the simulated robot, in its time")
    parser.add_argument("--model", type=Path, help="policy folder (default: a small untrained one)")
    parser.add_argument("--process", action=argparse.BooleanOptionalAction, default=True, help="planner_process")
    parser.add_argument("--priority", type=int, default=10, help="realtime_priority")
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.publish:
        publish(args.cloud, args.hz)
        return 0
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + secrets.randbelow(100)))
    sys.path.insert(0, str(ROOT))
    from difftop_ros.nodes.environment import clean_shared_memory, ros_environment

    env = ros_environment(local_only=True)
    env["PYTHONPATH"] = os.pathsep.join(p for p in (str(ROOT), env.get("PYTHONPATH", "")) if p)
    text = (ROOT / "config/panda_table.yaml").read_text() if args.bridge else contract_text(args.rate)
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or make_model(Path(folder) / "model", text)
        streams = [sys.executable, __file__, "--publish", "--cloud", "x".join(map(str, args.cloud)), "--hz", args.hz]
        if args.bridge:
            bridge = "difftop_ros.nodes.simulation.bridge.node"
            streams = [sys.executable, "-m", bridge, "--ros-args", "-p", "task:=reach"]
        settings = {
            "model": model, "autostart": "true", "resume_motion": "true", "planner_process": str(args.process).lower(),
            "realtime_priority": args.priority, "max_plan_age_ms": 2000.0, "use_sim_time": str(args.bridge).lower(),
        }  # fmt: skip
        node = [sys.executable, "-m", "difftop_ros.nodes.policy.node", "--ros-args"]
        node += [part for name, value in settings.items() for part in ("-p", f"{name}:={value}")]
        started = [subprocess.Popen([str(part) for part in command], env=env) for command in (streams, node)]
        try:
            figures = listen(args.seconds, "/joint_command" if args.bridge else "/bench/command")
        finally:
            for process in reversed(started):
                process.send_signal(signal.SIGINT)
            for process in started:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
            clean_shared_memory()
    print(json.dumps({k: figures[k] for k in sorted(figures)}, indent=2))
    return 0 if figures.get("ticks_lost") == "0" else 1


if __name__ == "__main__":
    sys.exit(main())
