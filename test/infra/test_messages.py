"""The generated messages: importable, round trip through DDS serialisation, and rebuilt only when inputs change."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIELD = re.compile(r"^[\w/]+(\[\])? +\w+")


@pytest.fixture
def interfaces(ros_domain: int) -> Any:
    """The generated msg and srv modules, skipped by name where they were not built."""
    msg = pytest.importorskip("difftop_ros.msg", reason="difftop_ros.msg is not built (make setup)")
    srv = pytest.importorskip("difftop_ros.srv", reason="difftop_ros.srv is not built (make setup)")
    return msg, srv


def test_plan_survives_serialisation(interfaces: Any) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    msg, _ = interfaces
    plan = msg.Plan(sequence=7, joint_names=["a", "b"], mode="position", horizon=2, targets=[0.0, 1.0, 2.0, 3.0])
    plan.header.stamp.sec = 5
    plan.step.nanosec = 50_000_000
    assert deserialize_message(serialize_message(plan), msg.Plan) == plan


@pytest.mark.parametrize("name", ["Plan", "SolverStatus", "TrainingProgress", "EpisodeStatus"])
def test_message_has_type_hash_and_header(interfaces: Any, name: str) -> None:
    msg, _ = interfaces
    message = getattr(msg, name)()
    assert message.header.frame_id == ""
    assert "header" in type(message).get_fields_and_field_types()


def test_services_have_requests_and_stamped_responses(interfaces: Any) -> None:
    _, srv = interfaces
    for name in ("ResetEpisode", "StepSimulation"):
        assert getattr(srv, name).Response().stamp.sec == 0


@pytest.mark.parametrize(
    "path", sorted(p for kind in ("msg", "srv", "action") for p in ROOT.glob(f"{kind}/*.{kind}")), ids=lambda p: p.name
)
def test_every_field_has_a_comment(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if FIELD.match(line):
            assert " # " in line, f"{path.name}:{number}: field without a comment: {line}"


@pytest.fixture
def tool() -> Any:
    """tools/build_messages.py as a module; skipped by name where messages come from a colcon workspace."""
    if not (Path(sys.prefix) / "share/difftop_ros/messages.sha256").is_file():
        pytest.skip("messages come from a colcon workspace here, not from tools/build_messages.py")
    spec = importlib.util.spec_from_file_location("build_messages", ROOT / "tools/build_messages.py")
    assert spec and spec.loader
    module = sys.modules["build_messages"] = importlib.util.module_from_spec(spec)  # its dataclass looks there
    spec.loader.exec_module(module)
    return module


def test_installed_messages_are_those_of_this_checkout(tool: Any) -> None:
    assert tool.up_to_date(), "the messages in the environment are older than msg/ or srv/: run 'make setup'"


def test_ros2_launch_finds_what_ships(tool: Any) -> None:
    from ament_index_python.packages import get_package_share_directory

    from difftop_ros.nodes.environment import prepare

    prepare()
    share = Path(get_package_share_directory("difftop_ros"))
    assert (share / "launch/policy.launch.py").is_file() and (share / "config/policy_node.yaml").is_file()
    assert (share / "models/panda_lift/model.safetensors").is_file()


def test_a_build_happens_only_when_an_input_changes(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("msg", "srv", "action"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "package.xml", tmp_path)
    monkeypatch.setattr(tool, "LINKED", ())
    builds = []
    stamp = tmp_path / "stamp"
    monkeypatch.setattr(tool, "SOURCE", tmp_path)
    monkeypatch.setattr(tool, "STAMP", stamp)

    def build() -> None:
        builds.append(1)
        stamp.write_text(tool.fingerprint())

    monkeypatch.setattr(tool, "build", build)
    monkeypatch.setattr(sys, "argv", ["build_messages.py"])
    assert [tool.main(), tool.main(), len(builds)] == [0, 0, 1]
    with (tmp_path / "msg/Plan.msg").open("a") as file:
        file.write("bool extra  # one more field\n")
    assert [tool.main(), tool.main(), len(builds)] == [0, 0, 2]
