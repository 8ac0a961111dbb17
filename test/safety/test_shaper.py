"""The motion shaper and the hold: by construction within the limits, so that the gate passes what they propose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftop_ros.contract import Command
from difftop_ros.safety import (
    CommandGate,
    GateSettings,
    HoldSupervisor,
    MotionLimits,
    MotionShaper,
    Proposal,
    make_checks,
)

MODES = ["position", "velocity", "delta_position"]


def make(
    mode: str, acceleration: float | None, step: float | None, rate: float = 50.0, jerk: float | None = None
) -> tuple[CommandGate, MotionShaper, np.ndarray]:
    joints = [
        {"name": "a", "position": [-2, 2], "velocity": 1.5, "acceleration": acceleration, "jerk": jerk, "step": step},
        {"name": "b", "unit": "m", "position": [0.0, 0.08], "velocity": 0.5, "step": step},
    ]
    command = Command.model_validate(
        {"topic": "/c", "type": "std_msgs/msg/Float64MultiArray", "mode": mode, "joints": joints}
    )
    limits = MotionLimits.of(command, rate)
    gate = CommandGate(limits, make_checks(GateSettings(500.0, 100.0, 1e3)))
    shaper = MotionShaper(limits)
    start = np.array([0.0, 0.04])
    gate.reset(start)
    shaper.reset(start)
    return gate, shaper, start


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    acceleration=st.sampled_from([None, 2.0, 15.0, 60.0]),
    jerk=st.sampled_from([None, 5.0, 100.0, 7500.0]),
    step=st.sampled_from([0.008, 0.05]),
    rate=st.sampled_from([20.0, 50.0, 200.0]),
    targets=st.lists(st.tuples(st.floats(-2, 2), st.floats(0, 0.08)), min_size=2, max_size=25),
    hold_from=st.integers(0, 25),
)
def test_what_the_shaper_proposes_passes_the_gate(
    mode: str, acceleration: float | None, jerk: float | None, step: float, rate: float,
    targets: list[tuple[float, float]], hold_from: int,
) -> None:  # fmt: skip
    """Any targets within the bounds, a new one every few ticks, and a stop at any moment: nothing trips."""
    gate, shaper, position = make(mode, acceleration, step, rate, jerk)
    bound = gate.limits.action_bounds()[1]
    before = np.array(position) if mode == "position" else np.zeros(2)
    for number, target in enumerate(targets):
        wanted = np.array(target) if mode == "position" else np.array(target) / [2.0, 0.08] * bound
        for _ in range(4):
            holding = number >= hold_from
            values = shaper.stop() if holding else shaper.propose(before, wanted, position)
            before = wanted
            verdict = gate.check(Proposal(["a", "b"], values, None if holding else 1.0, position, 1.0))
            assert verdict.ok, verdict.reason
            gate.commit(values)
            shaper.commit(values)
            position = values if mode == "position" else position + shaper.speed * gate.limits.dt
            assert np.all(position >= gate.limits.lower - 1e-6)
            assert np.all(position <= gate.limits.upper + 1e-6)


@pytest.mark.parametrize("jerk", [None, 100.0])
def test_a_feasible_reference_is_followed_exactly(jerk: float | None) -> None:
    _, shaper, _ = make("position", 15.0, None, jerk=jerk)
    before = np.array([0.0, 0.04])
    for tick in range(1, 200):
        ease = 1.0 - np.exp(-((tick / 60) ** 3))  # from rest without a jump of acceleration
        target = np.array([0.4 - 0.4 * ease * np.cos(0.02 * tick), 0.04 + 0.02 * ease * np.sin(0.02 * tick)])
        target[0] -= 0.4 * (1.0 - ease)
        values = shaper.propose(before, target, before)
        np.testing.assert_allclose(values, target, atol=1e-9)
        shaper.commit(values)
        before = target


@pytest.mark.parametrize(("rate", "jerk"), [(50.0, None), (50.0, 300.0), (500.0, 300.0)])
def test_a_far_target_is_reached_at_the_limits_without_overshoot(rate: float, jerk: float | None) -> None:
    _, shaper, start = make("position", 15.0, None, rate, jerk)
    target = np.array([1.2, 0.0])
    seen = [start]
    for _ in range(round(1.6 * rate)):
        values = shaper.propose(target, target, seen[-1])
        shaper.commit(values)
        seen.append(values)
    path = np.array(seen)
    np.testing.assert_allclose(path[-1], target, atol=1e-9)
    assert path[:, 0].max() <= 1.2 + 1e-5
    assert np.abs(np.diff(path, axis=0)[:, 0]).max() == pytest.approx(1.5 / rate)
    at_best = 1.2 / 1.5 + 1.5 / 15.0 + (15.0 / jerk if jerk else 0.0)  # of a motion in continuous time
    assert int(np.argmax(path[:, 0] > 1.2 - 1e-3)) / rate < at_best + 2 / rate


@pytest.mark.parametrize("mode", MODES)
def test_stop_decelerates_to_rest(mode: str) -> None:
    _, shaper, position = make(mode, 15.0, 0.05)
    full = np.array([2.0, 0.08]) if mode == "position" else np.array([1.0, 0.0]) * shaper.limits.action_bounds()[1]
    for _ in range(20):
        shaper.commit(shaper.propose(full, full, position))
    assert not shaper.at_rest
    speeds = [shaper.speed[0]]
    for _ in range(30):
        shaper.commit(shaper.stop())
        speeds.append(shaper.speed[0])
    assert shaper.at_rest
    assert np.all(np.diff(speeds) <= 1e-12)
    assert np.abs(np.diff(speeds)).max() <= 15.0 / 50 + 1e-9


def test_a_hold_for_tracking_returns_to_the_measured_pose() -> None:
    _, shaper, _ = make("position", 15.0, None)
    measured = np.array([-0.4, 0.05])
    for _ in range(100):
        values = shaper.stop(measured)
        shaper.commit(values)
    np.testing.assert_allclose(values, measured, atol=1e-3)


def test_first_reason_wins_and_fresh_plans_end_the_hold() -> None:
    hold = HoldSupervisor(resume_after=3, max_failures=10, window_s=5.0)
    assert hold.trip("the cloud has no finite point", 0.0, "observation")
    assert not hold.trip("the plan is 900 ms old", 0.1, "plan age")
    assert (hold.reason, hold.kind) == ("the cloud has no finite point", "observation")
    assert [hold.good_plan(), hold.good_plan()] == [False, False]
    hold.trip("again", 0.2)  # a failure in between starts the count anew
    assert [hold.good_plan(), hold.good_plan(), hold.good_plan()] == [False, False, True]
    assert not hold.holding
    assert hold.reason == ""


def test_frequent_holds_exhaust_and_rare_ones_do_not() -> None:
    hold = HoldSupervisor(resume_after=1, max_failures=3, window_s=5.0)
    for now in (0.0, 4.0, 8.0, 12.0):
        hold.trip("stale", now)
        assert hold.good_plan()
    assert hold.exhausted == ""
    for now in (13.0, 14.0):
        hold.trip("stale again", now)
        hold.good_plan()
    assert "held 3 times within 5 s" in hold.exhausted
    assert hold.holding, "an exhausted supervisor never resumes by itself"
