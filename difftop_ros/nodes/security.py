"""What each node may do in a secured graph (SROS2): topics and services by node, and the policy file made of them.

The names are those the nodes use; a test starts the nodes and compares. No ROS is imported here. Keys and signatures
are made by `ros2 security` from the file.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from difftop_ros.contract import Contract
from difftop_ros.data.bags.topics import INTERVENTION_TOPIC
from difftop_ros.messages import ObservationPipeline
from difftop_ros.messages.places.whereabouts import transforms_followed
from difftop_ros.nodes.policy.parameters import NODE_NAME as POLICY
from difftop_ros.nodes.recorder.parameters import NODE_NAME as RECORDER
from difftop_ros.nodes.recorder.recorder import EPISODE_TOPIC, optional_topics
from difftop_ros.nodes.simulation.bridge.streams import MESSAGE_TYPES, joint_topics, plan_streams
from difftop_ros.nodes.simulation.state import STATE_TOPIC

# Of simulation_interfaces, as nodes/simulation/bridge/standard.py serves them.
SERVICES = (
    "get_simulator_features", "get_simulation_state", "set_simulation_state", "reset_simulation", "step_simulation",
    "get_entities", "get_entity_state", "set_entity_state",
)  # fmt: skip
TRAINER, SIMULATION = "difftop_trainer", "sim_bridge"
# Of the policy, below difftop/: name -> type.
REPORTS = {
    "markers": "visualization_msgs/msg/MarkerArray",
    "plan": "difftop_ros/msg/Plan",
    "solver_status": "difftop_ros/msg/SolverStatus",
}
_PARAMETER_SERVICES = (
    "describe_parameters", "get_parameter_types", "get_parameters", "list_parameters", "set_parameters",
    "set_parameters_atomically", "get_type_description",
)  # fmt: skip
_LIFECYCLE_SERVICES = (
    "change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph",
)  # fmt: skip


@dataclass(frozen=True)
class Access:
    """Topics, services and actions of one node. Names without '/' in front are in its namespace, with '~/' below its
    own.
    """

    node: str
    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    executes: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()

    def everything(self) -> dict[str, tuple[str, ...]]:
        """With what every node has: log, parameters, time."""
        return {
            "publish": ("/rosout", "/parameter_events", *self.publishes),
            "subscribe": ("/clock", "/parameter_events", *self.subscribes),
            "reply": tuple(f"~/{name}" for name in _PARAMETER_SERVICES) + self.serves,
            "execute": self.executes,
            "call": self.calls,
        }

    def in_graph(self) -> dict[str, tuple[str, ...]]:
        """The same with actions as the topics and services that they are in the graph."""
        rights = self.everything()
        rights["request"] = ()
        for right, topics, services in (("execute", "publish", "reply"), ("call", "subscribe", "request")):
            for action in rights.pop(right):
                rights[topics] += tuple(f"{action}/_action/{name}" for name in ("feedback", "status"))
                parts = ("send_goal", "cancel_goal", "get_result")
                rights[services] += tuple(f"{action}/_action/{name}" for name in parts)
        return rights


def accesses(contract: Contract, namespace: str = "/", cameras: Iterable[str] = ()) -> tuple[Access, ...]:
    """Of all nodes under `contract` in `namespace`. cameras: the simulation's, if it is to offer them all."""
    contract = contract.in_namespace(namespace)
    observed = (*ObservationPipeline(contract).topics, *transforms_followed(contract))
    success, command = contract.episode.success_topic, contract.command
    every = tuple(cameras) or tuple(dict.fromkeys(contract.sim.cameras.values()))
    streams = plan_streams(contract, every, tuple(MESSAGE_TYPES), namespace) if every else ()
    infos = tuple(stream.info_topic for stream in streams if stream.info_topic)
    pictures = tuple(dict.fromkeys((*(stream.topic for stream in streams), *infos))) or observed
    return (
        Access(
            POLICY,
            (contract.command.topic, *(f"difftop/{name}" for name in REPORTS), "/diagnostics", "~/transition_event"),
            tuple(dict.fromkeys((*observed, *([success] if success else []), INTERVENTION_TOPIC))),
            tuple(f"~/{name}" for name in _LIFECYCLE_SERVICES),
            ("~/run_policy",),
            command.actions,
        ),
        Access(
            RECORDER,
            ("/diagnostics", INTERVENTION_TOPIC),
            tuple(dict.fromkeys((*observed, contract.command.topic, *optional_topics(contract), EPISODE_TOPIC,
                                 INTERVENTION_TOPIC))),
            ("~/start", "~/stop", "~/discard"),
        ),
        Access(TRAINER, ("difftop/training_progress",), (), ("~/stop",)),
        Access(
            SIMULATION,
            tuple(dict.fromkeys(("/clock", *joint_topics(contract), success or "sim/success", "sim/episode",
                                 contract.episode.rewarded_on, "/diagnostics", STATE_TOPIC, contract.command.topic,
                                 *pictures))),
            (contract.command.topic,),
            ("sim/reset", "sim/step", *(f"~/{name}" for name in SERVICES)),
        ),
    )  # fmt: skip


def policy_file(contract: Contract, namespace: str = "/", cameras: Iterable[str] = ()) -> str:
    """The text of policies.xml: an enclave for each node, as `ros2 security create_permission` takes it."""
    root = ET.Element("policy", version="0.2.0")
    enclaves = ET.SubElement(root, "enclaves")
    for access in accesses(contract, namespace, cameras):
        enclave = ET.SubElement(enclaves, "enclave", path=f"{namespace.rstrip('/')}/{access.node}")
        profile = ET.SubElement(ET.SubElement(enclave, "profiles"), "profile", ns=namespace, node=access.node)
        for right, names in access.everything().items():
            if not names:
                continue
            kind = {"reply": "service", "execute": "action", "call": "action"}.get(right, "topic")
            group = ET.SubElement(profile, f"{kind}s", {right: "ALLOW"})
            for name in sorted(set(names)):
                ET.SubElement(group, kind).text = name
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def full_name(name: str, namespace: str, node: str) -> str:
    """The name as the graph has it."""
    if name.startswith("/"):
        return name
    start = namespace.rstrip("/")
    return f"{start}/{node}/{name[2:]}" if name.startswith("~/") else f"{start}/{name}"
