"""The contract and the untrained policy that `difftop bench node` takes without a model: joints, a picture, a cloud."""

from __future__ import annotations

from pathlib import Path

import yaml

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.sim.desk import CAMERA, CAMERA_FRAME, CROP, FRAME, QUAT_XYZW

NAMES = [f"joint{i}" for i in range(1, 8)]


def contract() -> Contract:
    """A seven-joint arm at 20 Hz policy steps and 50 Hz control, with the desk in front of it."""
    joints = [{"name": n, "position": [-2.8, 2.8], "velocity": 2.0, "acceleration": 10.0, "jerk": 5e3} for n in NAMES]
    observations = {
        "joints": {"kind": "joint_state", "topic": "joint_states", "joints": NAMES, "max_age_ms": 200},
        "cloud": {
            "kind": "point_cloud", "topic": "points", "frame": FRAME, "points": 512, "voxel_m": 0.01, "max_age_ms": 300,
            "crop": {"min": list(CROP[0]), "max": list(CROP[1])}, "color": True,
            "transform": {"from_frame": CAMERA_FRAME, "xyz": list(CAMERA), "quat_xyzw": list(QUAT_XYZW)},
        },
        "picture": {"kind": "image", "topic": "image", "resize": [96, 128], "max_age_ms": 300},
    }  # fmt: skip
    document = {
        "name": "bench_node", "rate_hz": 20, "control_rate_hz": 50, "observations": observations,
        "command": {"topic": "joint_command", "type": "sensor_msgs/msg/JointState", "joints": joints},
    }  # fmt: skip
    return parse_contract(yaml.safe_dump(document))


def save_policy(folder: Path) -> Path:
    """A policy with fresh weights under `contract`, of the sizes that `difftop train` gives one, in a model folder."""
    import torch

    from difftop_ros.policies import DifftopNet, Policy, PolicyConfig

    torch.manual_seed(0)
    found = contract()
    return Policy(DifftopNet(found, PolicyConfig()), found, torch.device("cpu")).save(folder)
