"""Puts faults into a running policy node and judges every command it sends meanwhile.

    python -m tools.faults                        all of them
    python -m tools.faults --only cloud --seed 7  those whose name begins so

Exit code 1 where a command crossed a limit or the node did not do what it must.
"""

from __future__ import annotations

import argparse
import sys
import time

from tools.faults.catalogue import FAULTS
from tools.faults.run import run


def main(words: list[str] | None = None) -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names; all")
    parser.add_argument("--seed", type=int, default=0, help="of what is random in a fault")
    args = parser.parse_args(words)
    chosen = [fault for fault in FAULTS if fault.name.startswith(tuple(args.only))]
    if not chosen:
        parser.error(f"--only {args.only}: no fault is called so; there are {[fault.name for fault in FAULTS]}")
    begin = time.monotonic()
    outcomes = run(chosen, args.seed, lambda line: print(line, flush=True))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    commands = sum(outcome.judged.commands for outcome in outcomes)
    crossed = sum(outcome.judged.crossed for outcome in outcomes)
    print(
        f"{len(outcomes)} faults, {commands} commands judged, {crossed} crossed a limit; {len(wrong)} faults were not "
        f"answered as they must be; seed {args.seed}, {time.monotonic() - begin:.0f} s"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
