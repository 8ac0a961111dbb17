"""When the robot is a person's, and when it is the policy's again."""

import numpy as np

from difftop_ros.contract import Command
from difftop_ros.safety import HoldSupervisor, MotionLimits
from difftop_ros.safety.handover import STILL_TICKS, HandOver
from difftop_ros.safety.hold import PERSON

LIMITS = MotionLimits.of(
    Command.model_validate(
        {
            "topic": "/c",
            "type": "sensor_msgs/msg/JointState",
            "joints": [{"name": n, "position": [-2, 2], "velocity": 2.0, "acceleration": 40.0} for n in ("a", "b")],
        }
    ),
    50,
)


def test_a_robot_is_taken_back_only_when_it_stands_and_is_believed() -> None:
    raised = False
    handover = HandOver(LIMITS, lambda: raised)
    here = np.zeros(2)
    assert handover.look(here, "a fault of nobody's concern") == "", "what was never given need not be taken back"
    raised = True
    assert "a person has taken over" in handover.look(here, "")
    raised = False
    for tick in range(3 * STILL_TICKS):
        assert "must stand" in handover.look(here + 0.02 * tick, ""), "it moves at half of its top speed"
    rest = here + 0.02 * 3 * STILL_TICKS
    assert "not believed" in handover.look(rest, "it is not believed")
    told = [handover.look(rest + 1e-4 * (tick % 2), "") for tick in range(STILL_TICKS)]
    assert all(told[:-1]) and told[-1] == ""
    assert handover.look(rest + 1.0, "a fault") == "", "from then on it is the policy's"


def test_a_hand_over_is_no_failure_however_often_and_no_plan_ends_it() -> None:
    supervisor = HoldSupervisor(resume_after=1, max_failures=2, window_s=10.0)
    for time in range(5):
        supervisor.wait("a person", float(time), PERSON)
        assert not supervisor.good_plan() and supervisor.holding and supervisor.waits
        supervisor.trip("something else meanwhile", time + 0.1, "other")
        assert (supervisor.reason, supervisor.kind) == ("a person", PERSON)
        supervisor.wait("no task", time + 0.2)
        supervisor.go(time + 0.3, PERSON)
        assert supervisor.reason == "something else meanwhile"
        assert supervisor.good_plan() and supervisor.reason == "no task", "each waits for its own end"
        supervisor.go(time + 0.4)
        assert supervisor.good_plan() and not supervisor.holding
    assert supervisor.exhausted == ""
    for time in range(5, 7):
        supervisor.trip("something else", float(time))
        supervisor.good_plan()
    assert "held 2 times" in supervisor.exhausted
