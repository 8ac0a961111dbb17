"""Layouts for Foxglove and RViz of a contract's live topics, and for what `difftop view` records.

config/view holds those of the demo's contract; a test compares them and looks each topic and type up in what the nodes
publish.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from difftop_ros.contract import CloudObs, Contract
from difftop_ros.nodes.security import REPORTS

TERMS = 4  # costs whose shares are plotted
IMAGE, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"


def live_topics(contract: Contract, namespace: str = "/") -> dict[str, str]:
    """Topic -> type of all that the layouts of a robot in `namespace` show, and its contract there."""
    space = namespace.rstrip("/")
    found = {f"{space}/difftop/{name}": kind for name, kind in REPORTS.items()}
    found["/diagnostics"] = "diagnostic_msgs/msg/DiagnosticArray"
    return found | dict.fromkeys(pictures(contract, space), IMAGE) | dict.fromkeys(clouds(contract), CLOUD)


def pictures(contract: Contract, space: str) -> list[str]:
    """Topics of plain pictures: those observed, and the simulation's of its cameras."""
    observed = [obs.topic for obs in contract.observations.values() if obs.modality == "image" and obs.type == IMAGE]
    cameras = dict.fromkeys(contract.sim.cameras.values())
    return list(dict.fromkeys([*observed, *(f"{space}/camera/{camera}/color/image_raw" for camera in cameras)]))


def clouds(contract: Contract) -> list[str]:
    """Topics of plain clouds that are observed."""
    sources = [s for obs in contract.observations.values() if isinstance(obs, CloudObs) for s in obs.sources]
    return list(dict.fromkeys(source.topic for source in sources if source.type == CLOUD))


def _base(contract: Contract) -> str:
    """The frame that things are shown in."""
    return next((obs.frame for obs in contract.observations.values() if isinstance(obs, CloudObs)), "world")


def live_files(contract: Contract, namespace: str = "/") -> dict[str, str]:
    """Name -> text of the layouts for live topics; as `live_topics`."""
    space = namespace.rstrip("/")
    return {"foxglove.json": _foxglove(contract, space), "difftop.rviz": _rviz(contract, space)}


def _foxglove(contract: Contract, space: str) -> str:
    status = f"{space}/difftop/solver_status"
    panels: dict[str, dict[str, Any]] = {
        "3D!scene": {
            "followTf": _base(contract),
            "topics": {topic: {"visible": True} for topic in [f"{space}/difftop/markers", *clouds(contract)]},
        },
        **{
            f"Image!{index}": {"imageMode": {"imageTopic": topic}}
            for index, topic in enumerate(pictures(contract, space))
        },
        "Plot!terms": _plot("cost per term", [f"{status}.term_costs[{index}]" for index in range(TERMS)]),
        "Plot!costs": _plot("cost and clearance [m]", [f"{status}.final_cost", f"{status}.clearance"]),
        "Plot!plan": _plot("plan: targets", [f"{space}/difftop/plan.targets[:]"]),
        "Plot!times": _plot("planner [ms]", [f"{status}.{part}_ms" for part in ("observe", "encode", "solve")]),
        "StateTransitions!holds": {
            "paths": [
                {"value": f"{status}.{field}", "timestampMethod": "receiveTime"}
                for field in ("holding", "hold_reason", "status", "state")
            ]
        },
        "DiagnosticSummary!node": {"topicToRender": "/diagnostics"},
    }
    looks = ["3D!scene", *(name for name in panels if name.startswith("Image!"))]
    return _layout(panels, [looks, [name for name in panels if name not in looks]])


def seen_layout(contract: Contract) -> str:
    """Text of a Foxglove layout for a recording of `difftop view`: as it came beside what is seen of it."""
    panels: dict[str, dict[str, Any]] = {}
    came: list[str] = []
    for key, obs in contract.observations.items():
        if obs.modality == "image":
            for side in ("in", "seen"):
                panels[f"Image!{side}{key}"] = {"imageMode": {"imageTopic": f"/{side}/{key}"}}
                came.append(f"Image!{side}{key}")
        elif obs.modality == "cloud":
            for side in ("in", "seen"):
                topics = {f"/{side}/{key}": {"visible": True}, "/body": {"visible": True}}
                panels[f"3D!{side}{key}"] = {"followTf": _base(contract), "topics": topics}
                came.append(f"3D!{side}{key}")
    joints = contract.command.joint_names
    panels["Plot!joints"] = _plot(
        "measured and commanded",
        [_field(f"/in/{key}", joint) for key, obs in contract.observations.items() for joint in obs.positions]
        + [_field("/command", joint) for joint in joints],
    )
    panels["Log!why"] = {"topicToRender": "/log"}
    panels["Plot!ages"] = _plot("ages [ms]", [_field("/ages", key) for key in contract.observations])
    return _layout(panels, [came, [name for name in panels if name not in came]])


def _field(topic: str, name: str) -> str:
    """Foxglove's path to a field; names that are no plain words are quoted."""
    return f"{topic}.{name}" if name.isidentifier() else f'{topic}."{name}"'


def _plot(title: str, values: list[str]) -> dict[str, Any]:
    paths = [{"value": value, "enabled": True, "timestampMethod": "receiveTime"} for value in values]
    return {"foxglovePanelTitle": title, "paths": paths, "xAxisVal": "timestamp", "showLegend": True}


def _layout(panels: dict[str, dict[str, Any]], columns: list[list[str]]) -> str:
    """Foxglove's file: each column's panels one below the other."""

    def split(names: list[Any], direction: str) -> Any:
        if len(names) == 1:
            return names[0]
        return {
            "first": names[0], "second": split(names[1:], direction), "direction": direction,
            "splitPercentage": round(100 / len(names)),
        }  # fmt: skip

    layout = split([split(column, "column") for column in columns if column], "row")
    whole = {"configById": panels, "globalVariables": {}, "userNodes": {}, "playbackConfig": {"speed": 1}}
    return json.dumps({**whole, "layout": layout}, indent=1) + "\n"


def _rviz(contract: Contract, space: str) -> str:
    best_effort = {"Depth": 5, "Durability Policy": "Volatile", "History Policy": "Keep Last",
                   "Reliability Policy": "Best Effort"}  # fmt: skip

    def display(kind: str, name: str, topic: str, qos: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "Class": f"rviz_default_plugins/{kind}", "Enabled": True, "Name": name, "Value": True,
            "Topic": {**qos, "Value": topic}, **more,
        }  # fmt: skip

    reliable = {**best_effort, "Reliability Policy": "Reliable"}
    shown = [
        {"Class": "rviz_default_plugins/Grid", "Enabled": True, "Name": "Grid", "Value": True, "Cell Size": 0.1,
         "Plane Cell Count": 20},
        {"Class": "rviz_default_plugins/TF", "Enabled": False, "Name": "TF", "Value": False},
        display("MarkerArray", "body, surroundings, plan, costs and holds", f"{space}/difftop/markers",
                reliable),
        *(display("PointCloud2", topic, topic, best_effort, **{"Size (m)": 0.005, "Style": "Flat Squares"})
          for topic in clouds(contract)),
        *(display("Image", topic, topic, best_effort) for topic in pictures(contract, space)),
    ]  # fmt: skip
    view = {"Class": "rviz_default_plugins/Orbit", "Distance": 2.0, "Focal Point": {"X": 0.4, "Y": 0.0, "Z": 0.2},
            "Pitch": 0.5, "Yaw": 0.8, "Target Frame": "<Fixed Frame>"}  # fmt: skip
    whole = {
        "Panels": [{"Class": "rviz_common/Displays", "Name": "Displays"}],
        "Visualization Manager": {
            "Class": "", "Displays": shown, "Enabled": True, "Name": "root", "Value": True,
            "Global Options": {"Fixed Frame": _base(contract), "Frame Rate": 30}, "Views": {"Current": view},
            "Tools": [{"Class": "rviz_default_plugins/MoveCamera"}, {"Class": "rviz_default_plugins/Select"}],
        },
        "Window Geometry": {"Width": 1400, "Height": 900},
    }  # fmt: skip
    return yaml.safe_dump(whole, sort_keys=False, width=120)
