"""Contact sheets of the tasks as the expert solves them, for README and docs. Videos of policies are evaluation's job.

python tools/task_pictures.py --out docs/images/tasks.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from difftop_ros.errors import UserError
from difftop_ros.sim import make_expert, make_world

TASKS = ("reach", "push", "lift")


def expert_frames(task: str, seed: int, camera_names: tuple[str, ...], width: int, height: int) -> list[np.ndarray]:
    """Pictures uint8 (height, width * cameras, 3) RGB of an episode that the expert solves, one for each step."""
    world = make_world(task, width=width, height=height)
    try:
        world.reset(seed)
        expert = make_expert(world)
        frames, stayed = [], 0
        while stayed < 5 and world.time < world.task.max_seconds:
            frames.append(np.concatenate([world.render(name)[0] for name in camera_names], axis=1))
            world.step(expert.act(), expert.step_s)
            stayed += world.success()
        return frames
    finally:
        world.close()


def contact_sheet(seed: int = 2, width: int = 240, height: int = 180, moments: int = 3) -> np.ndarray:
    """One row for each task, uint8 RGB: front, wrist and overview at `moments` times of an expert's episode."""
    rows = []
    for task in TASKS:
        frames = expert_frames(task, seed, ("front", "wrist", "overview"), width, height)
        picks = np.linspace(0, len(frames) - 1, moments).round().astype(int)
        rows.append(np.concatenate([frames[i] for i in picks], axis=1))
    return np.concatenate(rows, axis=0)


def main(arguments: list[str] | None = None) -> int:
    """Writes a contact sheet of all tasks as a PNG."""
    import cv2

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        sheet = contact_sheet(options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(options.out), sheet[..., ::-1]):
        print(f"error: '{options.out}' cannot be written; give a path that ends in .png", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
