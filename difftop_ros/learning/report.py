"""What people look at after a training: model card, loss plot, video and contact sheet. Nothing is measured here."""

from __future__ import annotations

import csv
import platform
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.learning.evaluate import Evaluation
from difftop_ros.policies import Policy
from difftop_ros.sim.robot import SimulatedRobot

GOOD, BAD = (60, 160, 60), (200, 60, 60)  # borders of successes and failures, RGB


class Film:
    """Collects pictures of episodes from one camera: `watch` is called by evaluate, `save` writes a video and a sheet.

    Every `every`-th policy step is kept; pictures are drawn for the first `episodes` episodes.
    """

    def __init__(self, episodes: int = 10, every: int = 2) -> None:
        self.episodes, self.every = episodes, every
        self.frames: dict[int, list[np.ndarray]] = defaultdict(list)
        self._count: dict[int, int] = defaultdict(int)

    def watch(self, index: int, robot: SimulatedRobot) -> None:
        """Keep a picture of `robot` if this step is one to keep."""
        self._count[index] += 1
        if index < self.episodes and self._count[index] % self.every == 1 % self.every:
            cameras = robot.world.cameras
            camera = next((c for c in ("overview", "corner2") if c in cameras), cameras[0])
            self.frames[index].append(robot.world.render(camera)[0])

    def save(self, folder: Path, evaluation: Evaluation, rate_hz: float) -> list[Path]:
        """Write rollout.mp4 and rollout.png (a row per episode, start to end) into `folder`."""
        import cv2
        import imageio.v3 as imageio

        rows, film = [], []
        for index, pictures in sorted(self.frames.items()):
            colour = GOOD if evaluation.outcomes[index].success else BAD
            framed = [cv2.copyMakeBorder(p, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=colour) for p in pictures]
            chosen = np.linspace(0, len(framed) - 1, 6).round().astype(int)
            rows.append(np.hstack([framed[i] for i in chosen]))
            film += framed + [framed[-1]] * 3
        if not rows:
            return []
        sheet, video = folder / "rollout.png", folder / "rollout.mp4"
        cv2.imwrite(str(sheet), np.ascontiguousarray(np.vstack(rows)[..., ::-1]))
        even = [f[: f.shape[0] // 2 * 2, : f.shape[1] // 2 * 2] for f in film]
        imageio.imwrite(video, np.stack(even), fps=rate_hz / self.every, codec="libx264", macro_block_size=1)
        return [video, sheet]


def plot_losses(out: Path) -> Path | None:
    """Draw the logs of a run, however often it was stopped, as loss.png; None if there is nothing to draw."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    parts = (out / "logs").glob("from_step_*/metrics.csv")
    for path in sorted(parts, key=lambda p: int(p.parent.name.removeprefix("from_step_"))):
        with path.open() as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name.endswith("_mse"):
                        curves[name][int(row["step"])] = float(value)
    if not curves:
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, points in sorted(curves.items()):
        steps, values = zip(*sorted(points.items()), strict=True)
        axes.plot(steps, values, label=name, linestyle="-" if name.startswith("train") else "--")
    axes.set(xlabel="optimisation step", ylabel="squared error of scaled actions", yscale="log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(out / "loss.png", dpi=100)
    pyplot.close(figure)
    return out / "loss.png"


def write_card(out: Path, policy: Policy, evaluations: Sequence[Evaluation], facts: dict[str, Any]) -> Path:
    """Write README.md, the model card, into the model folder.

    facts: what the caller knows of the data and the run (bags, episodes, steps, seconds, command).
    """
    command = policy.contract.command
    lines = [
        f"# {out.name}",
        "",
        f"A `{policy.config.policy}` policy for the contract `{policy.contract.name}`: plans {policy.horizon} steps at "
        f"{policy.contract.rate_hz:g} Hz for {len(command.joints)} joints ({command.mode}) from "
        f"{', '.join(policy.contract.observations)}.",
        "",
        f"Parameters: {policy.card()}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        f"| machine | {platform.machine()}, {_cpu()} |",
        "",
    ]
    if evaluations:
        lines += [
            "Closed loop in simulation, lock step, starts not seen in training:",
            "",
            "| task | acting | success | 95 % interval | plan p50 [ms] | p99 [ms] |",
            "|---|---|---|---|---|---|",
        ]
        for found in evaluations:
            low, high = found.interval()
            lines.append(
                f"| {found.task} | {found.label} | {found.successes} of {len(found.outcomes)} "
                f"| {low:.0%} to {high:.0%} | {found.plan_ms(0.5):.1f} | {found.plan_ms(0.99):.1f} |"
            )
        lines.append("")
    for picture, caption in (("loss.png", "losses"), ("rollout.png", "rollouts, green border: success")):
        if (out / picture).is_file():
            lines += [f"![{caption}]({picture})", ""]
    path = out / "README.md"
    path.write_text("\n".join(lines))
    return path


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores, {names[0]}" if names else "unknown processor"
