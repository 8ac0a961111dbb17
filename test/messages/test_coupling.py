"""One joint of the contract for several of the driver's, both ways, in the three types of commands and in readings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import ContractError, parse_contract
from difftop_ros.messages import ObservationError, ObservationPipeline, array_to_command, command_to_array
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import rosbags_types
from difftop_ros.runtime.joints import JointJudge

TYPES = ("sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray")
TEXT = """
name: hand
rate_hz: 10
control_rate_hz: 10
command:
  topic: command
  type: {type}
  joints:
    - {{name: arm, position: [-2, 2], velocity: 1}}
    - {{name: grip, unit: m, position: [0, 0.2], velocity: 1}}
  coupling: {{grip: {{left: 0.5, right: -0.5}}}}
observations:
  joints: {{kind: joint_state, topic: state, joints: [arm, grip], fields: [position, velocity, effort],
            coupling: {{grip: {{left: 0.5, right: -0.5}}}}}}
"""


def contract(kind: str = TYPES[0]) -> Any:
    return parse_contract(TEXT.format(type=kind))


@pytest.mark.parametrize("kind", TYPES)
def test_a_command_names_the_drivers_joints_and_comes_back(kind: str) -> None:
    message = array_to_command(contract(kind), np.array([0.3, 0.1]), 0, rosbags_types)
    sent = {
        TYPES[0]: lambda: message.position,
        TYPES[1]: lambda: message.points[0].positions,
        TYPES[2]: lambda: message.data,
    }
    np.testing.assert_allclose(sent[kind](), [0.3, 0.05, -0.05])
    if kind != TYPES[2]:
        names = message.name if kind == TYPES[0] else message.joint_names
        assert list(names) == ["arm", "left", "right"]
    np.testing.assert_allclose(command_to_array(contract(kind), message), [0.3, 0.1])


def test_readings_are_gathered_by_pipeline_and_control_alike() -> None:
    wanted = contract()
    coupling = wanted.observations["joints"].coupling
    values = np.array([0.3, 0.1]), np.array([0.2, 0.4]), np.array([5.0, 8.0])
    message = joint_state(rosbags_types, ["arm", "grip"], 1.0, *values, coupling)
    assert list(message.name) == ["arm", "left", "right"]
    np.testing.assert_allclose(message.position, [0.3, 0.05, -0.05])
    frame = ObservationPipeline(wanted).decode("joints", {"state": message})
    np.testing.assert_allclose(frame[:4], [0.3, 0.1, 0.2, 0.4], atol=1e-6)
    judge = JointJudge(wanted)
    assert judge.take("state", message, 1_000_000_000).ok
    np.testing.assert_allclose(judge.position, [0.3, 0.1])
    np.testing.assert_allclose(judge.velocity, [0.2, 0.4])


def test_fingers_that_differ_count_by_their_mean() -> None:
    message = joint_state(rosbags_types, ["right", "arm", "left"], 0.0, np.array([-0.03, 0.0, 0.05]))
    wanted = contract()
    judge = JointJudge(wanted)
    judge.take("state", message, 1)
    assert judge.position[1] == pytest.approx(0.08)


def test_a_finger_that_is_missing_is_told() -> None:
    message = joint_state(rosbags_types, ["arm", "left"], 0.0, np.zeros(2), np.zeros(2), np.zeros(2))
    with pytest.raises(ObservationError, match="lacks 'grip'"):
        ObservationPipeline(contract()).decode("joints", {"state": message})
    command = SimpleNamespace(name=["arm", "left"], position=[0.0, 0.0])
    with pytest.raises(ObservationError, match="lacks 'right'"):
        command_to_array(contract(), command)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("coupling: {grip: {left: 0.5, right: -0.5}}\nobs", "coupling: {claw: {left: 0.5}}\nobs", "claw.*not among"),
        ("coupling: {grip: {left: 0.5, right: -0.5}}\nobs", "coupling: {grip: {left: 0.0}}\nobs", "by nothing"),
        ("coupling: {grip: {left: 0.5, right: -0.5}}\nobs", "coupling: {grip: {arm: 0.5}}\nobs", "more than once"),
        ("coupling: {grip: {left: 0.5, right: -0.5}}\nobs", "coupling: {grip: {}}\nobs", "at least 1"),
    ],
)
def test_a_coupling_that_makes_no_sense_is_refused(old: str, new: str, words: str) -> None:
    text = TEXT.format(type=TYPES[0])
    assert old in text
    with pytest.raises(ContractError, match=words):
        parse_contract(text.replace(old, new))


def test_a_contract_without_it_keeps_its_hash() -> None:
    content = contract().to_dict()
    del content["command"]["coupling"], content["observations"]["joints"]["coupling"]
    bare = type(contract()).model_validate(content)
    plain = bare.to_dict()
    assert "coupling" not in plain["command"] and "coupling" not in plain["observations"]["joints"]
    assert parse_contract(bare.to_yaml()) == bare
    assert contract().incompatibilities(bare) == []
