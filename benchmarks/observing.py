"""What a plan pays for its observation: serialised messages of a camera to the frames that a policy sees, on one core.

Clouds of 307,200 points of a made-up desk, organised and not, and a picture; each stage's median and 99th percentile,
and beside it the same crop, voxels and farthest points by Open3D's tensor API, in turns in the same run.

    python -m benchmarks.observing
    python -m benchmarks.observing --points 1024 --voxel 0.005 --repeats 200
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before Open3D is loaded

import cv2
import numpy as np
import yaml

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.messages import ObservationPipeline
from difftop_ros.messages.images import image
from difftop_ros.messages.points import point_cloud2
from difftop_ros.messages.types import read_large, rosbags_types
from difftop_ros.sim.desk import CAMERA, CAMERA_FRAME, CROP, FRAME, QUAT_XYZW, Desk, desk
from difftop_ros.stages import measured, stage

CLOUD, IMAGE = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image"


def contract(points: int, voxel_m: float) -> Contract:
    """A cloud cropped, put into voxels of `voxel_m` [m] (0: none) and thinned to `points`; a small picture."""
    cloud = {
        "kind": "point_cloud", "topic": "/cloud", "frame": FRAME, "points": points, "color": True,
        "crop": {"min": list(CROP[0]), "max": list(CROP[1])},
        "transform": {"from_frame": CAMERA_FRAME, "xyz": list(CAMERA), "quat_xyzw": list(QUAT_XYZW)},
        **({"voxel_m": voxel_m} if voxel_m else {}),
    }  # fmt: skip
    return parse_contract(yaml.safe_dump({
        "name": "observing", "rate_hz": 20, "control_rate_hz": 50,
        "command": {"topic": "/c", "type": "sensor_msgs/msg/JointState",
                    "joints": [{"name": "a", "position": [-1, 1], "velocity": 1}]},
        "observations": {
            "joints": {"kind": "joint_state", "topic": "/j", "joints": ["a"]},
            "cloud": cloud,
            "picture": {"kind": "image", "topic": "/image", "resize": [96, 128]},
        },
    }))  # fmt: skip


def layouts(seen: Desk) -> dict[str, bytes]:
    """Serialised clouds: as a driver's depth camera sends them, and shuffled points with gaps between the fields."""
    order = np.random.default_rng(1).permutation(seen.depth.size)
    flat, colour = seen.xyz.reshape(-1, 3)[order], seen.colour.reshape(-1, 3)[order]
    return {
        "organised, 16 bytes a point": serialised(
            point_cloud2(rosbags_types, seen.xyz, 0.0, CAMERA_FRAME, seen.colour), CLOUD
        ),
        "unorganised, 32 bytes a point": serialised(
            point_cloud2(rosbags_types, flat, 0.0, CAMERA_FRAME, colour, padding=4), CLOUD
        ),
    }


def serialised(message: object, kind: str) -> bytes:
    """The message as it travels."""
    from rosbags.typesys import Stores, get_typestore

    return bytes(get_typestore(Stores.ROS2_JAZZY).serialize_cdr(message, kind))


def by_open3d(raw: bytes, points: int, voxel_m: float) -> Callable[[], None]:
    """The same by Open3D: message, transform, crop, voxels, farthest points."""
    import open3d as o3d

    pose = np.eye(4, dtype=np.float32)
    from scipy.spatial.transform import Rotation

    pose[:3, :3], pose[:3, 3] = Rotation.from_quat(QUAT_XYZW).as_matrix(), CAMERA
    core = o3d.core
    box = o3d.t.geometry.AxisAlignedBoundingBox(*(core.Tensor(np.float32(corner)) for corner in CROP))

    def run() -> None:
        message = read_large(raw, CLOUD)
        table = message.data.reshape(-1, message.point_step)
        offset = {field.name: field.offset for field in message.fields}
        xyz = np.stack([table[:, offset[a] : offset[a] + 4].copy().view("<f4")[:, 0] for a in "xyz"], axis=1)
        bits = table[:, offset["rgb"] : offset["rgb"] + 4].copy().view("<u4")
        cloud = o3d.t.geometry.PointCloud(core.Tensor(xyz))
        rgb = ((bits >> np.array([16, 8, 0], np.uint32)) & 255).astype(np.float32) / 255
        cloud.point.colors = core.Tensor(rgb)
        cloud = cloud.remove_non_finite_points()[0].transform(core.Tensor(pose)).crop(box)
        cloud = cloud.voxel_down_sample(voxel_m) if voxel_m else cloud
        cloud.farthest_point_down_sample(points)

    return run


def line(name: str, milliseconds: list[float]) -> str:
    """A row of the table."""
    median, late = np.percentile(milliseconds, [50, 99])
    return f"| {name} | {median:.2f} | {late:.2f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x480", help="width x height of the picture and of the cloud")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--voxel", type=float, default=0.01, help="[m]; 0: none")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--rarely", type=int, default=20, help="Open3D every so many repeats: it takes seconds")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = map(int, args.size.split("x"))
    seen = desk(width, height)
    pipeline = ObservationPipeline(contract(args.points, args.voxel))
    picture = serialised(image(rosbags_types, seen.colour, 0.0, CAMERA_FRAME), IMAGE)
    for name, raw in layouts(seen).items():
        rival, took = by_open3d(raw, args.points, args.voxel), {}
        whole: dict[str, list[float]] = {"Open3D": []}
        for turn in range(args.repeats + 3):
            with measured() as now:
                with stage("all"):
                    with stage("open"):
                        message = read_large(raw, CLOUD)
                    pipeline.decode("cloud", {"/cloud": message})
                with stage("image with its bytes"):
                    pipeline.decode("picture", {"/image": read_large(picture, IMAGE)})
            if turn < 3:  # what is loaded or allocated once is not counted
                continue
            for part, ms in now.items():
                took.setdefault(part, []).append(ms)
            if turn % args.rarely == 0:
                begin = time.perf_counter()
                rival()
                whole["Open3D"].append(1e3 * (time.perf_counter() - begin))
        print(f"\n{name}: {width} x {height} -> {args.points} points, voxels of {args.voxel:g} m\n")
        print("| stage | p50 [ms] | p99 [ms] |\n|---|---|---|")
        print("\n".join([*(line(part, ms) for part, ms in took.items()), line("Open3D", whole["Open3D"])]))
        ratio = np.median(whole["Open3D"]) / np.median(took["all"])
        print(f"\nOpen3D takes {ratio:.1f} times as long.")


if __name__ == "__main__":
    main()
