"""Where the obstacles of the comparison stand: found once for each seed and kept in a file, the same for every arm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from difftop_ros.contract.validated import validated
from difftop_ros.errors import UserError
from difftop_ros.files import write_whole
from difftop_ros.sim.mujoco.in_the_way import InTheWay
from difftop_ros.sim.placed import Placed

_PATIENCE = 40  # seeds tried for each start that is asked for


class Places:
    """Places of one kind of obstacle in one task; 'none' leaves every seed free. tried, left_out: seeds of `first`."""

    def __init__(self, task: str, kind: str, folder: Path) -> None:
        """What is in the folder's file is not searched for again."""
        self.tried = self.left_out = 0
        self._task, self._kind = task, kind
        self._path = folder / f"{task}_{kind}.json"
        self._known = json.loads(self._path.read_text()) if self._path.is_file() else {}
        self._search: InTheWay | None = None

    def first(self, count: int, first_seed: int) -> Iterator[tuple[int, Placed | None]]:
        """The first `count` seeds with a fair place, and it (None without obstacle). UserError if there are too few."""
        found, self.tried, self.left_out = 0, 0, 0
        while found < count:
            if self.tried >= _PATIENCE * count + _PATIENCE:
                raise UserError(
                    f"{self._kind}: {found} of {self.tried} seeds have a fair place; ask for fewer --starts"
                )
            seed = first_seed + self.tried
            self.tried += 1
            placed = None if self._kind == "none" else self._place(seed)
            if placed is None and self._kind != "none":
                self.left_out += 1
                continue
            found += 1
            yield seed, placed

    def _place(self, seed: int) -> Placed | None:
        if str(seed) not in self._known:
            self._search = self._search or InTheWay(self._task)
            placed = self._search.find(self._kind, seed)
            self._known[str(seed)] = None if placed is None else placed.model_dump()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._known, indent=0) + "\n")
        known = self._known[str(seed)]
        return None if known is None else validated(Placed, known, str(self._path), UserError)
