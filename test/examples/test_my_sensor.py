"""The example of a sensor kind of one's own: on a bag as a recorder writes it, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import rosbags_types, stamped

EXAMPLE = Path(__file__).parents[2] / "examples/my_sensor.py"
JOINT_STATE, WRENCH = "sensor_msgs/msg/JointState", "geometry_msgs/msg/WrenchStamped"
CONTRACT = {
    "name": "polishing",
    "rate_hz": 10,
    "control_rate_hz": 50,
    "command": {
        "topic": "/command", "type": JOINT_STATE, "joints": [{"name": "a", "position": [-1, 1], "velocity": 1}],
    },
    "observations": {
        "joints": {"kind": "joint_state", "topic": "/joint_states", "joints": ["a"]},
        "touch": {"kind": "wrench", "topic": "/wrist/wrench", "large_force_n": 20, "max_age_ms": 150},
    },
}  # fmt: skip


def record(folder: Path, steps: int) -> None:
    """A bag of `steps` at 10 Hz; the force along z grows by 1 N a step."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {"/joint_states": JOINT_STATE, "/wrist/wrench": WRENCH, "/command": JOINT_STATE}
        channels = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in kinds.items()}
        for step in range(steps):
            now = 100 + step / 10
            touch = stamped(rosbags_types, WRENCH, now, "wrist")
            touch.wrench.force.z, touch.wrench.torque.x = float(step), 2.5
            sent = {
                "/joint_states": joint_state(rosbags_types, ["a"], now, np.zeros(1)),
                "/wrist/wrench": touch,
                "/command": joint_state(rosbags_types, ["a"], now, np.ones(1)),
            }
            for topic, message in sent.items():
                writer.write(channels[topic], round(now * 1e9), bytes(store.serialize_cdr(message, kinds[topic])))


def test_a_bag_with_a_sensor_of_ones_own_becomes_a_dataset(tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(CONTRACT))
    record(tmp_path / "bag", 20)
    words = [str(tmp_path / name) for name in ("contract.yaml", "bag", "data")]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *words], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("touch: "))
    assert line.startswith("touch: (20, 6)")
    mean = json.loads(line.partition("mean ")[2])
    np.testing.assert_allclose(mean, [0, 0, 9.5 / 20, 0.5, 0, 0], atol=1e-3)
