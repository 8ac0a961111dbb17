"""Ctrl-C and SIGTERM for work that ends between steps. What is kept then is the work's own business."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any


class EndSignals:
    """While entered, the first SIGINT or SIGTERM sets the event, so that work ends between steps; the next: at once."""

    def __enter__(self) -> threading.Event:
        self._asked = threading.Event()
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self._asked

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        print("stopping after this step (Ctrl-C again: at once)", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
