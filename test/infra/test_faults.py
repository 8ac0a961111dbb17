"""A slice of the faults over DDS, and that the watcher sees what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from difftop_ros.contract import parse_contract
from difftop_ros.safety import MotionLimits
from tools.faults.__main__ import main
from tools.faults.robot import contract_text
from tools.faults.run import JERK
from tools.faults.watcher import Judge


@pytest.fixture
def judge() -> Judge:
    contract = parse_contract(contract_text().replace("acceleration: 30.0", JERK))
    return Judge(MotionLimits.of(contract.command, contract.control_rate_hz))


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ([[0.0, 0.0], [0.0, np.nan]], "not 2 finite numbers"),
        ([[0.0, 0.0, 0.0]], "not 2 finite numbers"),
        ([[0.0, 2.001]], "position"),
        ([[0.0, 0.0], [0.0, 0.0401]], "velocity"),
        ([[0.0, 0.0], [0.0, 0.0], [0.0121, 0.0]], "acceleration"),
        ([[0.0, 0.0], [0.0, 0.0], [0.008, 0.0], [0.007, 0.0], [0.015, 0.0]], "jerk"),
        ([[0.0, 0.0], [0.012, 0.0], [0.024, 0.0], [0.032, 0.0]], ""),
    ],
)
def test_the_watcher_sees_what_crosses_a_limit(path: list[list[float]], word: str, judge: Judge) -> None:
    for values in path:
        judge.take(np.array(values))
    assert judge.judged.commands == len(path)
    assert bool(judge.judged.crossed) == bool(word)
    assert judge.judged.first.startswith(word)
    assert not judge.judged.at_rest or len(path) == 1 or not np.isfinite(path[-1]).all()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ros_domain")  # what it changes of the environment is put back
def test_a_slice_of_the_faults_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--seed", "3", "--only", "joints: another pose", "joints: random", "cloud: no fields", "node: SIGTERM"]
    assert main(words) == 0, capsys.readouterr().out
    assert "4 faults, " in capsys.readouterr().out


def test_a_name_that_no_fault_has_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "jonts"])
    assert "no fault is called so" in capsys.readouterr().err
