"""The safety page: every promise names a test that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/explanation/safety.md"


def test_every_promise_names_a_test_that_there_is() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| ") and "**" not in row][1:]
    assert len(rows) > 15
    for row in rows:
        path, name = re.findall(r"`([\w/.]+\.py)::(\w+)`", row)[0]
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, row
