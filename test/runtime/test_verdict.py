"""The verdict on a whole plan: first step and joint beyond each limit, before any of it runs."""

from __future__ import annotations

import numpy as np
import pytest

from difftop_ros.contract import Command
from difftop_ros.runtime.plan import TimedPlan
from difftop_ros.runtime.verdict import PlanVerdict, judge_plan
from difftop_ros.safety import MotionLimits

S = 1_000_000_000


def limits(mode: str = "position") -> MotionLimits:
    joint = {"position": [-2, 2], "velocity": 2.0, "acceleration": 10.0, "jerk": 100.0, "step": 1.0}
    joints = [{"name": name, **joint} for name in "ab"]
    kind = "sensor_msgs/msg/JointState"
    command = Command.model_validate({"topic": "/c", "type": kind, "mode": mode, "joints": joints})
    return MotionLimits.of(command, 50.0)


def plan(column: list[float], mode: str = "position") -> TimedPlan:
    """Joint 'b' is asked for `column`, 'a' for nothing; steps of .1 s."""
    return TimedPlan(S, 0.1, np.stack([np.zeros(len(column)), column], axis=1), ("a", "b"), mode)


def judged(column: list[float], mode: str = "position", before: list[float] | None = None) -> dict[str, tuple]:
    in_force = None if before is None else plan(before, mode)
    found: PlanVerdict = judge_plan(plan(column, mode), limits(mode), in_force, S)
    return {f.what: (f.step, f.joint, round(f.got, 6), f.limit) for f in found.findings}


def test_the_first_step_beyond_each_limit_is_named() -> None:
    found = judged([0.0, 0.0, 0.3, 0.6, 0.6])
    assert found["velocity"] == (2, "b", 3.0, 2.0)
    assert found["acceleration"] == (2, "b", 30.0, 10.0)
    assert found["jerk"] == (3, "b", -300.0, 100.0)
    assert "seam" not in found


def test_of_a_plan_within_the_limits_the_nearest_is_named() -> None:
    verdict = judge_plan(plan([0.0, 0.01, 0.03, 0.04]), limits(), None, S)
    assert verdict.slowed == "" and verdict.refusal(1.0) == ""
    assert {f.what: round(f.excess, 6) for f in verdict.findings} == {"velocity": 0.1, "acceleration": 0.1, "jerk": 0.2}


@pytest.mark.parametrize(("mode", "expected"), [("velocity", (0, "b", 1.5, 1.0)), ("position", (0, "b", 1.5, 0.2))])
def test_the_seam_is_against_what_is_in_force(mode: str, expected: tuple) -> None:
    assert judged([1.0, 1.0], mode, before=[-0.5, -0.5])["seam"] == pytest.approx(expected)


def test_rates_of_increments_are_per_step() -> None:
    assert judged([0.1, 0.3], "delta_position")["velocity"] == (1, "b", 3.0, 2.0)


def test_what_is_beyond_is_a_sentence_and_refused_only_when_asked() -> None:
    verdict = judge_plan(plan([0.0, 0.3]), limits(), None, S)
    assert "velocity of joint 'b' at step 1 is 3 rad/s, 1.5 times its limit 2" in verdict.slowed
    assert verdict.refusal(0.0) == verdict.refusal(1.6) == ""
    assert "max_plan_excess is 1.4" in verdict.refusal(1.4)
    assert verdict.worst is not None and verdict.worst.what == "velocity"


def test_a_joint_without_limits_and_a_plan_of_one_step_have_none() -> None:
    assert judge_plan(plan([0.5]), limits(), None, S).findings == ()
