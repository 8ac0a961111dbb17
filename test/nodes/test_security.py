"""The SROS2 policy file: as its schema wants it, and naming every topic and service that the running nodes have."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.cli import main
from difftop_ros.contract import load_contract, parse_contract
from difftop_ros.nodes.security import accesses, full_name, policy_file
from difftop_ros.nodes.trainer.node import NODE_NAME as TRAINER
from difftop_ros.paths import share_path
from tools.patience import patience

DEMO = share_path("config/panda_table.yaml")
NODES = {
    "difftop_policy": "difftop_ros.nodes.policy.node",
    "difftop_recorder": "difftop_ros.nodes.recorder.node",
    "sim_bridge": "difftop_ros.nodes.simulation.bridge.node",
}


def test_the_file_has_the_form_that_ros2_security_reads() -> None:
    root = ET.fromstring(policy_file(load_contract(DEMO), "/left").encode())
    assert root.tag == "policy" and root.get("version") == "0.2.0" and [child.tag for child in root] == ["enclaves"]
    enclaves = root.findall("enclaves/enclave")
    assert [e.get("path") for e in enclaves] == [f"/left/{a.node}" for a in accesses(load_contract(DEMO))]
    for enclave in enclaves:
        (profile,) = enclave.findall("profiles/profile")
        assert profile.get("ns") == "/left" and profile.get("node")
        for group in profile:
            (right, allowed), kind = *group.attrib.items(), group.tag
            rights = {
                "services": ("reply", "request"),
                "topics": ("publish", "subscribe"),
                "actions": ("execute", "call"),
            }
            assert allowed == "ALLOW" and right in rights[kind]
            assert len(group) and all(name.tag == kind[:-1] and name.text for name in group)


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "policies.xml"
    assert main(["contract", "secure", str(DEMO), "--out", str(out), "--namespace", "/left"]) == 0
    assert out.read_text() == policy_file(load_contract(DEMO), "/left")
    assert "ros2 security" in capsys.readouterr().out


def test_no_enclave_may_do_what_another_does() -> None:
    named = {access.node: access for access in accesses(load_contract(DEMO))}
    command = load_contract(DEMO).in_namespace("/").command.topic
    may = {node for node, access in named.items() if command in access.publishes}
    assert may == {"difftop_policy", "sim_bridge"} and TRAINER in named


def used(node: Any, name: str, namespace: str) -> dict[str, set[str]]:
    """Names of a node in the graph, by right."""
    return {
        "publish": {topic for topic, _ in node.get_publisher_names_and_types_by_node(name, namespace)},
        "subscribe": {topic for topic, _ in node.get_subscriber_names_and_types_by_node(name, namespace)},
        "reply": {service for service, _ in node.get_service_names_and_types_by_node(name, namespace)},
        "request": {service for service, _ in node.get_client_names_and_types_by_node(name, namespace)},
    }


def test_the_running_nodes_have_nothing_that_the_file_does_not_name(
    ros_context: Any, spawn: Callable[..., Any], tmp_path: Path
) -> None:
    import rclpy

    model = share_path("models/panda_lift")
    arguments = {
        "difftop_policy": ("-p", f"model:={model}", "-p", "autostart:=true", "-p", "use_sim_time:=true"),
        "difftop_recorder": ("-p", f"contract:={DEMO}", "-p", f"out:={tmp_path}"),
        "sim_bridge": ("-p", f"contract:={DEMO}"),
    }
    contract = parse_contract(DEMO.read_text())
    named = {access.node: access for access in accesses(contract, "/left", ("front", "wrist", "overview"))}
    for name, module in NODES.items():
        spawn(module, "--ros-args", "-r", "__ns:=/left", *arguments[name])
    listener = rclpy.create_node("listener", context=ros_context)
    try:
        for name in NODES:
            allowed = {
                right: {full_name(entry, "/left", name) for entry in entries}
                for right, entries in named[name].in_graph().items()
            }
            seen: dict[str, set[str]] = {}
            wanted = {full_name(entry, "/left", name) for entry in named[name].in_graph()["reply"]}
            end = time.monotonic() + patience(60)
            command = "/left/joint_command"
            while time.monotonic() < end:
                if name in listener.get_node_names():
                    seen = used(listener, name, "/left")
                    if wanted - {"/left/sim/step"} <= seen["reply"] and command in {
                        *seen["publish"],
                        *seen["subscribe"],
                    }:
                        break
                time.sleep(0.2)
            else:
                pytest.fail(f"{name} was not complete within 60 s: {seen}")
            assert {right: seen[right] - allowed[right] for right in seen if seen[right] - allowed[right]} == {}, name
    finally:
        listener.destroy_node()
