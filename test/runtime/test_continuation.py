"""Plans that come late: what is settled, what delay is expected, and seams that no limit notices."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from whole_run import CONTRACT, TOPIC, Robot

from difftop_ros.contract import Command, parse_contract
from difftop_ros.plan_result import PlanResult, WarmStart
from difftop_ros.runtime.plan import KEPT, LONGER, Continuation, Delays, PlanBuffer, TimedPlan
from difftop_ros.runtime.streams import RawMessage, Request
from difftop_ros.runtime.worker import PolicyFacts, PolicyWorker
from difftop_ros.safety import MotionLimits

S = 1_000_000_000
TICK = 20_000_000
STEP = 50_000_000
NAMES = ("a", "b")


def limits(mode: str = "position", acceleration: float = 10.0) -> MotionLimits:
    joints = [{"name": n, "position": [-3, 3], "velocity": 2.0, "acceleration": acceleration} for n in NAMES]
    section = {"topic": "/c", "type": "sensor_msgs/msg/JointState", "mode": mode, "joints": joints}
    return MotionLimits.of(Command.model_validate(section), 50)


def plan(stamp_ns: int, actions: Any) -> TimedPlan:
    return TimedPlan(stamp_ns, 0.05, np.array(actions, dtype=float), NAMES, "position")


def line(stamp_ns: int, steps: int = 16, speed: float = 1.0, begin: float = 0.0) -> TimedPlan:
    """Both joints move on evenly [rad/s] from `begin`."""
    return plan(stamp_ns, begin + speed * 0.05 * np.arange(steps)[:, None].repeat(2, 1))


@pytest.mark.parametrize("slow", [0, 1, 4, 9])
def test_one_slow_inference_does_not_become_the_delay_that_is_expected(slow: int) -> None:
    delays = Delays(0.75)
    assert np.isnan(delays.usual_s)
    for number in range(12):
        delays.add(3.0 if number == slow else 0.1 + 0.001 * number)
        if number > 0 or slow > 0:
            assert delays.usual_s < 0.2


def test_a_computer_that_became_slower_is_believed_after_some_plans() -> None:
    delays = Delays(0.75)
    for delay in [0.1] * KEPT + [0.3] * 6:
        delays.add(delay)
    assert delays.usual_s == 0.3


class Driven:
    """A continuation with plans, driven tick by tick as the control thread does."""

    def __init__(self, settles: bool = True, most_steps: float = 0.0) -> None:
        self.plans = PlanBuffer(0.1, limits())
        self.continuation = Continuation(self.plans, 16, 0.05, settles=settles, most_steps=most_steps)
        self.now = 10 * S
        self.commands: list[np.ndarray] = []

    def ticks(self, count: int, offset: float = 0.0, lag_s: float = 0.0) -> None:
        for _ in range(count):
            self.now += TICK
            target = self.plans.select(self.now, self.now)
            self.commands.append(target + offset)
            self.continuation.commanded(self.plans.newest, self.now, target + offset, lag_s)

    def take(self, new: TimedPlan) -> None:
        self.plans.push(new, self.now)


def driven(delay_ticks: int, **settings: Any) -> Driven:
    """Under its second plan, which took over `delay_ticks` after its observation, as the first did."""
    bench = Driven(**settings)
    for _ in range(2):
        stamp = bench.now
        bench.now += (0 if bench.plans.newest else delay_ticks) * TICK
        if bench.plans.newest:
            bench.ticks(delay_ticks - 1)
        bench.take(line(stamp, begin=(stamp - 10 * S) / S))
        bench.ticks(1)
    return bench


@pytest.mark.parametrize(("delay_ticks", "committed"), [(5, 3), (15, 7), (40, 8)])
def test_steps_that_will_have_been_executed_are_those_that_were_and_will_be_commanded(
    delay_ticks: int, committed: int
) -> None:
    bench = driven(delay_ticks)
    warm = bench.continuation.warm_start(bench.now)
    assert warm is not None and warm.committed == committed, "steps of 50 ms, one more, at most half of a plan"
    expected = [bench.plans.select(t, t) for t in range(bench.now, bench.now + 16 * STEP, STEP)]
    np.testing.assert_allclose(warm.actions, expected, atol=1e-9)


def test_what_was_commanded_counts_and_not_what_was_planned() -> None:
    bench = driven(5)
    bench.ticks(10, offset=0.02)
    warm = bench.continuation.warm_start(bench.now - 3 * STEP)
    assert warm is not None
    planned = np.array([bench.plans.newest.at(bench.now - (3 - k) * STEP) for k in range(5)])
    np.testing.assert_allclose(warm.actions[:4] - planned[:4], 0.02, atol=1e-6)
    np.testing.assert_allclose(warm.actions[4] - planned[4], 0.0, atol=1e-6)


def test_nothing_is_settled_while_the_robot_holds_lags_or_has_not_moved_or_when_that_is_not_wanted() -> None:
    bench = driven(5)
    bench.continuation.interrupted()
    assert bench.continuation.warm_start(bench.now).committed == 0
    bench.ticks(1)
    assert bench.continuation.warm_start(bench.now).committed == 3
    bench.ticks(1, lag_s=0.2)
    assert bench.continuation.warm_start(bench.now).committed == 0
    assert driven(5, settles=False).continuation.warm_start(20 * S).committed == 0
    fresh = Driven()
    assert fresh.continuation.warm_start(fresh.now) is None
    fresh.take(line(fresh.now))
    assert fresh.continuation.warm_start(fresh.now).committed == 0
    assert fresh.continuation.warm_start(fresh.now - S) is None, "time went back"


def test_the_wait_for_the_end_of_a_hold_is_no_delay() -> None:
    bench = driven(5)
    before = bench.continuation.delays.usual_s
    bench.continuation.interrupted()
    bench.take(line(bench.now))
    bench.now += 3 * S
    bench.ticks(5)
    assert bench.continuation.delays.usual_s == before


@pytest.mark.parametrize("apart", [0.01, 0.05, 0.2])
def test_a_blend_begins_and_ends_smoothly_and_takes_longer_for_plans_further_apart(apart: float) -> None:
    buffer, now, acceleration = PlanBuffer(0.1, limits()), 10 * S, 10.0
    buffer.push(line(now, 40), now)
    now += 10 * TICK
    buffer.push(line(now - 10 * TICK, 40, begin=apart), now)
    times = np.arange(-5, 40) * TICK + now
    path = np.array([buffer.select(int(t), int(t)) for t in times])[:, 0]
    bends = np.abs(np.diff(path, 2)) / 0.02**2
    within = apart <= 0.5 * acceleration * (LONGER * 0.1) ** 2 / 5.78
    assert (
        bends.max()
        <= (0.55 if within else 10 / 3**0.5 * apart / (LONGER * 0.1) ** 2 / acceleration * 1.1) * acceleration
    )
    assert (np.diff(path) >= -1e-12).all(), "no step back"
    np.testing.assert_allclose(path[-1], buffer.newest.at(int(times[-1]))[0])


class Slow:
    """A worker whose plans take long; what it wants depends on when it looked, and what is settled is left as it is."""

    def __init__(self, contract: Any, delay_s: float, heeds: bool) -> None:
        self.facts = PolicyFacts(1, 24, contract)
        self._delay_s, self._heeds = delay_s, heeds
        self.committed: list[int] = []

    def reset(self) -> None: ...

    def observe(self, request: Request) -> None: ...

    def solve(self, request: Request, warm_start: WarmStart | None, deadline_ms: float | None) -> PlanResult:
        now = request.times_ns[-1]
        times = now / S + 0.05 * np.arange(24)
        # A way that every observation sees a little differently, as a camera does.
        wanted = 0.4 * np.sin(1.5 * times) + 0.05 * np.sin(40 * now / S)
        actions = np.stack([wanted, -wanted], axis=1)
        committed = warm_start.committed if warm_start and self._heeds else 0
        self.committed.append(committed)
        if committed:
            ease = np.clip((np.arange(24) - committed + 1) / 8, 0, 1)[:, None]
            gap = warm_start.actions[committed - 1] - actions[committed - 1]
            settled = np.arange(24)[:, None] < committed
            actions = np.where(settled, warm_start.actions, actions + (1 - ease) * gap)
        time.sleep(self._delay_s)
        return PlanResult(actions, "CONVERGED", solve_ms=1.0, stamp_ns=now)


@pytest.mark.parametrize("heeds", [True, False], ids=["settled", "blended"])
@pytest.mark.parametrize("delay_ms", [100, 300, 800])
def test_no_seam_of_late_plans_is_above_the_acceleration_limit(delay_ms: int, heeds: bool) -> None:
    robot = Robot()
    robot.position = np.array([0.0, 0.0])
    made: list[Slow] = []

    def worker(contract: Any) -> Slow:
        made.append(Slow(contract, delay_ms / 1e3, heeds))
        return made[0]

    run = robot.make("position", worker=worker, max_plan_age_ms=5000.0, realtime_chunking=heeds)
    send = robot.outlet.send

    def follow(values: np.ndarray) -> None:
        robot.position = values.copy()
        send(values)

    robot.outlet.send = follow  # type: ignore[method-assign]
    try:
        run.start()
        robot.until(lambda: run.planner.accepted >= 4 and run.control.report.published >= 120)
    finally:
        run.stop()
        robot.close()
    assert not run.supervisor.reason and not run.failure
    path = np.array([values for _, values in robot.outlet.sent])
    assert np.abs(np.diff(path, 2, axis=0)).max() / 0.02**2 <= 20.0 * (1 + 1e-6)
    assert np.abs(np.diff(path, axis=0)).max() > 1e-3, "it moved"
    committed = made[0].committed
    assert committed[0] == 0
    if heeds:
        # a busy machine may make the delay longer, never shorter
        assert min(delay_ms // 50, 4) < max(committed) <= 12, "slower, so that four steps are enough"


def test_the_workers_delay_is_real_and_its_stages_are_told() -> None:
    class Policy:
        obs_steps, horizon = 1, 2

        def act(self, frames: Any, **given: Any) -> PlanResult:
            assert given == {"warm_start": None, "committed": 0, "deadline_ms": None}
            return PlanResult(np.zeros((2, 2)), encode_ms=1.0, solve_ms=2.0)

    joints = SimpleNamespace(name=["a", "b"], position=[0.0, 0.0])
    contract = parse_contract(CONTRACT.format(mode="position"))
    worker = PolicyWorker(Policy(), contract, lambda raw, kind: joints, delay_s=0.15)
    message = RawMessage(S, b"", "sensor_msgs/msg/JointState", 1)
    begin = time.monotonic()
    result = worker.solve(Request((S,), ({TOPIC: message},)), None, None)
    assert time.monotonic() - begin >= 0.15
    assert {"work", "observe", "open", "joint_state", "encode", "solve"} == set(result.stage_ms)
    assert result.stage_ms["solve"] == 2.0 and result.observe_ms == result.stage_ms["observe"]
