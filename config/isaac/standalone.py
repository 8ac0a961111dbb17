"""Runs the demo's scene in Isaac Sim 5.1 or 6.x: ISAAC/python.sh standalone.py [--headless] [--steps N]

By Isaac Sim's own Python and with nothing of ours but the files beside this one: the stage and the graph, written by
`python -m difftop_ros.sim.isaac`. Not run with Isaac Sim yet; stage and graph were checked with usd-core and against
the descriptions of its nodes.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headless", action="store_true", help="without a window")
    parser.add_argument("--steps", type=int, default=0, help="steps of the simulation, 0 for no end")
    parser.add_argument("--version", type=int, choices=(5, 6), help="Isaac Sim's first number (default: asked of it)")
    return parser.parse_args()


def version() -> int:
    """Isaac Sim's first number; the newer of the two that are known where it does not say."""
    try:
        from isaacsim.core.version import get_version

        return 5 if int(get_version()[2]) <= 5 else 6
    except (ImportError, IndexError, ValueError):
        return 6


def enable(names: list[str]) -> None:
    """Switches extensions on."""
    try:
        from isaacsim.core.experimental.utils.app import enable_extension
    except ImportError:
        from isaacsim.core.utils.extensions import enable_extension
    for name in names:
        enable_extension(name)


def join(graph: dict[str, Any]) -> None:
    """Makes the action graph: nodes, then values and targets, then connections."""
    import omni.graph.core as og
    import usdrt

    keys, path = og.Controller.Keys, graph["path"]
    prims = {place: [usdrt.Sdf.Path(prim) for prim in found] for place, found in graph["targets"].items()}
    og.Controller.edit(
        {"graph_path": path, "evaluator_name": "execution"},
        {
            keys.CREATE_NODES: list(graph["nodes"].items()),
            keys.SET_VALUES: [*graph["values"].items(), *prims.items()],
            keys.CONNECT: [tuple(pair) for pair in graph["connect"]],
        },
    )


def main() -> int:
    """Opens the stage, joins it to ROS, plays."""
    options = parse()
    print("note: this scene has not been run with Isaac Sim by its makers; tell them what it says", file=sys.stderr)
    from isaacsim import SimulationApp

    app = SimulationApp({"headless": options.headless})
    number = options.version or version()
    enable(["isaacsim.ros2.bridge", "isaacsim.ros2.sim_control"])
    app.update()
    import omni.timeline
    import omni.usd

    if not omni.usd.get_context().open_stage(str(HERE / "panda_table.usda")):
        print("error: the stage was not opened", file=sys.stderr)
        app.close()
        return 1
    while omni.usd.get_context().get_stage_loading_status()[2]:
        app.update()
    join(json.loads((HERE / f"graph_{number}.json").read_text()))
    omni.timeline.get_timeline_interface().play()  # topics are there while it plays
    done = 0
    while app.is_running() and (not options.steps or done < options.steps):
        app.update()
        done += 1
    app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
