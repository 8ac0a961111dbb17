"""What moves in a cloud: found again, foreseen, and forgotten where it was."""

from __future__ import annotations

import numpy as np

from difftop_ros.space.motion import KEPT_S, Motion, along

RATE = 20.0
VELOCITY = np.array([0.0, 0.25, 0.0])


def post(place: float, rng: np.random.Generator, top: float = 0.3) -> np.ndarray:
    """40 points (40, 3) on the front of a post at y = place [m]."""
    angle, height = rng.uniform(-1.5, 1.5, 40), rng.uniform(0.05, top, 40)
    height[:2] = (0.05, top)
    return np.stack([0.02 * np.cos(angle), place + 0.02 * np.sin(angle), height], axis=1).astype(np.float32)


def test_what_moves_is_told_and_what_stands_is_not() -> None:
    rng, motion = np.random.default_rng(0), Motion()
    told = []
    for step in range(20):
        time = step / RATE
        seen = np.concatenate([post(VELOCITY[1] * time, rng), post(0.0, rng) + np.float32([0.5, 0, 0])])
        told.append(motion.ways(seen, time))
    assert not any(told[:2]), "one look says nothing of motion"
    assert all(len(ways) == 1 for ways in told[6:]), "the one that stands is not told"
    for points, velocity in (ways[0] for ways in told[6:]):
        assert (points[:, 0] < 0.1).all()
        np.testing.assert_allclose(velocity, VELOCITY, atol=0.08)
    copies = along(told[-1], 0.4)
    assert 0.4 < copies[:, 1].max() - 19 / RATE * VELOCITY[1] + 0.3 < 0.5 and copies[:, 0].max() < 0.1
    assert along(told[-1], -0.4)[:, 1].min() < 19 / RATE * VELOCITY[1] - 0.07
    assert along([], 0.4).shape == (0, 3)


def test_what_is_hidden_in_part_goes_on_for_a_moment() -> None:
    rng, motion = np.random.default_rng(1), Motion()
    for step in range(8):
        motion.ways(post(VELOCITY[1] * step / RATE, rng), step / RATE)
    told = [bool(motion.ways(post(VELOCITY[1] * step / RATE, rng, top=0.12), step / RATE)) for step in range(8, 11)]
    assert all(told), "its size has changed, so its place says nothing, and it keeps its velocity"
    motion = Motion()
    for step in range(8):
        motion.ways(post(VELOCITY[1] * step / RATE, rng), step / RATE)
    assert not motion.ways(post(0.35, rng), 7 / RATE + KEPT_S + 0.3), "nothing is known after a gap"
    assert motion.ways(post(0.0, rng), 0.0) == [], "time that goes back begins anew"
