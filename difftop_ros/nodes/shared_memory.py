"""Removes Fast DDS shared-memory files that dead processes left in /dev/shm.

Lives here: `clean_shared_memory()`, what `fastdds shm clean` does, for machines where that tool is not installed. A
process that is killed leaves its segments (tens of MB each) until reboot. Not here: anything about living segments.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

SHM = Path("/dev/shm")
CREATION_S = 10.0  # far longer than Fast DDS takes from creating a file to locking it
_DATA = re.compile(r"fast(?:rtps|dds)_(?:[0-9a-f]{16}|port\d+)")


def clean_shared_memory(folder: Path = SHM, *, own_mappings: bool = True) -> list[str]:
    """Removes segments and ports that no living process uses; returns the names of the removed data files.

    own_mappings=False: a mapping in this process is no reason to keep a file. For the end of a program that has closed
    its nodes: Fast DDS may keep a dead process's segment mapped until this one ends.

    Fast DDS holds a flock on `<name>_el` (owner, exclusive) and `<name>_sl` (users, shared) for as long as it uses
    `<name>`; the kernel drops it when the process ends, however it ends. Files of other users are left alone, as are
    those that a process has mapped and young ones without a lock file (a process may be just creating them).
    """
    removed: list[str] = []
    candidates = sorted(name for name in _names(folder) if _DATA.fullmatch(name))
    mapped = mapped_names(folder, but=None if own_mappings else os.getpid()) if candidates else set()
    for name in candidates:
        locks = [folder / (name + suffix) for suffix in ("_el", "_sl")]
        settled = locks[0].exists() or _age_s(folder / name) > CREATION_S
        if name not in mapped and settled and _remove_if_unlocked(folder, name, locks):
            removed.append(name)
    return removed


def mapped_names(folder: Path = SHM, pid: int | None = None, but: int | None = None) -> set[str]:
    """Names of files of `folder` that some process (but `but`; or `pid` alone) has mapped, as far as we may look."""
    names: set[str] = set()
    prefix = f"{folder}/"
    for maps in [Path(f"/proc/{pid}/maps")] if pid else Path("/proc").glob("[0-9]*/maps"):
        if but is not None and maps.parent.name == str(but):
            continue
        try:
            text = maps.read_text(errors="replace")
        except OSError:  # the process has ended, or belongs to someone else
            continue
        names.update(line.split(prefix, 1)[1].split(" ")[0] for line in text.splitlines() if prefix in line)
    return names


def _names(folder: Path) -> Iterator[str]:
    """File names in `folder`, none when it does not exist."""
    try:
        yield from os.listdir(folder)
    except FileNotFoundError:
        return


def _age_s(path: Path) -> float:
    """Seconds since the last change of a file; 0 when it has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _remove_if_unlocked(folder: Path, name: str, locks: list[Path]) -> bool:
    """Removes `name` and its lock files while holding its locks; False when a living process holds one of them."""
    with ExitStack() as stack:
        for lock in locks:
            try:
                handle = os.open(lock, os.O_RDONLY)
            except FileNotFoundError:
                continue
            except OSError:
                return False
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        try:
            for path in (folder / name, folder / f"sem.{name}_mutex", *locks):
                path.unlink(missing_ok=True)
        except OSError:
            return False
        return True
