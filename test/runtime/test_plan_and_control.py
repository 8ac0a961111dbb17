"""Plans in time, planner and control logic, with a clock that the test moves; no ROS."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from control_bench import Bench, S, command, plan

from difftop_ros.errors import UserError
from difftop_ros.plan_result import PlanResult, WarmStart
from difftop_ros.runtime.clock import SystemTime, Tick
from difftop_ros.runtime.control import SLOWLY, SURE
from difftop_ros.runtime.joints import JointReading
from difftop_ros.runtime.plan import Continuation, PlanBuffer, TimedPlan, plan_fault
from difftop_ros.runtime.planner import PlannerLoop
from difftop_ros.runtime.streams import Renewed, StreamBuffers
from difftop_ros.safety import HoldSupervisor, MotionLimits
from tools.patience import patience

Results = list[tuple[PlanResult, TimedPlan | None]]
Warm = Callable[[int], WarmStart | None]


def test_interpolation_and_the_ends() -> None:
    p = plan(S, [[0, 0], [1, -1], [2, 0]])
    np.testing.assert_allclose(p.at(S + 25_000_000), [0.5, -0.5])
    np.testing.assert_allclose(p.at(S - S), [0, 0])
    np.testing.assert_allclose(p.at(9 * S), [2, 0])
    speeds = plan(S, [[1, 1], [1, 1]], "velocity")
    np.testing.assert_allclose(speeds.at(S + 90_000_000), [1, 1])
    np.testing.assert_allclose(speeds.at(S + 101_000_000), [0, 0])


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ([[0, 0], [0, np.nan]], "nan for joint 'b' at step 1"),
        ([[0, 2.1], [0, 0]], "outside [-2, 2]"),
        ([[0, 0, 0]], "shape (1, 3), expected (2, 2)"),
        ([[0, 0]], "shape (1, 2), expected (2, 2)"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(actions: list[list[float]], words: str) -> None:
    assert words in plan_fault(plan(0, actions), MotionLimits.of(command(), 50), 2)


def test_a_plan_for_other_joints_is_refused() -> None:
    other = TimedPlan(0, 0.05, np.zeros((2, 2)), ("b", "a"), "position")
    assert "['b', 'a']" in plan_fault(other, MotionLimits.of(command(), 50))


def target(buffer: PlanBuffer, now: int) -> np.ndarray:
    values = buffer.select(now, now)
    assert values is not None
    return values


def test_seams_are_continuous_also_when_plans_come_faster_than_they_blend() -> None:
    buffer = PlanBuffer(0.1)
    random = np.random.default_rng(1)
    now = 10 * S
    for _ in range(40):
        before = buffer.select(now, now)
        buffer.push(plan(now, random.uniform(-2, 2, (8, 2))), now)
        after = target(buffer, now)
        if before is not None:
            np.testing.assert_allclose(after, before, atol=1e-12)
        for _ in range(3):
            now += 10_000_000
            assert np.all(np.abs(target(buffer, now)) <= 2.0)
    now += 200_000_000
    assert buffer.newest is not None
    np.testing.assert_allclose(target(buffer, now), buffer.newest.at(now))


def test_nothing_is_sent_before_the_first_plan_and_motion_begins_at_the_measured_pose() -> None:
    bench = Bench()
    bench.ticks(5)
    assert bench.sent == []
    bench.plan([1.5, 1.5])
    bench.ticks(10)
    assert np.abs(bench.sent[0] - [0.1, -0.1]).max() <= 2.0 * 0.02 + 1e-9
    assert not bench.hold.holding
    assert bench.loop.report.published == 10
    assert set(bench.loop.report.step_ms) == {"read", "select", "gate", "publish", "report"}


def test_an_old_plan_becomes_a_hold_that_stops_within_limits_and_resumes_after_fresh_plans() -> None:
    bench = Bench()
    for _ in range(4):
        bench.plan([1.9, 0.0])
        bench.ticks(2)
    bench.ticks(20)
    assert bench.hold.kind == "plan age"
    assert "max_plan_age_ms is 300" in bench.hold.reason
    path = np.array(bench.sent)
    assert np.abs(np.diff(path, 2, axis=0)).max() / 0.02**2 <= 40.0 + 1e-6
    np.testing.assert_array_equal(path[-1], path[-2])
    for _ in range(2):
        bench.plan([1.9, 0.0])
        bench.hold.good_plan()
        bench.ticks(1)
    assert not bench.hold.holding
    bench.ticks(2)
    assert bench.sent[-1][0] > path[-1][0]


def test_stale_joints_hold_and_a_robot_that_does_not_follow_is_gone_back_to() -> None:
    bench = Bench()
    bench.plan([0.1, -0.1])
    bench.ticks(2)
    bench.age_ms = 150.0
    bench.ticks(1)
    assert bench.hold.kind == "measurement"
    stuck = Bench()
    stuck.follow = False
    for _ in range(12):
        stuck.plan([1.9, -0.1])
        stuck.ticks(5)
    assert stuck.hold.kind == "tracking"
    assert "joint 'a'" in stuck.hold.reason
    stuck.ticks(300)
    np.testing.assert_allclose(stuck.sent[-1], [0.1, -0.1], atol=1e-2)
    way = np.diff(np.array(stuck.sent)[-200:], axis=0)
    assert np.abs(way).max() <= 1.05 * SLOWLY * 2.0 * 0.02, "slowly"


def test_a_doubtful_pose_is_not_gone_back_to_and_one_believed_again_only_after_a_while() -> None:
    stuck = Bench()
    stuck.follow = False
    while stuck.hold.kind != "tracking":
        stuck.plan([1.9, -0.1])
        stuck.ticks(1)
    stuck.fault = "a second publisher"
    stuck.ticks(100)
    held = stuck.sent[-1]
    stuck.ticks(100)
    np.testing.assert_array_equal(stuck.sent[-1], held)
    stuck.fault = ""
    stuck.ticks(SURE - 1)
    np.testing.assert_array_equal(stuck.sent[-1], held)
    stuck.ticks(100)
    assert stuck.sent[-1][0] < held[0] - 0.05


@pytest.mark.parametrize("mode", ["position", "velocity"])
def test_whatever_fails_in_a_tick_the_threads_last_act_is_to_decelerate(mode: str) -> None:
    bench = Bench(mode)
    bench.plan([1.9, -1.9], mode)
    bench.ticks(10)
    assert not bench.loop._shaper.at_rest

    def broken(_time_ns: int) -> JointReading:
        raise MemoryError("no room for a message")

    bench.loop._read_joints = broken
    bench.loop.start()
    thread = bench.loop._thread
    thread.join(5.0)
    assert "MemoryError: no room for a message" in bench.loop.failure
    assert bench.loop._shaper.at_rest
    np.testing.assert_allclose(bench.sent[-1], bench.loop.safe_command(), atol=1e-12)
    path = np.array(bench.sent)
    change = np.diff(path, 2, axis=0) / 0.02**2 if mode == "position" else np.diff(path, axis=0) / 0.02
    assert np.abs(change).max() <= 40.0 + 1e-6


@pytest.mark.parametrize("mode", ["position", "velocity", "delta_position"])
def test_a_check_that_refuses_even_the_stop_leaves_the_robot_slowed_down_within_its_limits(mode: str) -> None:
    class Never:
        kind = "never"

        def fault(self, _proposal: Any, _last: Any) -> str:
            return "no motion today"

    bench = Bench(mode)
    bench.plan([1.9, -1.9] if mode != "delta_position" else [0.038, -0.038], mode)
    bench.ticks(10)
    sent = len(bench.sent)
    bench.gate.checks = (*bench.gate.checks, Never())
    bench.ticks(10)
    assert bench.hold.reason == "no motion today"
    if mode == "position":  # it stands when it is told nothing
        assert len(bench.sent) == sent
        return
    assert len(bench.sent) == sent + 10
    speeds = np.array(bench.sent) / (1.0 if mode == "velocity" else 0.02)
    assert np.abs(np.diff(speeds, axis=0)).max() <= 40.0 * 0.02 + 1e-6
    np.testing.assert_array_equal(speeds[-1], [0.0, 0.0])


def test_ticks_that_are_late_in_a_row_hold_and_a_timely_one_begins_the_count_anew() -> None:
    bench = Bench()
    bench.plan([0.1, -0.1])
    for lost in (1, 1, 1, 1, 0, 1, 1, 1, 1):
        bench.loop.tick(Tick(bench.now, 0.0, lost))
    assert not bench.hold.holding
    bench.loop.tick(Tick(bench.now, 0.0, 1))
    assert bench.hold.kind == "overruns"
    assert "5 control ticks in a row came too late by whole periods of 20 ms" in bench.hold.reason


def test_a_pose_outside_its_limits_cannot_be_started_from() -> None:
    bench = Bench()
    bench.position = np.array([2.5, 0.0])
    bench.plan([0.0, 0.0])
    bench.ticks(5)
    assert bench.sent == []
    assert "joint 'a' is measured at 2.5" in bench.hold.reason


@pytest.mark.parametrize("mode", ["velocity", "delta_position"])
def test_speeds_ramp_down_when_the_plan_ends(mode: str) -> None:
    bench = Bench(mode)
    size = 1.0 if mode == "velocity" else 0.02
    bench.plan([size, 0.0], mode)
    bench.ticks(30)
    assert bench.sent[5][0] > 0.0
    np.testing.assert_array_equal(bench.sent[-1], [0.0, 0.0])
    change = np.abs(np.diff(np.array(bench.sent)[:, 0])) / (1.0 if mode == "velocity" else 0.02)
    assert change.max() <= 40.0 * 0.02 + 1e-9
    np.testing.assert_array_equal(bench.loop.safe_command(), [0.0, 0.0])


def test_a_reset_of_the_clock_forgets_plans() -> None:
    bench = Bench()
    bench.plan([0.1, -0.1])
    bench.ticks(2)
    bench.loop.tick(Tick(bench.now - 5 * S, 0.0, 0, jumped=True))
    assert bench.plans.newest is None
    np.testing.assert_allclose(bench.sent[-1], bench.sent[-2], atol=1e-3)


def make_planner(
    work: Any, hold: HoldSupervisor, plans: PlanBuffer, results: Results, period_s: float = 0.01
) -> PlannerLoop:
    return PlannerLoop(
        work=work, plans=plans, continuation=Continuation(plans, 2, 0.05), supervisor=hold, source=SystemTime(),
        limits=MotionLimits.of(command(), 50), step_s=0.05, period_s=period_s, horizon=2,
        on_result=lambda result, plan: results.append((result, plan)),
    )  # fmt: skip


def test_the_planner_refuses_what_is_not_finite_and_reports_every_attempt() -> None:
    hold, plans = HoldSupervisor(2, 5, 10.0), PlanBuffer(0.0)
    results: Results = []
    answers: list[Any] = [
        np.zeros((2, 2)), np.array([[0, 0], [np.nan, 0]]), UserError("observation 'cloud': 0 finite points"),
        np.zeros((2, 2)), np.zeros((2, 2)),
    ]  # fmt: skip

    def work(warm_start: Warm) -> PlanResult:
        answer = answers.pop(0)
        if isinstance(answer, UserError):
            raise answer
        now = time.time_ns()
        warm = warm_start(now)
        assert warm is None or warm.actions.shape == (2, 2)
        return PlanResult(answer, "CONVERGED", stamp_ns=now)

    planner = make_planner(work, hold, plans, results)
    planner.plan_once()
    first = plans.newest
    planner.plan_once()
    assert "nan for joint 'a' at step 1" in hold.reason
    assert plans.newest is first
    planner.plan_once()
    assert "nan" in hold.reason, "the first reason stands"
    assert results[-1][0].refusal == "observation 'cloud': 0 finite points"
    planner.plan_once()
    assert hold.holding
    planner.plan_once()
    assert not hold.holding
    assert planner.accepted == 3


def test_a_solver_without_finite_cost_is_not_followed() -> None:
    hold, plans = HoldSupervisor(2, 5, 10.0), PlanBuffer(0.0)
    planner = make_planner(lambda _: PlanResult(np.zeros((2, 2)), "NONFINITE", stamp_ns=1), hold, plans, [])
    planner.plan_once()
    assert plans.newest is None
    assert "no finite cost" in hold.reason


def test_threads_plan_and_tick_beside_each_other_and_stop_within_bounds() -> None:
    bench = Bench()
    results: Results = []
    solving = threading.Event()

    def work(_warm_start: Warm) -> PlanResult:
        solving.set()
        time.sleep(0.03)  # a solve that takes longer than a tick
        return PlanResult(np.array([[0.2, 0.0]] * 2), "MAX_ITERATIONS", stamp_ns=time.time_ns())

    planner = make_planner(work, bench.hold, bench.plans, results)
    planner.start()
    bench.loop.start()
    end = time.monotonic() + patience(20)
    while bench.loop.report.ticks < 50 and time.monotonic() < end:
        planner.fresh.set()
        time.sleep(0.005)
    begin = time.monotonic()
    planner.stop(0.0)
    assert bench.loop.stop()
    assert planner.stop(2.0)
    assert time.monotonic() - begin < 3.0
    assert bench.loop.report.ticks >= 50
    assert len(results) >= 10
    assert not bench.loop.failure


def test_an_observation_is_of_the_newest_time_that_every_stream_has_reached() -> None:
    ms = 1_000_000
    buffers = StreamBuffers({"/joints": "a/msg/A", "/cloud": "b/msg/B"}, {"/joints", "/cloud"}, 1.0)
    now = 10 * S
    assert buffers.synchronised_ns(now, 150 * ms) == now
    for i in range(30):
        buffers.push("/joints", b"", now - 10 * ms * i)
    buffers.push("/cloud", b"", now - 60 * ms)
    buffers.push("/joints", b"", now - 3 * ms)
    assert buffers.synchronised_ns(now, 150 * ms) == now - 60 * ms
    assert buffers.synchronised_ns(now, 0) == now
    assert buffers.synchronised_ns(now + 200 * ms, 150 * ms) == now + 50 * ms, "a dead stream does not stop the planner"
    buffers.push("/cloud", b"", now + 5 * S)
    buffers.push("/joints", b"", now + 5 * S)
    assert buffers.synchronised_ns(now, 150 * ms) == now, "a stamp from the future does not lead there"


def test_a_plan_begins_when_a_later_observation_can_be_made() -> None:
    planner = make_planner(lambda _warm: None, HoldSupervisor(1, 5, 10.0), PlanBuffer(0.0), [])
    planner.offer(5 * S)
    assert planner.fresh.is_set()
    planner.fresh.clear()
    planner.offer(5 * S)  # a joint state while the next cloud is on its way
    assert not planner.fresh.is_set()
    planner.offer(5 * S + 1)
    assert planner.fresh.is_set()
    planner.fresh.clear()
    planner.offer(S)  # the clock went back
    assert planner.fresh.is_set()


def test_a_crash_in_a_thread_is_recorded_and_holds() -> None:
    bench = Bench()

    def work(_warm_start: Warm) -> PlanResult:
        raise RuntimeError("tensor on the wrong device")

    planner = make_planner(work, bench.hold, bench.plans, [])
    planner.start()
    planner.fresh.set()
    thread = planner._thread
    assert thread is not None
    thread.join(5.0)
    assert "RuntimeError: tensor on the wrong device" in planner.failure
    assert "planner stopped" in bench.hold.reason


def test_a_stream_is_judged_by_its_age_now_not_at_the_synchronised_time() -> None:
    import struct

    from difftop_ros.contract import load_contract
    from difftop_ros.messages import StaleObservation
    from difftop_ros.paths import share_path
    from difftop_ros.runtime.streams import StreamBuffers

    contract = load_contract(share_path("config/panda_table.yaml"))
    topics: dict[str, str] = {o.topic: o.type for o in contract.observations.values()}
    buffers = StreamBuffers(topics, (), 1.0)
    for number, topic in enumerate(topics):
        stamp = struct.pack("<iI", 10, 0 if number else 100_000_000)
        buffers.push(topic, b"\x00\x01\x00\x00" + stamp, 0)
    cloud = contract.observations["cloud"]
    late = 10 * S + round(cloud.max_age_ms * 1e6)
    at = 10 * S + 100_000_000
    assert buffers.synchronised_ns(at, 150_000_000) == 10 * S, "the slowest stream decides"
    buffers.refuse_stale(contract, at)
    buffers.push(contract.observations["joints"].topic, b"\x00\x01\x00\x00" + struct.pack("<iI", 20, 0), 0)
    with pytest.raises(StaleObservation, match=r"observation 'cloud' is stale: .* 301 ms old, max_age_ms is 300"):
        buffers.refuse_stale(contract, late + 1_000_000)


def test_streams_count_as_renewed_when_each_has_delivered_again() -> None:
    buffers = StreamBuffers({"/joints": "a/msg/A", "/cloud": "b/msg/B"}, {"/joints", "/cloud"}, 1.0)
    told: list[int] = []
    buffers.listener = told.append
    buffers.push("/joints", b"", 1)
    renewed = Renewed(buffers)
    buffers.push("/joints", b"", 2)
    assert not renewed()
    buffers.push("/cloud", b"", 3)
    assert renewed()
    assert told == [1, 2, 3]
