"""The command line of files that are written from the model: write them, or say which are stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from difftop_ros.errors import UserError
from difftop_ros.files import write_whole
from difftop_ros.paths import share_path


def write_or_check(
    arguments: Sequence[str] | None, prog: str, folder: str, files: Callable[[], Mapping[str, str]]
) -> int:
    """Writes what `files()` gives, name -> text, into the package's `folder`; with --check 1 if any differ."""
    parser = argparse.ArgumentParser(prog=prog, description="Writes the files, or with --check says which are stale.")
    parser.add_argument("--out", type=Path, default=share_path(folder), help="folder to write (default: the package's)")
    parser.add_argument("--check", action="store_true", help="write nothing; say which files differ, exit code 1 then")
    options = parser.parse_args(arguments)
    try:
        wanted = files()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stale = [n for n, text in wanted.items() if not (f := options.out / n).is_file() or f.read_text() != text]
    if options.check:
        print(f"stale: {stale}" if stale else "all fresh")
        return int(bool(stale))
    for name, text in wanted.items():
        write_whole(options.out / name, text)
    print(f"{options.out}: {', '.join(wanted)}")
    return 0
