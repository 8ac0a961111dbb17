"""What is told of simulated time that stands, jumps or jitters, and that an even one has nothing told of it."""

from __future__ import annotations

import numpy as np
import pytest

from difftop_ros.runtime.clock_watch import ClockWatch


def feed(watch: ClockWatch, times: np.ndarray, walls: np.ndarray) -> str:
    """Feed simulated `times` [s] received at `walls` [s]; the finding just after the last."""
    for wall, time in zip(walls, times, strict=True):
        watch.see(float(wall), round(float(time) * 1e9))
    return watch.finding(float(walls[-1]) + 0.001)


@pytest.mark.parametrize("rate", [0.05, 1.0, 8.0])
@pytest.mark.parametrize("period_s", [0.002, 0.01, 0.1])
def test_even_time_is_not_odd_at_whatever_speed(rate: float, period_s: float) -> None:
    walls = 50.0 + np.arange(300) * period_s
    assert feed(ClockWatch(), 7.0 + (walls - 50.0) * rate, walls) == ""


def test_messages_that_come_late_in_a_bundle_are_not_a_jump() -> None:
    walls = np.arange(300) * 0.01
    late = np.where((walls > 1.0) & (walls < 1.4), 1.4, walls)  # the receiver was busy for .4 s
    watch = ClockWatch()
    feed(watch, walls, late)
    assert watch.jumps == 0


def test_what_a_lock_step_simulation_does_is_not_a_jump() -> None:
    rng = np.random.default_rng(0)
    walls = np.cumsum(rng.uniform(0.02, 0.4, 100))
    watch = ClockWatch()
    feed(watch, np.arange(100) * 0.25, walls)
    assert watch.jumps == 0


@pytest.mark.parametrize("by_s", [0.4, 3.0, -0.1, -20.0])
def test_jumps_are_told_for_a_while(by_s: float) -> None:
    walls = np.arange(400) * 0.01
    times = 30 + walls + np.where(walls > 2.0, by_s, 0.0)
    watch = ClockWatch()
    said = feed(watch, times, walls)
    step_s = by_s if by_s > 0 else -by_s - 0.01  # what is seen to go back is a message's step less
    assert f"jumped {step_s:.2f} s {'ahead' if by_s > 0 else 'back'}" in said
    assert "(1 jumps in all)" in said
    assert feed(watch, 60 + np.arange(500) * 0.01, 4 + np.arange(500) * 0.01).count("jumped") == 1
    assert feed(watch, 65 + np.arange(600) * 0.01, 9 + np.arange(600) * 0.01) == ""


def test_time_that_stands_is_told_with_and_without_messages() -> None:
    walls = np.arange(100) * 0.01
    watch = ClockWatch()
    feed(watch, 5 + walls, walls)
    assert watch.finding(1.5) == ""
    assert "'/clock' stands at 5.99 s, for 1.5 s by now" in watch.finding(2.49)
    assert "stands at 5.99 s, for 3.0 s" in feed(watch, np.full(300, 5.99), 1 + np.arange(300) * 0.01)
    assert feed(watch, 6.0 + walls, 4.0 + walls) == "", "it goes on"


def test_jitter_is_told_with_its_size() -> None:
    rng = np.random.default_rng(1)
    walls = np.arange(300) * 0.01
    watch = ClockWatch()
    assert "'/clock' jitters by" in feed(watch, walls + rng.uniform(-0.023, 0.023, 300), walls)
    assert 15 < watch.jitter_ms() < 23
    assert watch.jumps == 0
    assert ClockWatch().finding(1e9) == ""
