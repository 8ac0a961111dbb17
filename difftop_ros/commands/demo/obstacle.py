"""What stands in the demo arm's way with `difftop demo --obstacle`, and the film of it. The course: closed_loop.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np

from difftop_ros.commands.demo import COSTS
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path
from difftop_ros.sim import film, make_world
from difftop_ros.sim.placed import Placed
from difftop_ros.sim.places import Places

PLACES = Path("runs/bench/obstacles")
Shown = tuple[film.Take, Placed | None]


def starts(kind: str | None, task: str, count: int, first_seed: int) -> list[tuple[int, Placed | None]]:
    """Seeds and what stands in the way of each. Raises UserError for a task that no obstacle can be placed in."""
    if kind is None:
        return [(first_seed + number, None) for number in range(count)]
    if task != "lift":
        raise UserError(f"obstacles are placed in the way of task 'lift' alone, and this is '{task}'; leave them out")
    print(f"looking for places of {count} obstacles ('{kind}') in the way, seconds each ...", flush=True)
    return list(Places(task, kind, PLACES).first(count, first_seed))


def costs_of(given: str | None, obstacle: str | None) -> list[str]:
    """The policy node's parameter for --costs: by default with an obstacle the shipped ones, for 'none' none."""
    if given == "none" or (given is None and obstacle is None):
        return []
    path = Path(given) if given else share_path(COSTS)
    if not path.is_file():
        raise UserError(f"--costs is '{given}', which is no file; give a costs file, or 'none'")
    return [f"costs:='{path.absolute()}'"]


class Drawing:
    """Draws takes of one task, each with what stood there."""

    def __init__(self, task: str, model: str | None, size: tuple[int, int], cameras: Sequence[str]) -> None:
        """cameras: the first that the world has is drawn."""
        self._task, self._model, self._size, self._cameras = task, model, size, cameras

    def frames(self, takes: Sequence[Shown], stay: int) -> Iterator[np.ndarray]:
        """As Film.frames."""
        for placed, group in groupby(takes, lambda shown: shown[1]):
            with self._film(placed) as drawn:
                yield from drawn.frames([take for take, _ in group], stay)

    def sheet(self, takes: Sequence[Shown]) -> np.ndarray:
        """As Film.sheet."""
        rows = []
        for placed, group in groupby(takes, lambda shown: shown[1]):
            with self._film(placed) as drawn:
                rows.append(drawn.sheet([take for take, _ in group]))
        return np.concatenate(rows)

    @contextmanager
    def _film(self, placed: Placed | None) -> Iterator[film.Film]:
        shapes = {"obstacles": [placed.shape]} if placed else {}
        width, height = self._size
        world = make_world(self._task, self._model, width=width, height=height, **shapes)
        drawn = film.Film(world, next((name for name in self._cameras if name in world.cameras), world.cameras[0]))
        try:
            yield drawn
        finally:
            drawn.close()
            world.close()
