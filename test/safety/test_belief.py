"""Belief: what a robot can have done is believed, what it cannot have done is not, however long it lasts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftop_ros.contract import Command, JointLimits
from difftop_ros.safety import Belief, MotionLimits
from difftop_ros.safety.belief import AGAIN, FASTER, LONGEST_S, NOISE, OUTSIDE, SHORTEST_S

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
    assert all(belief.judge(REST, (1000 - 10 * step) * MS) == "" for step in reversed(range(AGAIN)))
    return belief


def test_a_jump_among_the_first_readings_begins_anew() -> None:
    belief = Belief(LIMITS)
    assert [belief.judge(REST, 0), belief.judge(np.zeros(2), 10 * MS)] == ["", ""]
    np.testing.assert_array_equal(belief.position, np.zeros(2))
    for step in range(2, 2 + AGAIN):
        assert belief.judge(np.zeros(2), 10 * step * MS) == ""
    assert "from where it was" in belief.judge(REST, 100 * MS)


def test_zeros_in_mid_run_are_not_believed_however_long_they_last() -> None:
    belief = settled()
    for step in range(1, 300):
        reason = belief.judge(np.zeros(2), (1000 + 10 * step) * MS)
        assert "joint 'b' is measured 0.500 rad from where it was" in reason
    np.testing.assert_array_equal(belief.position, REST)


def test_the_robot_itself_is_believed_again_after_some_readings() -> None:
    belief = settled()
    belief.judge(np.zeros(2), 1010 * MS)
    verdicts = [belief.judge(REST, (1010 + 10 * step) * MS) for step in range(1, AGAIN + 1)]
    assert all("plausible again" in verdict for verdict in verdicts[:-1]) and verdicts[-1] == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, 2.3])
def test_what_lies_outside_the_limits_is_not_believed(value: float) -> None:
    assert "outside its limits [-2, 2]" in settled().judge(np.array([value, 0.5]), 1010 * MS)


def test_a_soft_stop_just_outside_is_believed() -> None:
    belief = Belief(LIMITS)
    assert belief.judge(np.array([2.0 + 0.9 * OUTSIDE * 4.0, 0.5]), 0) == ""


def test_time_that_goes_back_begins_anew_but_two_topics_order_does_not() -> None:
    belief = settled()
    assert belief.judge(REST, 995 * MS) == ""
    assert belief.judge(np.array([-1.0, 0.5]), 990 * MS) != ""
    assert Belief(LIMITS).judge(np.array([-1.0, 0.5]), 0) == ""
    reset = Belief(LIMITS)
    assert reset.judge(REST, 5000 * MS) == "" and reset.judge(np.array([-1.0, 0.5]), 0) == ""


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
        reach = FASTER * min(max(passed, SHORTEST_S), LONGEST_S) * LIMITS.velocity + NOISE * np.array([4.0, 1.0])
        assert (np.abs(belief.position - before) <= reach + 1e-9).all()
        if verdict:
            np.testing.assert_array_equal(belief.position, before)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.2)), max_size=80))
def test_a_robot_within_its_limits_is_always_believed(sequence: list[tuple[float, float, float]]) -> None:
    belief, true, now = settled(), REST.copy(), 1.0
    for first, second, passed in sequence:
        now += passed
        true = np.clip(true + np.array([first, second]) * LIMITS.velocity * passed, LIMITS.lower, LIMITS.upper)
        assert belief.judge(true, round(now * 1e9)) == ""
