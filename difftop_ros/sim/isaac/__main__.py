"""Writes config/isaac from the demo's MuJoCo model and config/panda_isaac.yaml: python -m difftop_ros.sim.isaac

`files` gives what would be written, for the test that compares. Lives here: which files there are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from difftop_ros.contract import load_contract
from difftop_ros.paths import share_path
from difftop_ros.sim.gazebo.__main__ import FINGERS
from difftop_ros.sim.gazebo.describe import Description, describe
from difftop_ros.sim.isaac.graph import VERSIONS, make_graph
from difftop_ros.sim.isaac.stage import camera_paths, make_stage
from difftop_ros.sim.mujoco.base import load_model
from difftop_ros.sim.mujoco.panda import SCENE
from difftop_ros.sim.tasks import PANDA_HOME
from difftop_ros.sim.written import write_or_check

CONTRACT, FOLDER = "config/panda_isaac.yaml", "config/isaac"


def scene() -> Description:
    """The demo's scene without the camera that is for films."""
    found = describe(load_model(share_path(SCENE)), "panda_table", {**PANDA_HOME, **FINGERS})
    return replace(found, cameras=tuple(c for c in found.cameras if c.name != "overview"))


def files() -> dict[str, str]:
    """Name -> content of every file that is written to config/isaac. UserError where usd-core is missing."""
    contract, described = load_contract(share_path(CONTRACT)), scene()
    size = contract.sim.width, contract.sim.height
    stage = make_stage(described, *size)
    stage.GetRootLayer().documentation = "Written by python -m difftop_ros.sim.isaac from models/panda_table."
    graphs = {f"graph_{v}.json": make_graph(contract, camera_paths(described), *size, v) for v in VERSIONS}
    return {
        "panda_table.usda": stage.GetRootLayer().ExportToString(),
        **{name: json.dumps(graph, indent=1) + "\n" for name, graph in graphs.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files, or with --check says which are stale; exit code 1 then."""
    return write_or_check(arguments, "python -m difftop_ros.sim.isaac", FOLDER, files)


if __name__ == "__main__":
    sys.exit(main())
