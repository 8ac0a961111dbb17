"""Everything that takes a GPU, in one command under ten minutes: tests, solves, training steps, the node.

Each figure stands beside the CPU's of the same run, and each result is compared with the CPU's. A table with the card's
name goes into --out. Without a GPU it says what it would run, and ends with 0.

    make gpu
    python -m benchmarks.gpu --parts solves training
    python -m benchmarks.gpu --device cpu --quick        the same program on a CPU, small: does it run at all?
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch

from benchmarks.gpu import solves, training
from benchmarks.solvers.report import machine
from difftop_ros.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
Part = Callable[[str, bool], str]


def run_tests(device: str, quick: bool) -> str:
    """The tests marked `gpu`. Raises SystemExit when one fails."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "test"]
    if quick:
        words.append("--collect-only")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    summary = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()[-200:]]
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}\ntests marked gpu: {summary[0]}")
    return summary[0]


def run_pixels(device: str, quick: bool) -> str:
    """Learning by trying from pictures, for some thousand control steps. Raises SystemExit when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "difftop_ros.cli", "train-rl", "--env", "cartpole-swingup", "--out", folder]
        words += ["--observe", "pixels", "--device", device, "--eval-episodes", "1"]
        words += ["--steps", "2000", "--random-steps", "1000"] if quick else ["--steps", "6000"]
        words += ["--eval-every", "2000"]
        return _last_lines(words, f"learning from pictures on {device}", 4)


def run_node(device: str, quick: bool) -> str:
    """The policy node with the shipped policy on the device, live on the simulated arm."""
    words = [sys.executable, "-m", "difftop_ros.cli", "demo", "--episodes", "1" if quick else "5", "--no-film"]
    words += ["--device", device]
    return _last_lines(words, f"the demo on {device}", 6)


def _last_lines(words: Sequence[str], what: str, count: int) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}\n{what} ended with {done.returncode}")
    return "\n".join(done.stdout.strip().splitlines()[-count:])


PARTS: dict[str, tuple[str, Part]] = {
    "tests": ("every test marked `gpu`: solvers, captured solves, terms, bounds checks against the CPU's results",
              run_tests),
    "solves": ("solves of both forms, with and without an added term, at batch 1 and 4,096: plain, captured as CUDA "
               "graphs, compiled and captured; costs against the CPU's", solves.table),
    "training": ("a training step of each policy, its loss against the CPU's", training.table),
    "pixels": ("learning by trying from pictures, 6,000 control steps", run_pixels),
    "node": ("the policy node on the device, five episodes of the demo", run_node),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small nets and batches: a trial, no measurement")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu/table.md"), help="where the table goes")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} sees none. With one, this would run:")
        for name in args.parts:
            print(f"- {name}: {PARTS[name][0]}")
        return 0
    written = [f"# On {machine(args.device)}\n\n{date.today().isoformat()}"]
    for name in args.parts:
        began = time.monotonic()
        print(f"{name}: {PARTS[name][0]} …", flush=True)
        found = PARTS[name][1](args.device, args.quick)
        written.append(f"## {name}\n\n{found}\n\n{time.monotonic() - began:.0f} s")
        write_whole(args.out, "\n\n".join(written) + "\n")
        print(f"{found}\n", flush=True)
    print(f"table: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
