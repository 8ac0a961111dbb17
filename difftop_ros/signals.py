"""The signals that ask a process to end, and how a process of ours answers them: in order, never at once.

Ctrl-C, `kill`, a terminal or ssh session that closes (SIGHUP), Ctrl-\\ (SIGQUIT). Under nohup SIGHUP stays ignored; the
others do not, because a shell starts its background jobs with SIGINT and SIGQUIT ignored.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
Handler = Callable[[int, Any], Any] | int | None  # as signal.signal takes it


def catch(handler: Handler) -> dict[int, Any]:
    """Answer every ending signal by `handler`; returns what answered before, for `restore`."""
    under_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    heard = [number for number in ENDING if not (under_nohup and number == signal.SIGHUP)]
    return {number: signal.signal(number, handler) for number in heard}


def restore(before: dict[int, Any]) -> None:
    """Undo `catch`."""
    for number, handler in before.items():
        signal.signal(number, handler)
