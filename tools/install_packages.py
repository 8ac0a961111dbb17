"""Installs the package and what it needs into the Python that runs this, group by group, and says how far it is.

Lives here: the order of the groups, the call of pip, and the two packages that pip cannot install by what they declare.
Not here: which packages (setup.py) and which versions (constraints.txt).
Usage: python tools/install_packages.py --extras ros,sim,... [options for pip]
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What builds, in this environment, the packages that come as source alone (fpsample, theseus-ai and its parts).
BUILD_TOOLS = ["setuptools", "wheel", "scikit-build-core", "pybind11", "cmake<4", "ninja"]
# theseus-ai declares scikit-sparse, which nothing here needs and which wants a system library: so without its declared
# needs, which the extra [theseus] names instead.
THESEUS = ["theseus-ai", "torchlie", "torchkin", "urdf-parser-py"]
LARGE_MB = 20.0  # downloads from this size on are announced
DOWNLOAD = re.compile(r"Downloading (\S+?)-\d\S* \(([\d.]+) (kB|MB|GB)\)")


def listed() -> tuple[list[str], dict[str, list[str]]]:
    """BASE and EXTRAS of setup.py, read without running it."""
    body = ast.parse((ROOT / "setup.py").read_text()).body
    lists = [node for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    named = {ast.unparse(node.targets[0]): node.value for node in lists}
    return ast.literal_eval(named["BASE"]), ast.literal_eval(named["EXTRAS"])


def groups(extras: list[str]) -> list[tuple[str, list[str]]]:
    """(what for, arguments of pip) of each group, in order.

    Raises SystemExit with a sentence for an extra that setup.py does not have.
    """
    base, declared = listed()
    if unknown := [name for name in extras if name not in declared]:
        raise SystemExit(f"setup: no extra {unknown[0]!r} in setup.py; it has {', '.join(declared)}")
    found = [("tools that build packages", BUILD_TOOLS), ("what every part needs: torch, open3d, OpenCV, ...", base)]
    found += [(f"{name}: {', '.join(declared[name][:3])}, ...", declared[name]) for name in extras]
    if "theseus" in extras:
        found.append(("theseus-ai itself", ["--no-deps", *THESEUS]))
    return [*found, ("difftop_ros itself", ["--no-deps", "-e", str(ROOT)])]


def announced(line: str) -> str | None:
    """What of a line of pip's a person wants to see: large downloads, and when unpacking begins."""
    if found := DOWNLOAD.search(line):
        size = float(found[2]) * {"kB": 1e-3, "MB": 1.0, "GB": 1e3}[found[3]]
        return f"downloading {found[1].rpartition('/')[2]} ({size:.0f} MB)" if size >= LARGE_MB else None
    if line.startswith("Installing collected packages:"):
        names = line.partition(":")[2].split(",")
        return f"installing {len(names)} package{'s' * (len(names) > 1)}"
    return None


def install(arguments: list[str], flags: list[str]) -> None:
    """One call of pip; what it prints is shown when it fails.

    Raises SystemExit with pip's last lines.
    """
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-build-isolation"]
    command += ["--progress-bar", "off", "-c", str(ROOT / "constraints.txt"), *flags, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if (news := announced(line.strip())) is not None:
            print(f"setup:       {news}", flush=True)
    if process.wait() != 0:
        sys.stderr.write("".join(said[-30:]))
        raise SystemExit(f"setup: pip failed (above); the command was: {' '.join(command)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras of setup.py, with commas")
    args, flags = parser.parse_known_args()
    begin, todo = time.monotonic(), groups([name for name in args.extras.split(",") if name])
    for number, (name, arguments) in enumerate(todo, 1):
        print(f"setup: {number:2} of {len(todo)}  {name}", flush=True)
        install(arguments, flags)
    print(f"setup: Python packages are there ({time.monotonic() - begin:.0f} s)")


if __name__ == "__main__":
    main()
