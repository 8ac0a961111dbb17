"""Files and folders that are there whole or not at all: written beside their place, then renamed. Nothing else here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or folder to; it takes `path`'s place at the end, or goes with an error.

    What an earlier try has left there is removed first; a folder that stands at `path` is replaced. A file may be read
    by whom the umask lets, whoever wrote it: libraries write theirs for the owner alone.
    """
    beside = path.with_name(path.name + ".partial")
    _remove(beside)
    beside.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        if beside.is_file():
            beside.chmod(0o666 & ~_umask())
        if path.is_dir():
            shutil.rmtree(path)
        beside.replace(path)
    finally:
        _remove(beside)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8."""
    with whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write plain data to `path` as JSON."""
    write_whole(path, json.dumps(content, indent=1))


def _umask() -> int:
    """The process's umask, read without setting it, which other threads would notice; the usual one if that fails."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o022


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
