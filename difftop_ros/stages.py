"""How long each named stage of some work took, in whatever room it is done. plan_result.py says what a plan's are.

with measured() as took:
    with stage("crop"): ...
took["crop"]  # milliseconds; a stage that is entered again adds to its time
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_took: ContextVar[dict[str, float] | None] = ContextVar("took", default=None)


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Gives a dictionary that receives the milliseconds of each `stage` entered in the block, by this thread."""
    took: dict[str, float] = {}
    token = _took.set(took)
    try:
        yield took
    finally:
        _took.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """What is done in the block is the stage `name`. Where nobody measures it costs a microsecond."""
    took = _took.get()
    if took is None:
        yield
        return
    begin = time.perf_counter()
    try:
        yield
    finally:
        took[name] = took.get(name, 0.0) + 1e3 * (time.perf_counter() - begin)
