"""The signals that ask a process to end, and how a process of ours answers them: in order, never at once.

Ctrl-C, `kill`, a terminal or ssh session that closes (SIGHUP), Ctrl-\\ (SIGQUIT). Under nohup SIGHUP stays ignored; the
others do not, because a shell starts its background jobs with SIGINT and SIGQUIT ignored.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
Handler = Callable[[int, Any], Any] | int | None  # as signal.signal takes it


def catch(handler: Handler) -> dict[int, Any]:
    """Answer every ending signal by `handler`; returns what answered before, for `restore`."""
    heard = [number for number in ENDING if not (under_nohup() and number == signal.SIGHUP)]
    return {number: signal.signal(number, handler) for number in heard}


def under_nohup() -> bool:
    """Whether this process is to outlive its terminal and its parent."""
    return signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@contextmanager
def held_back() -> Iterator[None]:
    """Ending signals wait until the block is over; a process started in it begins with them blocked (see `ignore`)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore(*but: signal.Signals) -> None:
    """For a process whose parent decides when it ends: ignore the ending signals except `but`, which end it."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number in but else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def restore(before: dict[int, Any]) -> None:
    """Undo `catch`."""
    for number, handler in before.items():
        signal.signal(number, handler)
