"""The spheres that stand for a robot's body, as their file has them (`difftop contract spheres` writes it)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difftop_ros.plain_yaml import read_yaml
from difftop_ros.space.errors import RobotModelError

FARTHEST = 1e3  # [m]; nothing of a robot is so far from its base


@dataclass(frozen=True)
class Spheres:
    """links: S names; centres float64 (S, 3) in their link's frame [m]; radii float64 (S,) [m]."""

    links: tuple[str, ...]
    centres: np.ndarray
    radii: np.ndarray

    @classmethod
    def load(cls, path: str | Path) -> Spheres:
        """Read `link: [[x, y, z, radius], ...]`. Raises RobotModelError naming the link that is not so."""
        data = read_yaml(path, "spheres", RobotModelError).data
        if not isinstance(data, dict) or not data:
            raise RobotModelError(f"{path}: expected 'link: [[x, y, z, radius], ...]' [m], got {data!r:.60}")
        links: list[str] = []
        rows: list[list[float]] = []
        for link, spheres in data.items():
            for row in spheres if isinstance(spheres, list) else [spheres]:
                if not (isinstance(row, list) and len(row) == 4 and all(isinstance(v, int | float) for v in row)):
                    raise RobotModelError(f"{path}: a sphere of '{link}' is {row!r:.60}; expected [x, y, z, radius]")
                if not row[3] > 0:
                    raise RobotModelError(f"{path}: a sphere of '{link}' has radius {row[3]}; expected more than 0")
                if not all(abs(value) <= FARTHEST for value in row):
                    raise RobotModelError(
                        f"{path}: a sphere of '{link}' is {row!r:.60}; nothing lies beyond {FARTHEST} m"
                    )
                links.append(str(link))
                rows.append([float(value) for value in row])
        if not rows:
            raise RobotModelError(f"{path} names {len(data)} links and no sphere; expected [[x, y, z, radius], ...]")
        table = np.array(rows)
        return cls(tuple(links), table[:, :3], table[:, 3])
