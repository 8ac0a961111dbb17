"""What a process takes: memory, threads, descriptors, processor time, from Linux's /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PAGE, _TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Private and shared resident memory [MB]; threads; open descriptors; processor time so far [s]."""

    memory_mb: float
    threads: int
    descriptors: int
    cpu_s: float


def usage(pid: int) -> Usage:
    """Of one process. Raises OSError when it has ended."""
    place = Path("/proc") / str(pid)
    resident = int((place / "statm").read_text().split()[1]) * _PAGE
    fields = _stat(pid)
    return Usage(
        resident / 1e6, int(fields[17]), len(os.listdir(place / "fd")), (int(fields[11]) + int(fields[12])) / _TICK
    )  # fmt: skip


def largest_child(pid: int) -> int | None:
    """The child process that takes most memory: of the policy node, its planner. None if it has no children."""
    children = [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(int(name)) == pid]
    return max(children, key=lambda child: usage(child).memory_mb, default=None)


def _parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except OSError:
        return 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may hold spaces."""
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
