"""`difftop train`: bags to a model folder. The work is learning/run.py's; this parses, prints and hears Ctrl-C."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from difftop_ros.learning.progress import Progress, Stopped

DESCRIPTION = """\
Ingests the bags (once; later runs take them from the cache), trains a policy by imitation, and writes a model folder
with weights, contract, model card, plots and, when the contract has a simulation, its measured success and a video.
Stopped with Ctrl-C, the same command goes on from the last checkpoint. 'tensorboard --logdir OUT/logs' shows the run.

  difftop train --bags bags --contract config/panda_table.yaml --out models/mine
  difftop train --bags bags --contract my_robot.yaml --out models/bc --policy bc --steps 3000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    from difftop_ros.learning.options import add_to

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument("--bags", nargs="+", default=[], type=Path, help="rosbag2 folders, or folders of them")
    parser.add_argument("--contract", type=Path, help="robot contract (default: the demo's, config/panda_table.yaml)")
    parser.add_argument("--out", required=True, type=Path, help="model folder to write")
    parser.add_argument(
        "--dataset",
        type=Path,
        help="where the ingested data goes (default: beside the first bags); without --bags: a dataset that is there",
    )
    parser.add_argument("--include-failures", action="store_true", help="train on episodes marked as failed too")
    add_to(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:0 or auto (default: auto)")
    parser.add_argument("--fresh", action="store_true", help="start over instead of going on with the run in --out")
    group = parser.add_argument_group("evaluation in simulation, when the contract has a sim section")
    group.add_argument("--eval-episodes", type=int, default=20, help="starts after training; 0 for none (default: 20)")
    group.add_argument("--task", help="reach, push or lift (default: the contract's sim.task)")


def run(args: argparse.Namespace) -> int:
    """Trains; returns 0 when the model folder is complete, 130 when a signal ended it before."""
    from difftop_ros.contract import load_contract
    from difftop_ros.learning.run import TrainingJob, run_training
    from difftop_ros.learning.settings import TrainSettings
    from difftop_ros.paths import share_path

    job = TrainingJob(
        bags=tuple(args.bags),
        contract=load_contract(args.contract or share_path("config/panda_table.yaml")),
        out=args.out,
        settings=TrainSettings.from_values(vars(args)),
        dataset=args.dataset,
        include_failures=args.include_failures,
        device=args.device,
        fresh=args.fresh,
        eval_episodes=args.eval_episodes,
        task=args.task,
        made_by=f"difftop {' '.join(shlex.quote(word) for word in sys.argv[1:])}",
    )
    try:
        with EndSignals() as asked:
            run_training(job, ProgressLine(), asked.is_set)
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return 130
    return 0


class EndSignals:
    """While entered, the first SIGINT or SIGTERM sets the event, so that work ends between steps; the next: at once."""

    def __enter__(self) -> threading.Event:
        self._asked = threading.Event()
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self._asked

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class ProgressLine:
    """Progress on a terminal: one line rewritten; elsewhere a line every 20 seconds. Messages always get their own."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        if progress.message:
            print(f"{progress.stage} {progress.step}/{progress.total_steps}: {progress.message}", flush=True)
            return
        now = time.monotonic()
        last = progress.step >= progress.total_steps
        if now < self._next and not last:
            return
        self._next = now + (1.0 if self._live else 20.0)
        shown = {k.removeprefix("train/"): v for k, v in progress.metrics.items() if k.endswith(("_mse", "loss"))}
        figures = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        text = (
            f"step {progress.step}/{progress.total_steps}  {figures}  {progress.steps_per_second:.1f} steps/s, "
            f"{progress.eta_s / 60:.1f} min to go"
        )
        end = "\n" if last or not self._live else ""
        print(f"\r\x1b[K{text}" if self._live else text, end=end, file=sys.stderr, flush=True)
