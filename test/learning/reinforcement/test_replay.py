"""The replay against a plain list of episodes: what may be drawn, what goes first, ends of both kinds, reading back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difftop_ros.learning.reinforcement.replay import Episode, Replay, joined
from difftop_ros.learning.settings import TrainingError


def episode(number: int, steps: int, terminated: bool = False) -> Episode:
    """Frames say which episode and moment they are of; actions and rewards too."""
    moments = np.arange(steps + 1, dtype=np.float32)
    frames = {"state": np.stack([np.full(steps + 1, number, np.float32), moments], axis=1)}
    actions = np.stack([np.full(steps, number), np.arange(steps)], axis=1).astype(np.float32)
    return Episode(frames, actions, (1000 * number + np.arange(steps)).astype(np.float32), terminated)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=30),
    st.integers(30, 80),
    st.integers(1, 6),
)
def test_all_that_is_drawn_is_one_piece_of_an_episode_that_is_remembered(
    made: list[tuple[int, bool]], size: int, length: int
) -> None:
    replay, kept = Replay(size), []
    for number, (steps, terminated) in enumerate(made):
        replay.add(episode(number, steps, terminated))
        kept.append((number, steps, terminated))
        while sum(steps for _, steps, _ in kept) > size:
            kept.pop(0)
    assert len(replay) == sum(steps for _, steps, _ in kept) and replay.episodes == len(kept)
    possible = {(number, start) for number, steps, _ in kept for start in range(steps - length + 1)}
    if not possible:
        with pytest.raises(TrainingError, match="smaller unroll"):
            replay.sample(4, length, np.random.default_rng(0))
        return
    found = replay.sample(2000, length, np.random.default_rng(0))
    numbers, moments = found.frames["state"][..., 0], found.frames["state"][..., 1]
    assert (numbers == numbers[0]).all(), "never two episodes in one sequence"
    assert (np.diff(moments, axis=0) == 1).all()
    np.testing.assert_array_equal(found.actions[..., 0], numbers[:-1])
    np.testing.assert_array_equal(found.actions[..., 1], moments[:-1])
    np.testing.assert_array_equal(found.rewards, 1000 * numbers[:-1] + moments[:-1])
    lengths = {number: (steps, terminated) for number, steps, terminated in kept}
    for number, moment, goes_on in zip(numbers[:-1].ravel(), moments[:-1].ravel(), found.goes_on.ravel(), strict=True):
        steps, terminated = lengths[int(number)]
        assert goes_on == (0 if terminated and moment == steps - 1 else 1), "time that is up is no end"
    drawn = set(zip(numbers[0].astype(int).tolist(), moments[0].astype(int).tolist(), strict=True))
    assert drawn <= possible
    if len(possible) < 150:
        assert drawn == possible, "every start is drawn"


def test_starts_are_drawn_equally_often() -> None:
    replay = Replay(100)
    replay.add(episode(0, 3))
    replay.add(episode(1, 12))
    found = replay.sample(50_000, 3, np.random.default_rng(1)).frames["state"][0]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 1 + 10 and abs(counts / 50_000 - 1 / 11).max() < 0.01


def test_what_is_read_back_draws_the_same() -> None:
    replay, again = Replay(50), Replay(50)
    for number in range(9):
        replay.add(episode(number, 7 + number, terminated=number == 8))
    again.load(replay.state())
    for kept in (replay, again):
        kept.add(episode(20, 5))
    first, second = (kept.sample(64, 4, np.random.default_rng(3)) for kept in (replay, again))
    for name in ("actions", "rewards", "goes_on"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.frames["state"], second.frames["state"])
    np.testing.assert_array_equal(replay.frames("state"), again.frames("state"))


def test_an_episode_unlike_the_others_is_refused() -> None:
    replay = Replay(50)
    replay.add(episode(0, 5))
    wide = Episode(
        {"state": np.zeros((4, 3), np.float32)}, np.zeros((3, 2), np.float32), np.zeros(3, np.float32), False
    )
    with pytest.raises(TrainingError, match=r"frame state .*the environment has changed"):
        replay.add(wide)
    with pytest.raises(TrainingError, match="memory = 50"):
        replay.add(episode(0, 51))
    assert len(replay) == 5


def test_pictures_stay_bytes() -> None:
    frames = joined([{"pixels": np.full((4, 4, 3), 7, np.uint8)}] * 3)
    replay = Replay(10)
    replay.add(Episode(frames, np.zeros((2, 1), np.float32), np.zeros(2, np.float32), False))
    assert replay.sample(2, 1, np.random.default_rng(0)).frames["pixels"].dtype == np.uint8
