"""Feeds what loads and decodes with changed inputs, and counts what is not a refusal in the product's own words.

    python -m tools.fuzz                              100,000 inputs for each target
    python -m tools.fuzz --target bags --seed 7 --inputs 5000
    python -m tools.fuzz --guided --inputs 20000      inputs grow from those that reached new lines (needs atheris)
    python -m tools.fuzz --replay fuzz_out/bags-3f2a.bin

An input is made of target, seed and number alone, unless a search guides it. Each target runs in a process of its own:
one that dies or stands still is counted, and the next goes on behind that input. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from tools.fuzz.run import Tally, replay, run_target
from tools.fuzz.targets import TARGETS


def main(words: list[str] | None = None) -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--target", nargs="+", choices=sorted(TARGETS), default=list(TARGETS), help="which; all")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="of all inputs")
    parser.add_argument("--out", type=Path, default=Path("fuzz_out"), help="folder for inputs that found something")
    parser.add_argument("--guided", action="store_true", help="by coverage of difftop_ros, as libFuzzer does it")
    parser.add_argument("--replay", type=Path, help="feed one such file again, with its traceback")
    args = parser.parse_args(words)
    if args.replay:
        return replay(args.replay)
    if args.guided:
        args.target = _searched(args.target)
    begin = time.monotonic()
    tallies = []
    for name in args.target:
        tallies.append(run_target(name, args.seed, args.inputs, args.out, args.guided))
        print(tallies[-1].line() if len(tallies) > 1 else f"{Tally.head()}\n{tallies[-1].line()}", flush=True)
    for tally in tallies:
        for what, found in sorted(tally.found.items()):
            print(f"{tally.target}: {found.count} x {what}; python -m tools.fuzz --replay {found.file}")
    count = sum(tally.inputs for tally in tallies)
    print(f"{count} inputs, seed {args.seed}, {time.monotonic() - begin:.0f} s")
    return int(any(tally.found for tally in tallies))


def _searched(names: list[str]) -> list[str]:
    """Those of the targets whose inputs a search can change; ends with a sentence without the library that searches."""
    if find_spec("atheris") is None:
        sys.exit("--guided needs atheris: pip install -c constraints.txt -e '.[fuzz]'")
    if left := [name for name in names if TARGETS[name].searched == "nothing"]:
        print(f"not searched, since only their own generator can write their inputs: {', '.join(left)}")
    return [name for name in names if name not in left]


if __name__ == "__main__":
    sys.exit(main())
