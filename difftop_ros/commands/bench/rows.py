"""Tables of results that are only added to: a run that was stopped goes on, and results gather over days."""

from __future__ import annotations

import csv
import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difftop_ros.errors import UserError


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a results file, none if there is no such file. Raises UserError if it has other columns."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or list(reader.fieldnames) != list(columns):
            raise UserError(f"{path} has the columns {reader.fieldnames}; expected {list(columns)}: give another file")
        return list(reader)


def append(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add a row; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)
