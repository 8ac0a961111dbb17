"""The action graph between Isaac Sim's stage and ROS 2, as plain data: nodes, values, connections, targets.

config/isaac/standalone.py hands it to omni.graph; names of nodes are those of Isaac Sim 5.1 and 6.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difftop_ros.contract import Contract
from difftop_ros.sim.isaac.stage import ROBOT

GRAPH = "/World/ros"
_ROS, _CORE = "isaacsim.ros2.bridge", "isaacsim.core.nodes"
VERSIONS = (5, 6)


def make_graph(contract: Contract, cameras: Mapping[str, str], width: int, height: int, version: int) -> dict[str, Any]:
    """path: of the graph; nodes: name -> type; values and targets: 'node.inputs:name' -> value or prims; connect: pairs
    of 'node.outputs:name' and 'node.inputs:name'. cameras: name -> prim; version: Isaac Sim's first number.
    """
    states = next(o.topic for o in contract.observations.values() if o.kind == "joint_state")
    nodes = {
        "tick": "omni.graph.action.OnPlaybackTick",
        "time": f"{_CORE}.IsaacReadSimulationTime",
        "context": f"{_ROS}.ROS2Context",
        "clock": f"{_ROS}.ROS2PublishClock",
        "states": f"{_ROS}.ROS2PublishJointState",
        "commands": f"{_ROS}.ROS2SubscribeJointState",
        "controller": f"{_CORE}.IsaacArticulationController",
    }
    values: dict[str, Any] = {
        "context.inputs:useDomainIDEnvVar": True,
        "clock.inputs:topicName": "/clock",
        "states.inputs:topicName": states,
        "commands.inputs:topicName": contract.command.topic,
        "controller.inputs:robotPath": ROBOT,
    }
    targets: dict[str, list[str]] = {}
    connect = [
        *(("tick.outputs:tick", f"{node}.inputs:execIn") for node in ("clock", "states", "commands", "controller")),
        *(("time.outputs:simulationTime", f"{node}.inputs:timeStamp") for node in ("clock", "states")),
        *(("context.outputs:context", f"{node}.inputs:context") for node in ("clock", "states", "commands")),
        ("commands.outputs:jointNames", "controller.inputs:jointNames"),
        ("commands.outputs:positionCommand", "controller.inputs:positionCommand"),
        ("commands.outputs:velocityCommand", "controller.inputs:velocityCommand"),
    ]
    if version >= 6:
        nodes["joints"] = "isaacsim.sensors.physics.IsaacReadJointState"
        targets["joints.inputs:prim"] = [ROBOT]
        connect.append(("tick.outputs:tick", "joints.inputs:execIn"))
        told = ("jointNames", "jointPositions", "jointVelocities", "jointEfforts")
        connect += [(f"joints.outputs:{word}", f"states.inputs:{word}") for word in told]
    else:
        targets["states.inputs:targetPrim"] = [ROBOT]
    for camera, prim in cameras.items():
        nodes[f"{camera}_frames"] = f"{_CORE}.IsaacCreateRenderProduct"
        values |= {f"{camera}_frames.inputs:width": width, f"{camera}_frames.inputs:height": height}
        targets[f"{camera}_frames.inputs:cameraPrim"] = [prim]
        connect.append(("tick.outputs:tick", f"{camera}_frames.inputs:execIn"))
        for word, topic in (("rgb", "color/image_raw"), ("depth", "depth/image_raw"), ("info", "depth/camera_info")):
            node = f"{camera}_{word}"
            nodes[node] = f"{_ROS}.ROS2Camera{'InfoHelper' if word == 'info' else 'Helper'}"
            values |= {
                f"{node}.inputs:topicName": f"camera/{camera}/{topic}",
                f"{node}.inputs:frameId": f"{camera}_optical_frame",
            }
            if word != "info":
                values[f"{node}.inputs:type"] = word
            connect += [
                (f"{camera}_frames.outputs:execOut", f"{node}.inputs:execIn"),
                (f"{camera}_frames.outputs:renderProductPath", f"{node}.inputs:renderProductPath"),
                ("context.outputs:context", f"{node}.inputs:context"),
            ]
    return {"path": GRAPH, "nodes": nodes, "values": values, "targets": targets, "connect": [list(c) for c in connect]}
