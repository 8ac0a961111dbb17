"""Reading a scene, ours or the user's, with errors a user can act on. Its parts are for tasks.py and actuation.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from difftop_ros.paths import share_path
from difftop_ros.sim.errors import SimError

SCENE = "models/panda_table/scene.xml"


def load_model(path: str | os.PathLike[str] | None) -> Any:
    """The mujoco.MjModel at `path` (MJCF or URDF), the shipped scene for None. SimError when it cannot be read."""
    import mujoco

    file = share_path(SCENE) if path is None else Path(path).expanduser()
    if not file.is_file():
        raise SimError(f"the model '{file}' does not exist; give the path of an MJCF (.xml) file")
    try:
        return mujoco.MjModel.from_xml_path(str(file))
    except ValueError as error:
        raise SimError(f"the model '{file}' cannot be read by MuJoCo: {error}".replace("\n", " ")) from error
