"""examples/my_cost.py: a trained policy's plan keeps to a cost that was added when it planned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_plan_comes_down_below_the_height() -> None:
    command = [sys.executable, str(ROOT / "examples/my_cost.py"), "--below", "0.12"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    trained, added = ([float(h) for h in line.split("plan ")[1].rstrip(" m").split(", ")]
                      for line in result.stdout.splitlines())  # fmt: skip
    assert max(trained[1:]) > 0.2  # after the one step in which no arm could come down so far
    assert max(added[1:]) < 0.125
