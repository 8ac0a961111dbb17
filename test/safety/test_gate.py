"""The command gate: what breaks a limit never passes, whatever else is right; every refusal names joint and limit."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from difftop_ros.contract import Command
from difftop_ros.errors import UserError
from difftop_ros.safety import (
    Check,
    CommandGate,
    GateSettings,
    LastCommand,
    MotionLimits,
    Proposal,
    make_checks,
)
from difftop_ros.safety.checks import DEFAULT_CHECKS, left_out

RATE = 50.0
JOINTS: list[dict[str, Any]] = [
    {"name": "shoulder", "position": [-2.0, 2.0], "velocity": 1.5, "acceleration": 20.0, "jerk": 900.0},
    {"name": "elbow", "position": [-1.0, 2.5], "velocity": 2.0, "acceleration": 40.0, "step": 0.03},
    {"name": "gripper", "unit": "m", "position": [0.0, 0.08], "velocity": 0.5, "step": 0.02},
]
NAMES = [str(j["name"]) for j in JOINTS]


SETTINGS = GateSettings(max_plan_age_ms=500, max_measured_age_ms=100, tracking_s=0.5)


def command(mode: str, joints: list[dict[str, Any]] = JOINTS) -> Command:
    return Command.model_validate(
        {"topic": "/c", "type": "std_msgs/msg/Float64MultiArray", "mode": mode, "joints": joints}
    )


def make_gate(
    mode: str = "position", start: Sequence[float] = (0.0, 0.0, 0.04), extra: Sequence[Check] = ()
) -> CommandGate:
    joints = [{**j, "step": j.get("step", 0.03)} for j in JOINTS] if mode == "delta_position" else JOINTS
    gate = CommandGate(MotionLimits.of(command(mode, joints), RATE), [*make_checks(SETTINGS), *extra])
    gate.reset(np.array(start))
    return gate


def propose(values: ArrayLike, measured: ArrayLike = (0.0, 0.0, 0.04), **changes: Any) -> Proposal:
    fields: dict[str, Any] = {"names": NAMES, "plan_age_ms": 20.0, "measured_age_ms": 5.0, **changes}
    return Proposal(values=np.array(values, dtype=float), measured=np.array(measured, dtype=float), **fields)


def test_a_small_move_passes() -> None:
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
    ("jerk", {"values": [0.0076, 0, 0.04]}, ["'shoulder'", "950 rad/s^3", "900]"]),
    ("tracking", {"values": [0, 0, 0.04], "measured": [-0.76, 0, 0.04]}, ["'shoulder'", "does not follow"]),
]


@pytest.mark.parametrize(("kind", "changes", "words"), REFUSALS)
def test_each_refusal_names_the_matter(kind: str, changes: dict[str, Any], words: list[str]) -> None:
    verdict = make_gate().check(propose(**changes))
    assert not verdict.ok
    if "velocity" not in words:
        assert verdict.kind == kind
    for word in words:
        assert word in verdict.reason


def test_checks_come_in_the_documented_order() -> None:
    everything_wrong = propose([np.nan, 9, 9], names=["a"], plan_age_ms=1e6, measured_age_ms=1e6)
    assert make_gate().check(everything_wrong).kind == "finite"
    assert make_gate().check(propose([9, 9, 9], names=["a"], plan_age_ms=1e6)).kind == "joint names"
    assert make_gate().check(propose([9, 9, 9], plan_age_ms=1e6, measured_age_ms=1e6)).kind == "plan age"
    assert make_gate().check(propose([9, 9, 9], measured_age_ms=1e6)).kind == "measurement"
    assert make_gate().check(propose([9, 9, 9])).kind == "position"
    assert make_gate().check(propose([1.9, 0, 0.04])).kind == "velocity"


def test_the_gate_never_changes_a_number() -> None:
    proposal = propose([5.0, np.nan, 0.2])
    before = proposal.values.copy()
    make_gate().check(proposal)
    np.testing.assert_array_equal(proposal.values, before)


def test_a_gate_without_start_refuses() -> None:
    gate = CommandGate(MotionLimits.of(command("position"), RATE), make_checks(SETTINGS))
    assert gate.check(propose([0, 0, 0.04])).kind == "start"


def test_a_stop_needs_no_fresh_joint_states_but_keeps_the_limits() -> None:
    gate = make_gate()
    assert gate.check(propose([0, 0, 0.04], plan_age_ms=None, measured_age_ms=1e9)).ok
    assert not gate.check(propose([0.05, 0, 0.04], plan_age_ms=None, measured_age_ms=1e9)).ok
    assert not gate.check(propose([np.nan, 0, 0.04], plan_age_ms=None, measured_age_ms=1e9)).ok


def test_no_speed_outwards_is_too_small_to_be_refused() -> None:
    gate = make_gate("velocity", start=(0.0, 0.0, 0.0))
    assert gate.check(propose([0.0, 0.0, 0.0], measured=[0.0, 0.0, 0.1])).ok
    assert gate.check(propose([0.0, 0.0, -0.01], measured=[0.0, 0.0, 0.1])).ok, "the way back is open"
    assert gate.check(propose([0.0, 0.0, 5e-324], measured=[0.0, 0.0, 0.1])).kind == "position"


def test_start_position() -> None:
    gate = make_gate()
    start, _ = gate.start_position(np.array([0.0, 0.0, -0.001]))
    np.testing.assert_array_equal(start, [0.0, 0.0, 0.0])
    for pose, word in [([0, 0, 0.12], "'gripper'"), ([np.nan, 0, 0.04], "'shoulder'")]:
        start, reason = gate.start_position(np.array(pose))
        assert start is None
        assert word in reason


def breaks_a_limit(
    mode: str, last: np.ndarray, last_speed: np.ndarray, last_change: np.ndarray, values: np.ndarray,
    measured: np.ndarray, step: list[float | None],
) -> bool:  # fmt: skip
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
        if abs(speed - last_speed[j] - last_change[j]) > joint.get("jerk", np.inf) * dt**2 * (1 + 1e-4) + 1e-9:
            return True
        most = step[j]
        if most is not None and (change if mode == "velocity" else abs(speed * dt)) > most * (1 + 1e-4):
            return True
    return False


@settings(max_examples=300, deadline=None)
@given(mode=st.sampled_from(["position", "velocity", "delta_position"]), data=st.data())
def test_no_command_that_breaks_a_limit_ever_passes(mode: str, data: st.DataObject) -> None:
    """Walks of commands that are near the limits: the gate passes one exactly when the oracle finds nothing."""
    gate = make_gate(mode)
    step = [j.get("step", 0.03 if mode == "delta_position" else None) for j in JOINTS]
    last, speed, change = np.array([0.0, 0.0, 0.04]), np.zeros(3), np.zeros(3)
    dt = 1.0 / RATE
    for _ in range(data.draw(st.integers(1, 8))):
        wild = st.one_of(st.floats(-1.3, 1.3), st.floats(-40, 40))
        accelerate = np.array([data.draw(wild) * j.get("acceleration", 100.0) * dt for j in JOINTS])
        asked = speed + accelerate
        values = {"position": last + asked * dt, "velocity": asked, "delta_position": asked * dt}[mode]
        measured = last + np.array([data.draw(st.floats(-1.2, 1.2)) * 0.5 * j["velocity"] for j in JOINTS])
        verdict = gate.check(propose(values, measured))
        if breaks_a_limit(mode, last, speed, change, values, measured, step):
            assert not verdict.ok
        if verdict.ok:
            gate.commit(values)
            last, speed, change = last + asked * dt, asked, asked - speed


@settings(max_examples=100, deadline=None)
@given(
    mode=st.sampled_from(["position", "velocity", "delta_position"]),
    joint=st.integers(0, 2),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    hold=st.booleans(),
)
def test_nan_at_any_joint_never_passes(mode: str, joint: int, bad: float, hold: bool) -> None:
    gate = make_gate(mode)
    values = np.array([0.0, 0.0, 0.04]) if mode == "position" else np.zeros(3)
    assert gate.check(propose(values)).ok
    values[joint] = bad
    verdict = gate.check(propose(values, plan_age_ms=None if hold else 5.0))
    assert not verdict.ok
    assert NAMES[joint] in verdict.reason


class Own:
    """A check that answers what the test wants."""

    kind = "own"

    def __init__(self, answer: Any = "") -> None:
        self.answer = answer

    def fault(self, proposal: Proposal, last: LastCommand) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "change":
            proposal.values[0] = 9.0
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("the door is open; close it", "the door is open; close it"),
        (ZeroDivisionError("by zero"), "the check 'own' itself failed: ZeroDivisionError: by zero"),
        ("change", "read-only"),
        (None, "None"),
    ],
)
def test_a_check_of_ones_own_can_only_refuse(answer: Any, words: str) -> None:
    good = propose([0.0, 0.0, 0.04])
    assert make_gate(extra=[Own()]).check(good).ok
    verdict = make_gate(extra=[Own(answer)]).check(good)
    assert (verdict.ok, verdict.kind) == (False, "own")
    assert words in verdict.reason
    np.testing.assert_array_equal(good.values, [0.0, 0.0, 0.04])
    good.values[0] = 0.001  # the caller's array stays the caller's
    assert make_gate(extra=[Own(answer)]).check(propose([9.0, 0.0, 0.04])).kind == "position", "asked after ours"


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers a good check, a broken one, and one that would take the place of ours."""
    example = Path(__file__).resolve().parents[2] / "examples/my_check.py"
    (tmp_path / "other_robot_checks.py").write_text(
        example.read_text() + "\n\ndef lenient(settings):\n    raise AssertionError('not asked for')\n"
    )
    info = tmp_path / "other_robot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-robot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[difftop_ros.checks]\ncalm = other_robot_checks:Calm\nbroken = other_robot_checks:Nothing\n"
        "position = other_robot_checks:lenient\nempty = other_robot_checks:main\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("other_package")
def test_a_check_is_added_by_entry_point_and_never_replaces_ours() -> None:
    checks = make_checks(SETTINGS, [*DEFAULT_CHECKS, "calm"])
    assert [check.kind for check in checks] == [*DEFAULT_CHECKS, "calm"]
    assert type(checks[DEFAULT_CHECKS.index("position")]).__module__.startswith("difftop_ros.")
    gate = CommandGate(MotionLimits.of(command("velocity"), RATE), checks)
    gate.reset(np.zeros(3))
    assert gate.check(propose([0.2, 0.01, 0.01])).ok
    for _ in range(2):  # at that speed without acceleration
        gate.commit(np.array([1.2, 1.6, 0.4]))
    assert gate.check(propose([1.2, 1.6, 0.4])).kind == "calm"


@pytest.mark.usefixtures("other_package")
@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([*DEFAULT_CHECKS, "clam"], "'clam', which no installed package offers; there are ['finite'"),
        ([*DEFAULT_CHECKS, "broken"], "the check 'broken' of another package cannot be made: AttributeError"),
        ([*DEFAULT_CHECKS, "empty"], "the check 'empty' of another package cannot be made: TypeError"),
        (["position", "velocity"], "expected ['finite', 'joint names']"),
        ([*DEFAULT_CHECKS, "position"], "['position'] more than once"),
    ],
)
def test_a_list_of_checks_that_cannot_be_had_is_a_sentence(names: list[str], words: str) -> None:
    with pytest.raises(UserError) as error:
        make_checks(SETTINGS, names)
    assert words in str(error.value)


def test_checks_left_out_are_told() -> None:
    assert left_out(DEFAULT_CHECKS) == []
    assert left_out(["finite", "joint names", "velocity", "calm"]) == [
        "plan age", "measurement", "position", "acceleration", "jerk", "tracking", "clearance",
    ]  # fmt: skip


def test_the_example_passes_one_command_and_refuses_another() -> None:
    example = Path(__file__).resolve().parents[2] / "examples/my_check.py"
    assert len(example.read_text().splitlines()) < 60
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=60, check=True)
    first, second = done.stdout.splitlines()
    assert first.endswith("passes")
    assert "is refused by 'calm': the joints use 90% of their top speeds together" in second
