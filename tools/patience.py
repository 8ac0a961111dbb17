"""How long a test or a check waits for another process: longer where other programs want the processors."""

from __future__ import annotations

import os


def patience(seconds: float) -> float:
    """`seconds` [s] for a machine with nothing else to do; as often as each processor is wanted where it is more."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
