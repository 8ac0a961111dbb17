"""Pacing by a clock that the test moves, and simulated time from /clock; no sleeping."""

import numpy as np
import pytest

from difftop_ros.runtime.clock import Pacer, SimTime, Tick

S = 1_000_000_000
DT = 20_000_000


def wait(pacer: Pacer) -> Tick:
    tick = pacer.wait(lambda: False)
    assert tick is not None
    return tick


class Wall:
    """A wall clock that only moves when someone sleeps."""

    def __init__(self) -> None:
        self.time, self.oversleep = 100.0, 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds + self.oversleep
        self.oversleep = 0.0


class Steady:
    """A time source on such a wall clock."""

    rate = 1.0

    def __init__(self, wall: Wall) -> None:
        self.wall, self.offset = wall, 0

    def now_ns(self) -> int:
        return round(self.wall.time * 1e9) + self.offset


def test_ticks_come_at_absolute_deadlines_and_lost_ones_are_counted() -> None:
    wall = Wall()
    source = Steady(wall)
    pacer = Pacer(source, 0.02, monotonic=wall.now, sleep=wall.sleep)
    pacer.start()
    due, lost = [], 0
    for k in range(20):
        wall.time += 0.013  # the work of a tick
        wall.oversleep = 0.045 if k == 10 else 0.004
        tick = wait(pacer)
        due.append(tick.due_ns)
        lost += tick.lost
    steps = np.diff(due)
    assert lost == 2
    assert sorted(set(steps.tolist())) == [DT, 3 * DT]
    assert (due[0] - 100 * S) % DT == 0


def test_a_clock_that_jumps_restarts_the_grid_and_loses_nothing() -> None:
    wall = Wall()
    source = Steady(wall)
    pacer = Pacer(source, 0.02, monotonic=wall.now, sleep=wall.sleep)
    pacer.start()
    for offset in (5 * S, -50 * S):
        assert not wait(pacer).jumped
        source.offset += offset
        tick = wait(pacer)
        assert (tick.jumped, tick.lost) == (True, 0)


def test_simulated_time_is_paced_by_its_own_speed_and_stands_when_it_stands() -> None:
    wall = Wall()
    source = SimTime(wall.now)

    def sleep(seconds: float) -> None:
        wall.time += seconds
        if running:
            source.update(round((wall.time - 100.0) * 0.5 * 1e9) + S)

    running = True
    source.update(S)
    pacer = Pacer(source, 0.02, monotonic=wall.now, sleep=sleep)
    pacer.start()
    for _ in range(100):
        pacer.wait(lambda: False)
    begin = wall.time
    lost = sum(wait(pacer).lost for _ in range(50))
    assert wall.time - begin == pytest.approx(50 * 0.02 / 0.5, rel=0.05)
    assert lost == 0
    running = False
    stop_at = wall.time + 10
    ticks = 0
    while pacer.wait(lambda: wall.time > stop_at) is not None:
        ticks += 1
    assert ticks <= 3, "a paused simulation is not commanded"


def test_simulated_time_never_runs_backwards_between_messages_but_follows_a_reset() -> None:
    wall = Wall()
    source = SimTime(wall.now)
    source.update(5 * S)
    wall.time += 0.04
    ahead = source.now_ns()
    source.update(5 * S + 10_000_000)
    assert source.now_ns() >= ahead
    source.update(0)
    assert source.now_ns() == 0
    assert source.figures()["clock_jumps"] == 1
