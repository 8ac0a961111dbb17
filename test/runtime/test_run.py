"""A whole run without ROS: streams in, commands out, what it refuses, and that it ends with a farewell at rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from whole_run import Robot

from difftop_ros.errors import UserError
from difftop_ros.safety.checks import DEFAULT_CHECKS


@pytest.fixture
def robot() -> Iterator[Robot]:
    double = Robot()
    yield double
    double.close()


@pytest.mark.parametrize("mode", ["velocity", "position"])
def test_a_run_moves_then_rests_and_its_farewell_is_the_last_word(mode: str, robot: Robot) -> None:
    run = robot.make(mode)
    run.start()
    robot.until(lambda: len(robot.outlet.sent) > 20)
    assert run.stop() == ["nobody heard it"]
    assert run.ended
    ways = [way for way, _ in robot.outlet.sent]
    values = np.array([v for _, v in robot.outlet.sent])
    assert ways == ["send"] * (len(ways) - 1) + ["farewell"]
    if mode == "velocity":
        assert values[:, 0].max() > 0.1
        np.testing.assert_array_equal(values[-2:], np.zeros((2, 2)))
        assert np.abs(np.diff(values, axis=0)).max() <= 20.0 / 50 + 1e-9, "slows down within its limits"
    else:
        assert values[0] == pytest.approx(robot.position, abs=1.0 / 50 + 1e-9)
        np.testing.assert_allclose(values[-1], values[-2])
    figures = run.figures()
    assert figures["solver_status"] == "CONVERGED" and figures["solve_ms"] == 1.0
    assert figures["plans"] == len([plan for _, plan in robot.results if plan is not None]) > 0
    assert [result.sequence for result, _ in robot.results] == list(range(1, len(robot.results) + 1))


def test_a_run_that_never_sent_anything_says_no_farewell(robot: Robot) -> None:
    run = robot.make()
    robot.worker.fault = "the camera is covered"
    run.start()
    robot.until(lambda: robot.results)
    assert run.stop() == []
    assert robot.outlet.sent == []
    result, plan = robot.results[0]
    assert (result.refusal, result.status, plan) == ("the camera is covered", "", None)
    assert run.supervisor.reason == "the camera is covered"


@pytest.mark.parametrize(
    ("changes", "position", "words"),
    [
        ({"fault": "observation 'state' is stale"}, [0.0, 0.0], "observation 'state' is stale"),
        ({}, [2.5, 0.0], "joint 'a' is measured at 2.5"),
        ({}, [np.nan, 0.0], "not finite for ['a']"),
        ({"checks": [*DEFAULT_CHECKS, "nobody's"]}, [0.0, 0.0], "'nobody's', which no installed package offers"),
    ],
)
def test_what_a_run_cannot_begin_with_is_a_sentence(
    changes: dict[str, Any], position: list[float], words: str, robot: Robot
) -> None:
    robot.position = np.array(position)
    with pytest.raises(UserError) as error:
        robot.make(**changes)
    assert words in str(error.value)


@pytest.mark.parametrize(("novelty", "most", "held"), [(3.5, 3.0, True), (2.5, 3.0, False), (50.0, 0.0, False)])
def test_an_observation_unlike_those_of_training_holds(novelty: float, most: float, held: bool, robot: Robot) -> None:
    run = robot.make(max_novelty=most)
    run.start()
    robot.until(lambda: run.planner.accepted)
    robot.worker.novelty = novelty
    robot.until(lambda: robot.results[-1][0].novelty == novelty)
    result, plan = robot.results[-1]
    robot.worker.novelty = 0.5
    sentence = (
        "the observation is not like those of training: novelty 3.5 of 'camera colours', max_novelty is 3; look at that"
        " sensor and the scene"
    )
    assert result.refusal == (sentence if held else "") and (plan is None) == held
    robot.until(lambda: robot.results[-1][0].novelty == 0.5 and not run.supervisor.holding)
    assert run.planner.refused == 0, "the plan is not to blame"
    run.stop()


def test_a_policy_that_asks_for_what_no_joint_can_do_is_refused_and_lesser_excess_is_counted(robot: Robot) -> None:
    run = robot.make()
    run.start()
    robot.until(lambda: run.planner.accepted)
    assert run.figures()["plans_clipped"] == 0
    robot.worker.outside = 0.2
    robot.until(lambda: run.figures()["plans_clipped"] > 2)
    assert not run.supervisor.holding
    robot.worker.outside = 1e9
    robot.until(lambda: run.supervisor.holding)
    assert run.supervisor.reason == (
        "the policy asks for 1e+09 times a joint's range outside its bounds, max_outside is 0.5; check the model, and "
        "that the contract is the one it was trained under"
    )
    robot.worker.outside = 0.0
    robot.until(lambda: not run.supervisor.holding)
    assert run.planner.refused > 0
    assert run.figures()["outside_worst"] == 1e9
    run.stop()


def test_frequent_holds_are_a_failure_of_the_run(robot: Robot) -> None:
    run = robot.make(max_failures=2)
    run.start()
    robot.until(lambda: robot.outlet.sent)
    holds = [lambda: run.supervisor.holding, lambda: not run.supervisor.holding, lambda: run.supervisor.holding]
    for fault, reached in zip(("covered", "", "covered again"), holds, strict=True):
        robot.worker.fault = fault
        robot.until(reached)
    assert run.failure == "held 2 times within 10 s, the last time because covered again"
    run.stop()
    assert robot.outlet.sent[-1][0] == "farewell"
    np.testing.assert_array_equal(robot.outlet.sent[-1][1], np.zeros(2))
