"""Writes config/gazebo from the demo's MuJoCo model and config/panda_gazebo.yaml: python -m difftop_ros.sim.gazebo

`files` gives what would be written, for the test that compares. Lives here: which files there are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from difftop_ros.contract import load_contract
from difftop_ros.paths import share_path
from difftop_ros.sim.gazebo import sdf, topics, urdf
from difftop_ros.sim.gazebo.describe import describe
from difftop_ros.sim.gazebo.gains import calm_gains
from difftop_ros.sim.mujoco.base import load_model
from difftop_ros.sim.mujoco.panda import SCENE
from difftop_ros.sim.tasks import PANDA_HOME
from difftop_ros.sim.written import write_or_check

CONTRACT, FOLDER = "config/panda_gazebo.yaml", "config/gazebo"
FINGERS = {"panda_finger_joint1": 0.04, "panda_finger_joint2": 0.04}  # open
_BY = "Written by python -m difftop_ros.sim.gazebo from models/panda_table/scene.xml; change that, not this."


def files() -> dict[str, str]:
    """Name -> content of every file of config/gazebo."""
    contract = load_contract(share_path(CONTRACT))
    model = load_model(share_path(SCENE))
    scene = describe(model, "panda_table", {**PANDA_HOME, **FINGERS})
    # for films of the MuJoCo world; in Gazebo a person looks by its own window
    scene = replace(scene, cameras=tuple(c for c in scene.cameras if c.name != "overview"))
    pictures = sdf.Pictures(contract.sim.width, contract.sim.height, contract.rate_hz)
    command = contract.command
    speeds = {
        part: joint.velocity * share for joint in command.joints for part, share in command.driven(joint.name).items()
    }
    return {
        "table.sdf": sdf.world(scene, pictures, f"The scene without its arm, for ros2_control. {_BY}"),
        "panda_table.sdf": sdf.world(
            scene, pictures, f"The scene and the arm under Gazebo's own controllers. {_BY}", calm_gains(scene, model)
        ),
        "panda.urdf": urdf.robot(
            scene,
            pictures,
            f"The arm for gz_ros2_control. {_BY}",
            speeds,
            f"package://difftop_ros/{FOLDER}/controllers.yaml",
        ),
        "bridge.yaml": topics.as_yaml(topics.bridge(scene), f"For ros_gz_bridge, beside ros2_control. {_BY}"),
        "bridge_light.yaml": topics.as_yaml(
            topics.bridge(scene, contract), f"For ros_gz_bridge, with Gazebo's own controllers. {_BY}"
        ),
        "controllers.yaml": topics.as_yaml(
            topics.controllers(scene.joints), f"For the controller manager of gz_ros2_control. {_BY}"
        ),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files, or with --check says which are stale; exit code 1 then."""
    return write_or_check(arguments, "python -m difftop_ros.sim.gazebo", FOLDER, files)


if __name__ == "__main__":
    sys.exit(main())
