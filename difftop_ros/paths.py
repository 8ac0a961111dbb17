"""Finds the files that ship beside the code: config/, launch/ and models/.

Lives here: the one place that knows a source checkout from a pip install from a colcon workspace. Not here: reading
those files, and paths of what runs produce.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from difftop_ros.errors import UserError

PACKAGE = "difftop_ros"


def share_path(relative: str | Path = ".") -> Path:
    """Absolute path of a shipped file or folder, e.g. `share_path("config/panda_table.yaml")`.

    The copy that belongs to the imported code wins, then those of the sourced workspaces, then the Python prefix.
    Raises UserError naming the places searched when there is none.
    """
    searched = []
    for folder in share_folders():
        candidate = folder / relative
        if candidate.exists():
            return candidate.absolute()
        searched.append(str(folder))
    raise UserError(
        f"{PACKAGE} has no shipped file {str(relative)!r}: searched {', '.join(searched) or 'nowhere'}; "
        "check the name, or reinstall the package (make setup, or colcon build)"
    )


def share_folders() -> Iterator[Path]:
    """Existing share folders, best first, without repeats."""
    package_dir = Path(__file__).parent
    candidates = []
    if (package_dir.parent / "package.xml").is_file():  # source checkout, also when installed with pip -e
        candidates.append(package_dir.parent)
    # <prefix>/lib/python3.x/site-packages/difftop_ros -> <prefix>/share/difftop_ros (colcon and plain pip)
    candidates += [parent / "share" / PACKAGE for parent in package_dir.parents[:6]]
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    candidates += [Path(prefix) / "share" / PACKAGE for prefix in prefixes if prefix]
    seen = set()
    for folder in candidates:
        if folder not in seen and folder.is_dir():
            seen.add(folder)
            yield folder
