"""Signals that ask work to end between its steps. What is kept then is the work's own business."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

from difftop_ros import signals


class EndSignals:
    """While entered, the first ending signal sets the event, so that work ends between steps; the next: at once."""

    def __enter__(self) -> threading.Event:
        self._asked = threading.Event()
        self._before = signals.catch(self._on_signal)
        return self._asked

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        with contextlib.suppress(OSError):  # the terminal may be what is gone
            print("stopping after this step (Ctrl-C again: at once)", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        signals.restore(self._before)
