"""benchmarks/control_rate.py runs its three processes and tells what it measured. How good that is: its table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks/control_rate.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("arguments", [[], ["--bridge"]], ids=["publisher", "bridge"])
def test_the_benchmark_measures_an_active_node(spawn: Any, arguments: list[str]) -> None:
    process = spawn([sys.executable, str(BENCHMARK), "--seconds", "10", *arguments])
    process.wait(110)
    output = process.output()
    figures = json.loads(output[output.index("{\n") : output.rindex("}") + 1])
    assert figures["message"] == "active"
    assert int(figures["ticks"]) > 50
    assert int(figures["ticks"]) + int(figures["ticks_lost"]) < 50 * 30
    assert float(figures["lateness_p99_ms"]) >= float(figures["lateness_p50_ms"]) > 0
