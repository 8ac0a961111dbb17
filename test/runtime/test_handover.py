"""A person takes over from the control loop and gives back; time, joints and plans are the test's."""

from typing import Any

import numpy as np
import pytest
from control_bench import Bench

from difftop_ros.safety.handover import STILL_TICKS

SPEED, ACCELERATION, DT = 2.0, 40.0, 0.02


def keep_planning(bench: Bench, ticks: int, target: Any, mode: str = "position") -> None:
    """A fresh, accepted plan every other tick, as the planner makes them whoever moves the robot."""
    for _ in range(ticks // 2):
        bench.plan(target, mode)
        bench.hold.good_plan()
        bench.ticks(2)


@pytest.mark.parametrize("mode", ["position", "velocity"])
def test_it_comes_to_rest_within_limits_says_nothing_and_begins_where_the_person_left_the_robot(mode: str) -> None:
    bench = Bench(mode)
    forward = [1.9, 0.5] if mode == "position" else [1.5, 0.5]
    keep_planning(bench, 20, forward, mode)
    moving = len(bench.sent)
    assert moving == 20

    bench.intervened = True
    keep_planning(bench, 60, forward, mode)
    path = np.array(bench.sent)
    speeds = np.diff(path, axis=0) / DT if mode == "position" else path
    assert np.abs(np.diff(speeds, axis=0)).max() / DT <= ACCELERATION + 1e-6, "it stops as it always stops"
    np.testing.assert_allclose(speeds[-1], 0.0, atol=1e-9)
    assert len(bench.sent) <= moving + 25, "and then says nothing"
    assert bench.hold.kind == "intervention" and "a person has taken over" in bench.hold.reason
    assert not bench.loop.started and bench.loop.last is None, "the end of the run has nothing to say either"

    said = len(bench.sent)
    bench.position = np.array([-1.0, 1.0])  # the person moves it, quickly, and gives it back while it moves
    bench.intervened = False
    for _ in range(30):
        bench.position = bench.position + 0.02
        keep_planning(bench, 2, forward, mode)
    assert len(bench.sent) == said and "must stand" in bench.hold.reason
    left = bench.position.copy()
    keep_planning(bench, STILL_TICKS + 20, forward, mode)
    again = np.array(bench.sent[said:])
    assert not bench.hold.holding and len(again) > 5
    first = again[0] - left if mode == "position" else again[0] * DT
    assert np.abs(first).max() <= ACCELERATION * DT**2 + 1e-9, "from rest, where the person left it"


def test_nothing_of_a_hand_over_exhausts_the_node_or_is_made_up_for_afterwards() -> None:
    bench = Bench(max_failures=3)
    for _ in range(5):
        keep_planning(bench, 10, [1.0, 1.0])
        bench.intervened = True
        bench.fault = "the robot is shaken"  # what is measured meanwhile is nobody's failure
        keep_planning(bench, 10, [1.0, 1.0])
        bench.fault, bench.intervened = "", False
        keep_planning(bench, STILL_TICKS + 20, [1.0, 1.0])
    assert bench.hold.exhausted == "" and not bench.hold.holding
    bench.intervened = True
    bench.ticks(20)
    sent = len(bench.sent)
    bench.fault, bench.intervened = "the joints are doubted", False
    keep_planning(bench, 80, [1.0, 1.0])
    assert len(bench.sent) == sent and "doubted" in bench.hold.reason
