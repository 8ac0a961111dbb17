"""What a hold says of itself: the reason that keeps it, and for how long."""

from __future__ import annotations

from difftop_ros.safety import HoldSupervisor


def test_a_reason_stands_while_it_is_given_again_and_then_makes_room() -> None:
    hold = HoldSupervisor(resume_after=2, max_failures=10, window_s=5.0)
    assert hold.held_s(9.0) == 0.0
    assert hold.trip("the joint jumped", 10.0, "jump")
    for step in range(1, 11):  # two threads with a reason each: what is told does not go to and fro
        assert not hold.trip("the observation is not believed", 10.0 + step / 10, "observation")
        assert not hold.trip(f"the joint jumped {step}", 10.01 + step / 10, "jump")
        assert (hold.reason, hold.kind) == (f"the joint jumped {step}", "jump")
    hold.trip("the cloud is stale", 11.4, "observation")
    assert hold.reason == "the joint jumped 10", "not renewed for .4 s"
    hold.trip("the cloud is stale", 11.6, "observation")
    assert (hold.reason, hold.kind, hold.began_by) == ("the cloud is stale", "observation", "jump")
    assert hold.held_s(12.0) == 2.0
    assert not hold.good_plan()
    hold.trip("the cloud is empty", 12.0, "observation")
    assert hold.reason == "the cloud is empty", "of the same kind, as it is now"
    assert not hold.good_plan()
    assert hold.good_plan()
    assert (hold.reason, hold.kind, hold.began_by, hold.held_s(13.0)) == ("", "", "", 0.0)


def test_one_hold_with_many_reasons_is_one_failure() -> None:
    hold = HoldSupervisor(resume_after=1, max_failures=2, window_s=100.0)
    for step in range(50):
        hold.trip(f"reason {step}", float(step), f"kind {step}")
    assert hold.exhausted == ""
    assert hold.good_plan()
    hold.trip("again", 51.0, "kind")
    assert "the last time because again" in hold.exhausted


def test_a_hold_that_is_asked_for_lasts_until_it_may_go_and_is_no_failure() -> None:
    hold = HoldSupervisor(resume_after=2, max_failures=1, window_s=5.0)
    hold.wait("no task", 10.0)
    assert not hold.good_plan() and not hold.good_plan()
    assert (hold.holding, hold.waits, hold.reason, hold.kind, hold.held_s(11.0)) == (True, True, "no task", "task", 1.0)
    hold.go(12.0)
    assert hold.holding and not hold.waits and not hold.good_plan(), "moves by fresh plans alone"
    assert hold.good_plan() and not hold.holding and hold.exhausted == "" and hold.begun == 0
    hold.wait("no task", 20.0)
    hold.trip("the cloud is stale", 21.0, "observation")
    assert (hold.reason, hold.waits, hold.begun, hold.held_s(22.0)) == ("the cloud is stale", False, 1, 2.0)
    assert "the cloud is stale" in hold.exhausted


def test_a_fault_that_passes_leaves_the_hold_that_was_asked_for() -> None:
    hold = HoldSupervisor(resume_after=1, max_failures=9, window_s=5.0)
    hold.trip("the cloud is stale", 10.0, "observation")
    hold.wait("no task", 11.0)
    assert hold.held_s(12.0) == 2.0
    assert hold.good_plan() and (hold.reason, hold.waits) == ("no task", True)
    hold.go(13.0)
    hold.go(13.1)
    assert hold.good_plan() and not hold.holding
