"""`difftop pipeline`: record, train and evaluate from nothing, task by task, with one report at the end."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from difftop_ros.errors import UserError

TASKS = ("reach", "push", "lift")
DESCRIPTION = """\
For each task: a scripted expert records demonstrations through the ROS topics into rosbags, a DiffTOP policy is trained
from them, and is run closed loop from starts nobody recorded, beside its own base policy. Ends with a table, in
OUT/report.md. Stopped, it goes on where it was: bags, datasets, checkpoints and finished tasks are kept.

  difftop pipeline                      all three tasks, 20 demonstrations each
  difftop pipeline --tasks reach        the easiest alone
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.description = DESCRIPTION
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="easiest first")
    parser.add_argument("--demos", type=int, default=20, help="demonstrations per task")
    parser.add_argument("--steps", type=int, default=3000, help="optimisation steps per task")
    parser.add_argument("--eval-episodes", type=int, default=20, help="starts per task")
    parser.add_argument("--noise", type=float, default=0.005, help="pushes while recording [rad]")
    parser.add_argument("--contract", type=Path, help="robot contract (default: the demo's)")
    parser.add_argument("--out", type=Path, default=Path("runs/pipeline"), help="bags, models and the report")
    parser.add_argument("--min-success", type=float, default=0.0, help="exit 1 if the first task's rate is below this")


def run(args: argparse.Namespace) -> int:
    """Runs it all; 0 if the first task reaches --min-success."""
    for option in ("demos", "steps", "eval_episodes"):
        if getattr(args, option) < 1:
            raise UserError(f"--{option.replace('_', '-')} is {getattr(args, option)}; expected at least 1")
    rows = []
    for task in args.tasks:
        result = args.out / task / "result.json"
        if result.is_file():
            print(f"== {task}: already done, see {args.out / task}")
        else:
            row = _one_task(args, task)
            result.write_text(json.dumps(row, indent=1) + "\n")
        rows.append(json.loads(result.read_text()))
        _write_report(args, rows)
    print((args.out / "report.md").read_text())
    first = rows[0]["evaluations"][0]
    return 0 if first["successes"] >= args.min_success * first["episodes"] else 1


def _one_task(args: argparse.Namespace, task: str) -> dict[str, Any]:
    from difftop_ros.commands.dispatch import main

    folder = args.out / task
    contract = ["--contract", str(args.contract)] if args.contract else []
    bags = folder / "bags"
    seconds: dict[str, float] = {}
    recorded = len(list(bags.glob("*/episode.json")))
    started = time.monotonic()
    if recorded < args.demos:
        print(f"== {task}: recording {args.demos - recorded} demonstrations", flush=True)
        words = ["record", "--expert", "--task", task, "--out", str(bags), "--seed", str(recorded)]
        words += ["--episodes", str(args.demos - recorded), "--noise", str(args.noise), *contract]
        _must(main(words), words)
    seconds["record"] = time.monotonic() - started
    started = time.monotonic()
    print(f"== {task}: training", flush=True)
    model = folder / f"{task}_policy"
    words = ["train", "--bags", str(bags), "--out", str(model), "--task", task, "--steps", str(args.steps)]
    words += ["--dataset", str(folder / "dataset"), "--eval-episodes", str(args.eval_episodes), *contract]
    _must(main(words), words)
    seconds["train and evaluate"] = time.monotonic() - started
    evaluations = json.loads((model / "evaluation.json").read_text())
    return {"task": task, "demos": args.demos, "steps": args.steps, "seconds": seconds, "evaluations": evaluations}


def _must(code: int, words: list[str]) -> None:
    if code:
        raise SystemExit(code)


def _write_report(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    lines = [
        "# From nothing to a policy",
        "",
        f"`difftop pipeline --demos {args.demos} --steps {args.steps} --eval-episodes {args.eval_episodes}`",
        "",
        "| task | acting | success | 95 % interval | plan p50 [ms] | recording [min] | training, evaluation [min] |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = [f"{row['seconds'][name] / 60:.1f}" for name in ("record", "train and evaluate")]
        for found in row["evaluations"]:
            low, high = found["interval_95"]
            lines.append(
                f"| {row['task']} | {found['label']} | {found['successes']} of {found['episodes']} | {low:.0%} to "
                f"{high:.0%} | {found['plan_ms_p50']} | {times[0]} | {times[1]} |"
            )
    (args.out / "report.md").write_text("\n".join(lines) + "\n")
