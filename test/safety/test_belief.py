"""Belief: what a robot can have done is believed, what it cannot have done is not, however long it lasts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftop_ros.contract import Command, JointLimits
from difftop_ros.safety import Belief, MotionLimits
from difftop_ros.safety.belief import AGAIN, OUTSIDE

COMMAND = Command(
    topic="/c",
    type="sensor_msgs/msg/JointState",
    joints=(
        JointLimits(name="a", position=(-2.0, 2.0), velocity=2.0),
        JointLimits(name="b", position=(0.0, 1.0), velocity=0.5),
    ),
)
LIMITS = MotionLimits.of(COMMAND, 50.0)
REST = np.array([1.0, 0.5])
MS = 1_000_000


def settled() -> Belief:
    """A belief in REST at 1 s."""
    belief = Belief(LIMITS)
    assert all(belief.judge(REST, (1000 - 10 * step) * MS).ok for step in reversed(range(AGAIN)))
    return belief


def test_a_jump_among_the_first_readings_begins_anew() -> None:
    belief = Belief(LIMITS)
    assert belief.judge(REST, 0).ok and belief.judge(np.zeros(2), 10 * MS).ok
    np.testing.assert_array_equal(belief.position, np.zeros(2))
    for step in range(2, 2 + AGAIN):
        assert belief.judge(np.zeros(2), 10 * step * MS).ok
    assert belief.judge(REST, 100 * MS).kind == "jump"


def test_zeros_in_mid_run_are_not_believed_however_long_they_last() -> None:
    belief = settled()
    for step in range(1, 300):
        verdict = belief.judge(np.zeros(2), (1000 + 10 * step) * MS)
        assert verdict.kind == "jump"
        assert "joint 'b' is measured 0.500 rad from where it was" in verdict.reason
    np.testing.assert_array_equal(belief.position, REST)


def test_the_robot_itself_is_believed_again_after_some_readings() -> None:
    belief = settled()
    belief.judge(np.zeros(2), 1010 * MS)
    verdicts = [belief.judge(REST, (1010 + 10 * step) * MS) for step in range(1, AGAIN + 1)]
    assert [verdict.kind for verdict in verdicts] == ["recovering"] * (AGAIN - 1) + [""]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, 2.3])
def test_what_lies_outside_the_limits_is_not_believed(value: float) -> None:
    assert "outside its limits [-2, 2]" in settled().judge(np.array([value, 0.5]), 1010 * MS).reason


def test_a_soft_stop_just_outside_is_believed() -> None:
    belief = Belief(LIMITS)
    assert belief.judge(np.array([2.0 + 0.9 * OUTSIDE * 4.0, 0.5]), 0).ok


def test_time_that_goes_back_begins_anew_but_two_topics_order_does_not() -> None:
    belief = settled()
    assert belief.judge(REST, 995 * MS).ok
    assert belief.judge(np.array([-1.0, 0.5]), 990 * MS).kind == "jump"
    assert Belief(LIMITS).judge(np.array([-1.0, 0.5]), 0).ok
    reset = Belief(LIMITS)
    assert reset.judge(REST, 5000 * MS).ok and reset.judge(np.array([-1.0, 0.5]), 0).ok


moves = st.tuples(
    st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(0.001, 0.5), st.sampled_from(["true", "false", "noise"])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(moves, min_size=1, max_size=60))
def test_the_believed_pose_never_moves_faster_than_stated(sequence: list[tuple[float, float, float, str]]) -> None:
    belief, true, now = settled(), REST.copy(), 1.0
    for first, second, passed, kind in sequence:
        before, now = belief.position, now + passed
        true = np.clip(true + np.array([first, second]) * LIMITS.velocity * passed, LIMITS.lower, LIMITS.upper)
        reading = {"true": true, "false": np.array([2 * first, abs(second)]), "noise": np.array([1e9 * first, np.nan])}
        verdict = belief.judge(reading[kind], round(now * 1e9))
        assert belief.position is not None and before is not None
        assert np.isfinite(belief.position).all()
        assert (np.abs(belief.position - before) <= belief.reach(passed) + 1e-9).all()
        if not verdict.ok:
            np.testing.assert_array_equal(belief.position, before)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.2)), max_size=80))
def test_a_robot_within_its_limits_is_always_believed(sequence: list[tuple[float, float, float]]) -> None:
    belief, true, now = settled(), REST.copy(), 1.0
    for first, second, passed in sequence:
        now += passed
        true = np.clip(true + np.array([first, second]) * LIMITS.velocity * passed, LIMITS.lower, LIMITS.upper)
        assert belief.judge(true, round(now * 1e9)).ok


def offset_by(belief: Belief, offset: float, seconds: float, share: int = 2) -> list[str]:
    """Kinds of verdict on two drivers at 100 Hz together, each `share`-th message `offset` away."""
    count = round(seconds * 100)
    readings = [REST + (offset if step % share == 0 else 0.0) * np.ones(2) for step in range(count)]
    return [belief.judge(r, (1000 + 10 * (n + 1)) * MS).kind for n, r in enumerate(readings)]


@pytest.mark.parametrize("offset", [0.02, 0.05, 0.3])
@pytest.mark.parametrize("share", [2, 5])
def test_two_drivers_that_do_not_agree_are_not_believed(offset: float, share: int) -> None:
    belief = settled()
    kinds = offset_by(belief, offset, 2.0, share)
    assert set(kinds[50:]) <= {"two drivers", "jump", "recovering"}
    assert set(kinds[50:]) & {"two drivers", "jump"}
    assert np.abs(belief.position - REST).max() <= 0.06


@pytest.mark.parametrize("silent_ms", [10, 240, 2000, 20_000])
def test_an_offset_is_not_believed_after_whatever_silence(silent_ms: int) -> None:
    belief = settled()
    for step in range(50):
        assert not belief.judge(REST - [0.8, 0.0], (1000 + silent_ms + 10 * step) * MS).ok
    np.testing.assert_array_equal(belief.position, REST)


def test_readings_that_stay_while_commands_move_are_frozen_until_they_change() -> None:
    belief = settled()
    kinds = []
    for step in range(100):
        belief.commanded(REST - [0.005 * step, 0.0])
        kinds.append(belief.judge(REST, (1010 + 20 * step) * MS).kind)
    assert kinds[:12] == [""] * 12
    assert set(kinds[30:]) == {"frozen"}
    now = [belief.judge(REST - 1e-6 * step, (3010 + 20 * step) * MS).kind for step in range(1, 10)]
    assert now == ["recovering"] * (AGAIN - 1) + [""] * (9 - AGAIN + 1)


def test_a_robot_at_rest_may_read_the_same_for_ever() -> None:
    belief = settled()
    for step in range(500):
        belief.commanded(REST + 1e-3)
        assert belief.judge(REST, (1010 + 20 * step) * MS).ok


def test_a_gripper_with_a_driver_of_its_own_may_stand_still_on_an_object() -> None:
    belief = settled()
    for step in range(200):
        belief.commanded(np.array([1.0 - 0.002 * step, 0.5 - 0.002 * step]))
        now = (1010 + 20 * step) * MS
        assert belief.judge(np.array([1.0 - 0.002 * step, 0.5]), now, joints=np.array([0])).ok
        assert belief.judge(np.array([1.0 - 0.002 * step, 0.5]), now + MS, joints=np.array([1])).ok


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_a_position_that_moves_against_its_velocity_is_not_believed(sign: float) -> None:
    belief = settled()
    speed = np.array([0.5, 0.1])
    kinds = [
        belief.judge(REST - 0.01 * step * speed, (1000 + 10 * step) * MS, -sign * speed).kind for step in range(1, 100)
    ]
    assert ("velocity" in kinds) is (sign < 0)
    assert sign < 0 or set(kinds) == {""}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=5, max_size=120), st.floats(0.002, 0.05))
def test_a_motion_within_acceleration_limits_with_noise_is_believed(pushes: list[float], passed: float) -> None:
    """Real motion, with its own velocity and the noise of an encoder: no suspicion."""
    belief, position, speed, now = settled(), REST.copy(), np.zeros(2), 1.0
    for number, push in enumerate(pushes):
        now += passed
        speed = np.clip(speed + push * LIMITS.velocity * passed / 0.1, -LIMITS.velocity, LIMITS.velocity)
        position = np.clip(position + speed * passed, LIMITS.lower, LIMITS.upper)
        noise = 1e-3 * (-1) ** number
        belief.commanded(position)
        assert belief.judge(position + noise, round(now * 1e9), speed).ok
