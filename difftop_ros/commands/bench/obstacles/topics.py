"""The comparison through real topics: simulation and policy node as processes in real time. In lock step: starts.py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.commands.bench.obstacles.starts import KEY, Cell, made_by
from difftop_ros.commands.demo.closed_loop import Demo, DemoOptions, Episode
from difftop_ros.commands.demo.obstacle import costs_of
from difftop_ros.commands.demo.report import plan_statuses
from difftop_ros.errors import UserError
from difftop_ros.sim.placed import Placed

ARMS = {"nothing, topics": "none", "costs, cloud, topics": None}  # and what `difftop demo --costs` would be
Start = tuple[str, int, Placed | None]  # kind, seed, what stands there


def parameters(arm: str, prepare: str) -> tuple[str, ...]:
    """Of the policy node."""
    if arm not in ARMS:
        raise UserError(f"--arms has '{arm}'; through topics there are {list(ARMS)}")
    return (*costs_of(ARMS[arm], "any"), f"prepare_solve:={prepare}")


def run_arm(cell: Cell, arm: str, starts: Iterable[Start], prepare: str, pace: float) -> Iterator[dict[str, Any]]:
    """A row for each start. pace: simulated seconds per second, below 1 where the machine is slower than the robot."""
    contract = cell.policy.contract
    with tempfile.TemporaryDirectory() as folder:
        options = DemoOptions(
            cell.model, Path(folder), contract.episode.max_seconds, pace, parameters=parameters(arm, prepare)
        )
        demo = Demo(contract, cell.policy.obs_steps, options)
        try:
            demo.start()
            for kind, seed, placed in starts:
                yield _row(cell, arm, kind, demo.episode(seed, placed), pace)
        finally:
            demo.close()


def _row(cell: Cell, arm: str, kind: str, episode: Episode, pace: float) -> dict[str, Any]:
    """As starts.run_start's, without the jerk."""
    first = episode.touched[0] if episode.touched else ("", "")
    took = [status.encode_ms + status.solve_ms for status in plan_statuses(episode)]
    return {
        **dict(zip(KEY, cell.key(kind, arm, episode.seed), strict=True)),
        "success": int(episode.success and not episode.touched),
        "contact": int(bool(episode.touched)),
        "first_contact": first[0],
        "first_contact_s": first[1],
        "nearest_mm": "" if episode.nearest_mm is None else episode.nearest_mm,
        "steps": round(episode.seconds * cell.policy.contract.rate_hz),
        "plan_ms": round(float(np.median(took)), 2) if took else "",
        "jerk": "",
        "note": episode.note or ("" if pace == 1 else f"at {pace:g} of real time"),
        **made_by(cell),
    }
