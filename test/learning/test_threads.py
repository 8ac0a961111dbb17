"""How many threads a training takes: the fewest that are fastest for the work at hand."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from difftop_ros.learning.threads import choose_threads


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("took_ms", "most", "wanted", "tried"),
    [
        ({1: 20, 2: 40, 4: 10}, 4, 1, [1, 2]),  # no further once more threads bring nothing
        ({1: 40, 2: 20, 4: 10}, 4, 4, [1, 2, 4]),
        ({1: 40, 2: 20, 4: 20}, 7, 2, [1, 2, 4]),
        ({1: 20}, 1, 1, [1]),
    ],
)
def test_the_fewest_that_are_fastest(took_ms: dict[int, int], most: int, wanted: int, tried: list[int]) -> None:
    chosen, took = choose_threads(lambda: time.sleep(took_ms[torch.get_num_threads()] / 1e3), most)
    assert chosen == wanted == torch.get_num_threads() and sorted(took) == tried
    assert all(took[count] >= took_ms[count] for count in tried)
