"""Compares the RIHS01 type hashes of this package's interfaces between two builds; exit code 1 when they differ.

Lives here: the check that a node built by colcon and one set up by pip can talk to each other. Not here: building.

    .venv/bin/python tools/compare_type_hashes.py build-colcon/install/difftop_ros/share/difftop_ros [OTHER_SHARE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

PACKAGE = "difftop_ros"


def type_hashes(share: Path) -> dict[str, str]:
    """RIHS01 hash of each interface of the package (services with their parts) described under `share`."""
    hashes: dict[str, str] = {}
    for path in sorted(p for kind in ("msg", "srv", "action") for p in share.glob(f"{kind}/*.json")):
        for entry in json.loads(path.read_text())["type_hashes"]:
            if entry["type_name"].startswith(f"{PACKAGE}/"):
                hashes[entry["type_name"]] = entry["hash_string"]
    return hashes


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """A line for each interface that is missing on one side or whose hash differs."""
    return [
        f"{name}: {one.get(name, 'missing')} != {other.get(name, 'missing')}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def main() -> int:
    """Entry point; 0: all equal, 1: something differs, 2: nothing to compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("one", type=Path, help="share folder of the colcon build")
    parser.add_argument("other", type=Path, nargs="?", default=Path(sys.prefix) / "share" / PACKAGE)
    arguments = parser.parse_args()
    one, other = type_hashes(arguments.one), type_hashes(arguments.other)
    for share, hashes in ((arguments.one, one), (arguments.other, other)):
        if not hashes:
            print(f"compare_type_hashes: no type descriptions under {share}; build the messages first", file=sys.stderr)
            return 2
    lines = differences(one, other)
    for line in lines:
        print(f"differs  {line}", file=sys.stderr)
    if not lines:
        print(f"type hashes: {len(one)} equal in {arguments.one} and {arguments.other}")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
