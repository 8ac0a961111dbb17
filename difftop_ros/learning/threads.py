"""How many threads torch is given: measured on the work itself, because what is best depends on who else computes.

On a busy machine threads that wait for each other cost far more than they bring; on an idle one they help with large
batches alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

REPEATS = 3
WORTH = 0.9  # more threads must take less than this share of the time


def choose_threads(work: Callable[[], object], most: int | None = None) -> tuple[int, dict[int, float]]:
    """Set torch's threads for `work`, and leave them so; the number, and milliseconds of `work` by number tried.

    Tried are 1, 2, 4, … up to `most` (None: as many as torch would take), until more bring nothing.
    """
    most = most or torch.get_num_threads()
    took: dict[int, float] = {}
    best, threads = 1, 1
    while threads <= most:
        torch.set_num_threads(threads)
        work()  # once unmeasured: memory, and the threads themselves
        took[threads] = min(_milliseconds(work) for _ in range(REPEATS))
        if threads > 1 and took[threads] > WORTH * took[best]:
            break
        best, threads = threads, 2 * threads
    torch.set_num_threads(best)
    return best, took


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3
