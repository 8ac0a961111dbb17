"""Writes what shows the training options: the trainer node's parameter file, and the tables of options in docs.

python tools/write_options.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from difftop_ros.learning.options import table
from difftop_ros.nodes.parameters import render_yaml
from difftop_ros.nodes.trainer import parameters as trainer

ROOT = Path(__file__).resolve().parents[1]
PARAMETER_FILE = "config/trainer_node.yaml"
PAGES = ("docs/reference/training.md", "docs/reference/policies.md", "docs/reference/trying.md")
MARKED = re.compile(r"(<!-- options of (\w+), written by tools/write_options.py -->\n).*?(<!-- end -->)", re.DOTALL)


def parameter_file() -> str:
    """The text of config/trainer_node.yaml."""
    return render_yaml(trainer.HEAD, trainer.__name__, trainer.parameters())


def page(text: str) -> str:
    """A page's text with its tables of options written anew."""
    return MARKED.sub(lambda found: found[1] + table(found[2]) + found[3], text)


def main() -> int:
    """Writes the files, or says with exit code 1 which are not as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare only")
    args = parser.parse_args()
    wanted = {ROOT / PARAMETER_FILE: parameter_file()}
    wanted |= {(path := ROOT / name): page(path.read_text()) for name in PAGES}
    stale = [path for path, text in wanted.items() if path.read_text() != text]
    for path in stale:
        print(f"{'wrote' if not args.check else 'is not as the options say'}: {path}")
        if not args.check:
            path.write_text(wanted[path])
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
