"""The manifest of a model folder: the SHA-256 of every file that decides what the policy does. No torch, no YAML.

It tells a file that has changed, by accident or by hand, before anything of it is used. It is no signature: who can
write the folder can write its manifest. Keep the folder where nobody else can write.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from difftop_ros.errors import UserError
from difftop_ros.files import write_json

MANIFEST = "manifest.json"
DECIDING = ("config.yaml", "contract.yaml", "*.safetensors")  # what is read when a policy is loaded
MOST_BYTES = 1 << 20


def sign(folder: Path) -> dict[str, str]:
    """Write `folder`'s manifest for the files as they are now; returns it: file name -> SHA-256."""
    found = _hashes(folder)
    write_json(folder / MANIFEST, {"sha256": found})
    return found


def verify(folder: Path, error: type[UserError] = UserError) -> None:
    """Raise `error` naming the files that are not those the manifest was written for."""
    remedy = (
        f"take the folder anew from where it was trained, or, if the change was meant, 'difftop model sign {folder}'"
    )
    if not (folder / MANIFEST).is_file():
        raise error(
            f"model folder {str(folder)!r} has no {MANIFEST}, so nothing says that its files are whole; {remedy}"
        )
    listed = _listed(folder, error)
    found = _hashes(folder)
    wrong = [
        *(f"{name} is missing" for name in sorted(listed.keys() - found.keys())),
        *(f"{name} is not listed" for name in sorted(found.keys() - listed.keys())),
        *(f"{name} has changed" for name in sorted(found.keys() & listed.keys()) if found[name] != listed[name]),
    ]
    if wrong:
        raise error(f"model folder {str(folder)!r} is not what its {MANIFEST} says: {', '.join(wrong)}; {remedy}")


def _listed(folder: Path, error: type[UserError]) -> dict[str, str]:
    try:
        with (folder / MANIFEST).open("rb") as file:
            listed = json.loads(file.read(MOST_BYTES))["sha256"]
        if all(isinstance(value, str) for value in listed.values()):
            return listed
        why = "a hash is not text"
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as broken:
        why = f"{type(broken).__name__}: {broken}"
    raise error(f"{folder / MANIFEST} is no manifest ({why:.100}); write it with 'difftop model sign {folder}'")


def _hashes(folder: Path) -> dict[str, str]:
    paths = sorted({path for pattern in DECIDING for path in folder.glob(pattern) if path.is_file()})
    found = {}
    for path in paths:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        found[path.name] = digest.hexdigest()
    return found
