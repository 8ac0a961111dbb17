"""Time of one training step of the encoders of clouds: forward and backward, as many frames as a step has.

    python -m benchmarks.encoders_time                    two cores, 128 windows of 2 frames of 512 points
    python -m benchmarks.encoders_time --threads 1 --points 1024

Medians of thread CPU time are told beside the wall's, since another program slows the wall only.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from torch import Tensor, nn

from difftop_ros.learning.memory import keep_freed_memory
from difftop_ros.nets import PointCloudEncoder, PointTokenEncoder
from difftop_ros.policies import PolicyConfig

FEATURE = 64  # of each stream, as in ObservationEncoder


def encoders(config: PolicyConfig) -> dict[str, nn.Module]:
    """Name -> encoder with the options' sizes."""
    widths, keypoints = config.point_widths, config.keypoints
    groups = (config.point_groups, config.point_neighbours)
    found: dict[str, nn.Module] = {}
    for precision in ("float32", "bfloat16"):
        for name, encoder in (
            ("global", PointCloudEncoder(3, widths, keypoints, FEATURE)),
            ("tokens", PointTokenEncoder(3, widths, *groups, keypoints, FEATURE)),
        ):
            encoder.in_bfloat16 = precision == "bfloat16"
            found[f"{name}, {precision}"] = encoder.train()
    return found


def step_s(encoder: nn.Module, clouds: Tensor) -> tuple[float, float]:
    """Wall and CPU seconds of one forward and backward pass."""
    wall, cpu = time.perf_counter(), _cpu_s()
    encoder(clouds).square().mean().backward()
    return time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128, help="windows (default: 128)")
    parser.add_argument("--frames", type=int, default=2, help="of a window (default: 2)")
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    clouds = torch.randn(args.batch * args.frames, args.points, 3)
    print(f"{args.batch} x {args.frames} clouds of {args.points} points, {args.threads} threads, {torch.__version__}\n")
    print("| encoder | wall s, median | wall s, best | CPU s, median | parameters |\n|---|---|---|---|---|")
    for name, encoder in encoders(PolicyConfig()).items():
        step_s(encoder, clouds)
        walls, cpus = zip(*(step_s(encoder, clouds) for _ in range(args.repeats)), strict=True)
        size = sum(parameter.numel() for parameter in encoder.parameters())
        print(f"| {name} | {np.median(walls):.3f} | {min(walls):.3f} | {np.median(cpus):.3f} | {size / 1e3:.0f} k |")


if __name__ == "__main__":
    main()
