"""A policy that would run into something, over real DDS: it is stopped before, and the pair is named."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from policy_process import ACTIVATE, DEACTIVATE, activate_when_ready, positions, start

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.policies import load_policy
from difftop_ros.space import Body, body_of
from tools.faults.robot import contract_text

ARM = """<robot name="two"><link name="base"/><link name="upper"/><link name="lower"/><link name="tip"/>
<joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/></joint>
<joint name="elbow" type="revolute"><parent link="upper"/><child link="lower"/><origin xyz="0.5 0 0"/>
<axis xyz="0 0 1"/></joint>
<joint name="end" type="fixed"><parent link="lower"/><child link="tip"/><origin xyz="0.4 0 0"/></joint></robot>"""
START = np.array([0.3, -0.2])


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """That of the robot double, with a model of its two joints."""
    (tmp_path / "arm.urdf").write_text(ARM)
    (tmp_path / "spheres.yaml").write_text("tip: [[0, 0, 0, 0.05]]\n")
    data = yaml.safe_load(contract_text())
    data["robot"] = {"description": str(tmp_path / "arm.urdf"), "spheres": str(tmp_path / "spheres.yaml")}
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(data))
    return parse_contract((tmp_path / "contract.yaml").read_text(), "contract")


@pytest.fixture
def eager(small_model: Path, tmp_path: Path) -> Path:
    """A policy that wants to go on and on."""
    policy = load_policy(small_model)
    policy.net.scaler.fit(np.full(policy.net.shape, 0.1), np.full(policy.net.shape, 0.3))
    return policy.save(tmp_path / "eager")


def tips(body: Body, path: np.ndarray) -> np.ndarray:
    """Places (N, 3) of the tip."""
    return body.pose(path, "tip")[:, :3, 3]


def set_parameter(robot: Any, name: str, value: str | list[str]) -> Any:
    """The node's answer to a new value."""
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    kind = ParameterType.PARAMETER_STRING if isinstance(value, str) else ParameterType.PARAMETER_STRING_ARRAY
    field = "string_value" if isinstance(value, str) else "string_array_value"
    request = SetParameters.Request(
        parameters=[Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))]
    )
    return robot.call(SetParameters, "/difftop_policy/set_parameters", request).results[0]


def given(robot: Any, name: str, file: Path) -> None:
    """Deactivate and give the node another file; it is read at the next activation."""
    assert robot.transition(DEACTIVATE)
    assert set_parameter(robot, name, str(file)).successful
    time.sleep(0.3)  # its last command may still be on its way
    robot.position = START.copy()
    robot.commands.clear()
    time.sleep(0.5)  # joint states from there


def test_what_would_touch_is_not_sent_and_the_pair_is_named(
    contract: Contract, eager: Path, robot: Any, spawn: Any, tmp_path: Path
) -> None:
    body, file = body_of(contract), tmp_path / "surroundings.yaml"
    start(spawn, robot, eager, f"contract:={tmp_path / 'contract.yaml'}", "max_failures:=1000",
          "max_plan_age_ms:=3000.0")  # fmt: skip
    activate_when_ready(robot)
    robot.until(lambda: len(robot.commands) > 100, 30, "a motion without surroundings")
    free = tips(body, np.vstack([START, positions(robot)]))
    way = free[int(np.linalg.norm(free - free[0], axis=1).argmax())] - free[0]
    length = float(np.linalg.norm(way))
    assert length > 0.03, "the policy hardly moves; nothing is tested"
    direction = way / length
    wall = free[0] + way / 2 + 0.05 * direction  # the tip's ball would go in by half of its way

    file.write_text(yaml.safe_dump({"margin": 0.0, "shapes": [
        {"name": "wall", "kind": "half_space", "point": wall.tolist(), "normal": (-direction).tolist()}]}))  # fmt: skip
    from visualization_msgs.msg import MarkerArray

    drawn: list[Any] = []
    robot.node.create_subscription(MarkerArray, "/difftop/markers", drawn.append, 5)
    given(robot, "surroundings", file)
    activate_when_ready(robot)
    robot.until(lambda: "'wall'" in robot.sentences()[-1], 30, "a hold before the wall")
    assert "holding: tip would come" in robot.sentences()[-1]
    until = time.monotonic() + 1.0
    robot.until(lambda: time.monotonic() > until, 5, "the way to rest")
    if robot.commands:
        assert ((tips(body, positions(robot)) - wall) @ direction).max() <= -0.05 + 1e-6

    shown = {"body 0", "shape 0"}  # the body only while its joints are believed
    robot.until(lambda: any(shown <= {m.ns for m in each.markers} for each in drawn[-5:]), 20, "markers")

    along = np.array([-direction[1], direction[0], 0.0])  # points all over the wall
    robot._points = (wall + np.linspace(-0.8, 0.8, 200)[:, None] * along).astype(np.float32)
    file.write_text(yaml.safe_dump({"margin": 0.01, "cloud": "cloud", "low": [-1, -1, -1], "high": [1, 1, 1],
                                    "above": -1.0, "robot_margin": 0.0}))  # fmt: skip
    given(robot, "surroundings", file)
    activate_when_ready(robot)
    robot.until(lambda: "a point of the cloud" in robot.sentences()[-1], 30, "a hold before the points")

    file.write_text(yaml.safe_dump({"shapes": [
        {"name": "block", "kind": "box", "centre": free[0].tolist(), "size": [0.3, 0.3, 0.3]}]}))  # fmt: skip
    given(robot, "surroundings", file)
    robot.until(
        lambda: not robot.transition(ACTIVATE) and "stands inside 'block'" in robot.sentences()[-1],
        20,
        "a refusal to start",
    )


def test_weights_change_while_active_and_files_while_inactive(
    contract: Contract, eager: Path, robot: Any, spawn: Any, tmp_path: Path
) -> None:
    file = tmp_path / "costs.yaml"
    file.write_text("terms: {calm: {kind: joint_speed, share: 0.5}}\n")
    start(spawn, robot, eager, f"contract:={tmp_path / 'contract.yaml'}", "max_plan_age_ms:=3000.0")
    activate_when_ready(robot)
    assert "no costs are added" in set_parameter(robot, "cost_weights", ["calm=2"]).reason
    assert "deactivate first" in set_parameter(robot, "costs", str(file)).reason
    given(robot, "costs", file)
    activate_when_ready(robot)
    robot.until(lambda: [list(s.term_names) for s in robot.statuses[-1:]] == [["calm"]], 20, "a plan with the cost")
    robot.until(lambda: any(share > 0 for share in robot.statuses[-1].term_costs), 20, "a share of the cost")
    for words, says in (("none=1", "called 'none'"), ("calm=nan", "finite"), ("calm", "name=weight")):
        assert says in set_parameter(robot, "cost_weights", [words]).reason
    assert set_parameter(robot, "cost_weights", ["calm=0"]).successful
    robot.until(lambda: list(robot.statuses[-1].term_costs) == [0], 20, "a plan with the new weight")
    robot.transition(DEACTIVATE)
    file.write_text("terms: {calm: {kind: nobody's}}\n")
    robot.until(
        lambda: not robot.transition(ACTIVATE) and "calm.kind is" in robot.sentences()[-1], 20, "a refusal to start"
    )
