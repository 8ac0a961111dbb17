"""Peak memory and time of reading training windows from a large dataset on disk, and of training on it.

Run `python -m benchmarks.reading_windows --folder /somewhere` (it writes 1.5 GB there, once). Random numbers, which no
compression makes smaller: 100 episodes of 500 steps, each a picture of 84 x 84, a cloud of 512 points and 4 joints.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from difftop_ros.contract import Contract, load_contract
from difftop_ros.data import EpisodeDataset, WindowDataset
from difftop_ros.data.episodes.ingest import prepare
from difftop_ros.data.episodes.report import BagResult, IngestReport
from difftop_ros.data.episodes.store import ACTION, EpisodeWriter
from difftop_ros.messages import ObservationPipeline
from difftop_ros.paths import share_path


def both_eyes() -> Contract:
    """Meta-World's contract with picture and cloud."""
    cloud, image = (load_contract(share_path(f"config/metaworld_{kind}.yaml")) for kind in ("cloud", "image"))
    return cloud.model_copy(update={"name": "both_eyes", "observations": {**image.observations, **cloud.observations}})


def write_dataset(folder: Path, episodes: int, steps: int) -> None:
    """A dataset as ingest makes it, of random numbers; nothing when it is there."""
    if (folder / "report.json").is_file():
        return
    contract, rng = both_eyes(), np.random.default_rng(0)
    prepare(folder, contract)
    spec = {**ObservationPipeline(contract).spec, ACTION: ((4,), np.dtype(np.float64))}
    report = IngestReport(str(folder))
    for number in range(episodes):
        name = f"bags/random-{number:03d}/part_000"
        writer = EpisodeWriter(folder / name, spec, steps)
        for _ in range(steps):
            writer.append({key: _random(rng, shape, dtype) for key, (shape, dtype) in spec.items()})
        first = number * steps * 12_500_000
        writer.close({"bag": name, "success": True, "first_ns": first, "last_ns": first + (steps - 1) * 12_500_000})
        report.bags.append(BagResult(name, episodes=[name], steps=steps, success=True))
    report.save(folder / "report.json")


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if dtype == np.uint8:
        return np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
    return rng.uniform(-0.4, 0.4, shape).astype(dtype)


def read(folder: Path, memory_mb: float, batches: int) -> dict[str, float]:
    """Random batches of 128 windows with 2 frames of history and 16 actions."""
    began = time.monotonic()
    windows = WindowDataset(EpisodeDataset(folder), 2, 16, memory_mb=memory_mb)
    opened = time.monotonic() - began
    order = np.random.default_rng(0).permutation(len(windows))
    times = []
    for number in range(batches):
        start = time.monotonic()
        windows.batch(order[number * 128 : (number + 1) * 128])
        times.append(time.monotonic() - start)
    return {"open_s": opened, "batch_ms": float(np.median(times)) * 1e3, "peak_gb": peak_gb()}


def fit(folder: Path, steps: int) -> dict[str, float]:
    """A small behaviour cloning policy by the trainer that `difftop train` uses."""
    from difftop_ros.learning.imitation.train import train
    from difftop_ros.learning.settings import TrainSettings

    settings = TrainSettings.from_values({"policy": "bc", "steps": steps, "batch": 128, "obs_steps": 2, "threads": 1})
    began = time.monotonic()
    train(EpisodeDataset(folder), settings, folder / f"model-{os.getpid()}")
    return {"seconds": time.monotonic() - began, "peak_gb": peak_gb()}


def peak_gb() -> float:
    """Largest resident memory of this process so far [GB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> int:
    """Prints one line for each way to read, each measured in a process of its own; 1 when one needs 4 GB or more."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the dataset is, or is written")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=500, help="of each episode")
    parser.add_argument("--memory-mb", type=float, nargs="+", default=[2048.0, 256.0])
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--training-steps", type=int, default=30, help="0 for no training")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # the job of a child
    args = parser.parse_args()
    if args.only:
        job, _, value = args.only.partition("=")
        found = fit(args.folder, int(value)) if job == "fit" else read(args.folder, float(value), args.batches)
        print(json.dumps(found))
        return 0
    write_dataset(args.folder, args.episodes, args.steps)
    jobs = [f"read={mb}" for mb in args.memory_mb] + ([f"fit={args.training_steps}"] if args.training_steps else [])
    peaks = []
    for job in jobs:
        words = [sys.executable, "-m", "benchmarks.reading_windows", "--folder", str(args.folder), "--only", job]
        done = subprocess.run([*words, "--batches", str(args.batches)], capture_output=True, text=True)
        if done.returncode:
            print(f"{job}: failed: {done.stderr.splitlines()[-1:]}", file=sys.stderr)
            return 2
        found = json.loads(done.stdout.splitlines()[-1])
        peaks.append(found["peak_gb"])
        print(f"{job}: " + "  ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
    return int(max(peaks) >= 4.0)


if __name__ == "__main__":
    sys.exit(main())
