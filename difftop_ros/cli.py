"""The `difftop` command: one verb per job, each in commands/."""

from __future__ import annotations

import sys

from difftop_ros.commands.dispatch import VERBS, main

__all__ = ["VERBS", "main"]

if __name__ == "__main__":
    sys.exit(main())
