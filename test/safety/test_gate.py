"""The command gate: what breaks a limit never passes, whatever else is right; every refusal names joint and limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftop_ros.contract import Command
from difftop_ros.safety import CommandGate, Proposal

RATE = 50.0
JOINTS = [
    {"name": "shoulder", "position": [-2.0, 2.0], "velocity": 1.5, "acceleration": 20.0},
    {"name": "elbow", "position": [-1.0, 2.5], "velocity": 2.0, "acceleration": 40.0, "step": 0.03},
    {"name": "gripper", "unit": "m", "position": [0.0, 0.08], "velocity": 0.5, "step": 0.02},
]
NAMES = [str(j["name"]) for j in JOINTS]


def command(mode: str) -> Command:
    return Command.model_validate(
        {"topic": "/c", "type": "std_msgs/msg/Float64MultiArray", "mode": mode, "joints": JOINTS}
    )


def make_gate(mode: str = "position", start=(0.0, 0.0, 0.04), tracking_s: float = 0.5) -> CommandGate:
    gate = CommandGate(
        command(mode if mode != "delta_position" else "position"),
        RATE,
        max_plan_age_ms=500,
        max_measured_age_ms=100,
        tracking_s=tracking_s,
    )
    if mode == "delta_position":
        steps = [{**j, "step": j.get("step", 0.03)} for j in JOINTS]
        gate = CommandGate(
            Command.model_validate(
                {"topic": "/c", "type": "std_msgs/msg/Float64MultiArray", "mode": mode, "joints": steps}
            ),
            RATE,
            max_plan_age_ms=500,
            max_measured_age_ms=100,
            tracking_s=tracking_s,
        )
    gate.reset(np.array(start))
    return gate


def propose(values, measured=(0.0, 0.0, 0.04), **changes) -> Proposal:
    fields = {"names": NAMES, "plan_age_ms": 20.0, "measured_age_ms": 5.0, **changes}
    return Proposal(values=np.array(values, dtype=float), measured=np.array(measured, dtype=float), **fields)


def test_a_small_move_passes():
    assert make_gate().check(propose([0.001, -0.001, 0.041])).ok


REFUSALS = [
    ("finite", {"values": [0, np.nan, 0.04]}, ["'elbow'", "nan"]),
    ("finite", {"values": [np.inf, 0, 0.04]}, ["'shoulder'", "inf"]),
    ("joint names", {"values": [0, 0, 0.04], "names": ["elbow", "shoulder", "gripper"]}, ["in this order"]),
    ("joint names", {"values": [0, 0]}, ["shape (2,)", "(3,)"]),
    ("plan age", {"values": [0, 0, 0.04], "plan_age_ms": 501.0}, ["501 ms", "max_plan_age_ms is 500"]),
    ("plan age", {"values": [0, 0, 0.04], "plan_age_ms": float("nan")}, ["max_plan_age_ms"]),
    ("measurement", {"values": [0, 0, 0.04], "measured_age_ms": 101.0}, ["101 ms", "100 ms"]),
    ("measurement", {"values": [0, 0, 0.04], "measured": [0, 0, np.nan]}, ["'gripper'", "not a finite"]),
    ("position", {"values": [0, 0, 0.081]}, ["'gripper'", "0.081 m", "[0, 0.08]"]),
    ("velocity", {"values": [0.031, 0, 0.04]}, ["'shoulder'", "1.55 rad/s", "1.5]"]),
    ("acceleration", {"values": [0, 0, 0.061]}, ["'gripper'", "velocity"]),
    ("acceleration", {"values": [0.0081, 0, 0.04]}, ["'shoulder'", "20.25 rad/s^2", "20]"]),
    ("tracking", {"values": [0, 0, 0.04], "measured": [-0.76, 0, 0.04]}, ["'shoulder'", "does not follow"]),
]


@pytest.mark.parametrize(("kind", "changes", "words"), REFUSALS)
def test_each_refusal_names_the_matter(kind, changes, words):
    verdict = make_gate().check(propose(**changes))
    assert not verdict.ok
    if "velocity" not in words:
        assert verdict.kind == kind
    for word in words:
        assert word in verdict.reason


def test_checks_come_in_the_documented_order():
    everything_wrong = propose([np.nan, 9, 9], names=["a"], plan_age_ms=1e6, measured_age_ms=1e6)
    assert make_gate().check(everything_wrong).kind == "finite"
    assert make_gate().check(propose([9, 9, 9], names=["a"], plan_age_ms=1e6)).kind == "joint names"
    assert make_gate().check(propose([9, 9, 9], plan_age_ms=1e6, measured_age_ms=1e6)).kind == "plan age"
    assert make_gate().check(propose([9, 9, 9], measured_age_ms=1e6)).kind == "measurement"
    assert make_gate().check(propose([9, 9, 9])).kind == "position"
    assert make_gate().check(propose([1.9, 0, 0.04])).kind == "velocity"


def test_the_gate_never_changes_a_number():
    proposal = propose([5.0, np.nan, 0.2])
    before = proposal.values.copy()
    make_gate().check(proposal)
    np.testing.assert_array_equal(proposal.values, before)


def test_a_gate_without_start_refuses():
    gate = CommandGate(command("position"), RATE, max_plan_age_ms=500, max_measured_age_ms=100, tracking_s=0.5)
    assert gate.check(propose([0, 0, 0.04])).kind == "start"


def test_a_stop_needs_no_fresh_joint_states_but_keeps_the_limits():
    gate = make_gate()
    assert gate.check(propose([0, 0, 0.04], plan_age_ms=None, measured_age_ms=1e9)).ok
    assert not gate.check(propose([0.05, 0, 0.04], plan_age_ms=None, measured_age_ms=1e9)).ok
    assert not gate.check(propose([np.nan, 0, 0.04], plan_age_ms=None, measured_age_ms=1e9)).ok


def test_start_position():
    gate = make_gate()
    start, _ = gate.start_position(np.array([0.0, 0.0, -0.001]))
    np.testing.assert_array_equal(start, [0.0, 0.0, 0.0])
    for pose, word in [([0, 0, 0.12], "'gripper'"), ([np.nan, 0, 0.04], "'shoulder'")]:
        start, reason = gate.start_position(np.array(pose))
        assert start is None
        assert word in reason


def breaks_a_limit(mode: str, last, last_speed, values, measured, step) -> bool:
    """The oracle: the contract's words written down a second time, joint by joint, in plain Python."""
    dt = 1.0 / RATE
    for j, joint in enumerate(JOINTS):
        low, high = joint["position"]
        if mode == "position":
            speed = (values[j] - last[j]) / dt
            if values[j] < low - 1e-5 or values[j] > high + 1e-5:
                return True
            if abs(values[j] - measured[j]) > 0.5 * joint["velocity"] + 1e-5:
                return True
        else:
            speed = values[j] if mode == "velocity" else values[j] / dt
            after = measured[j] + speed * dt
            if (speed > 0 and after > high + 1e-5) or (speed < 0 and after < low - 1e-5):
                return True
        if abs(speed) > joint["velocity"] * (1 + 1e-4):
            return True
        change = abs(speed - last_speed[j])
        if change > joint.get("acceleration", np.inf) * dt * (1 + 1e-4) + 1e-9:
            return True
        if step[j] is not None and (change if mode == "velocity" else abs(speed * dt)) > step[j] * (1 + 1e-4):
            return True
    return False


@settings(max_examples=300, deadline=None)
@given(mode=st.sampled_from(["position", "velocity", "delta_position"]), data=st.data())
def test_no_command_that_breaks_a_limit_ever_passes(mode, data):
    """Walks of commands that are near the limits: the gate passes one exactly when the oracle finds nothing."""
    gate = make_gate(mode)
    step = [j.get("step", 0.03 if mode == "delta_position" else None) for j in JOINTS]
    last, speed = np.array([0.0, 0.0, 0.04]), np.zeros(3)
    dt = 1.0 / RATE
    for _ in range(data.draw(st.integers(1, 8))):
        wild = st.one_of(st.floats(-1.3, 1.3), st.floats(-40, 40))
        accelerate = np.array([data.draw(wild) * j.get("acceleration", 100.0) * dt for j in JOINTS])
        asked = speed + accelerate
        values = {"position": last + asked * dt, "velocity": asked, "delta_position": asked * dt}[mode]
        measured = last + np.array([data.draw(st.floats(-1.2, 1.2)) * 0.5 * j["velocity"] for j in JOINTS])
        verdict = gate.check(propose(values, measured))
        if breaks_a_limit(mode, last, speed, values, measured, step):
            assert not verdict.ok
        if verdict.ok:
            gate.commit(values)
            last, speed = last + asked * dt, asked


@settings(max_examples=100, deadline=None)
@given(
    mode=st.sampled_from(["position", "velocity", "delta_position"]),
    joint=st.integers(0, 2),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    hold=st.booleans(),
)
def test_nan_at_any_joint_never_passes(mode, joint, bad, hold):
    gate = make_gate(mode)
    values = np.array([0.0, 0.0, 0.04]) if mode == "position" else np.zeros(3)
    assert gate.check(propose(values)).ok
    values[joint] = bad
    verdict = gate.check(propose(values, plan_age_ms=None if hold else 5.0))
    assert not verdict.ok
    assert NAMES[joint] in verdict.reason
