"""The examples do what they say, as a person runs them. (examples/pendulum_cost.py: test/trajopt/test_guide.py.)"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LONGEST = {"difftop_rl_in_one_file.py": 300, "difftop_in_one_file.py": 180, "my_solver.py": 60, "my_policy.py": 60}


def run(name: str, *arguments: str, cwd: Path) -> str:
    """What the example prints, run by itself from another folder."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    path = os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=580, cwd=cwd, env={**os.environ, "PYTHONPATH": path}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", LONGEST)
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < LONGEST[name]


@pytest.mark.slow
@pytest.mark.timeout(600)  # half a minute on a quiet core
def test_the_whole_method_in_one_file_gets_round_the_disc(tmp_path: Path) -> None:
    text = run("difftop_in_one_file.py", "--out", str(tmp_path / "plans.png"), cwd=tmp_path)
    found = re.search(r"base (\d+)%, DiffTOP (\d+)%", text)
    assert found and int(found[1]) <= 20 and int(found[2]) >= 90, text
    picture = cv2.imread(str(tmp_path / "plans.png"))
    assert picture is not None and picture.shape[1] > 2 * picture.shape[0] and picture.std() > 10


@pytest.mark.slow
@pytest.mark.timeout(600)  # a quarter of a minute on a quiet core
def test_the_reinforcement_form_in_one_file_learns_and_draws(tmp_path: Path) -> None:
    """Five episodes are the beginning: it plans, learns through the plan, and says how far it is."""
    text = run("difftop_rl_in_one_file.py", "--episodes", "5", "--out", str(tmp_path / "curve.png"), cwd=tmp_path)
    found = re.search(r"plan (\d+), prior (\d+) of 1000 after 5000 control steps", text)
    assert found and 0 <= int(found[1]) <= 1000, text
    picture = cv2.imread(str(tmp_path / "curve.png"))
    assert picture is not None and picture.std() > 10


def test_a_solver_of_ones_own(tmp_path: Path) -> None:
    text = run("my_solver.py", cwd=tmp_path)
    assert text.startswith("CONVERGED") and "gradient [1.0, 0.0]" in text, "the held joint has none"


def test_a_policy_of_ones_own(tmp_path: Path) -> None:
    text = run("my_policy.py", cwd=tmp_path)
    assert "nearest: " in text and "difftop on base nearest: " in text


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder that looks like an installed package whose entry points offer both examples."""
    for name in ("my_solver.py", "my_policy.py"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    facts = tmp_path / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[difftop_ros.policies]\nnearest = my_policy\n\n[difftop_ros.solvers]\nmomentum = my_solver:MOMENTUM\n"
    )
    return tmp_path


PROBE = """
import json, sys, torch
from difftop_ros.cli import main
from difftop_ros.contract import load_contract
from difftop_ros.paths import share_path
from difftop_ros.policies import Policy, PolicyConfig, load_policy, make_net
contract = load_contract(share_path("config/metaworld_state.yaml"))
config = PolicyConfig(base="nearest", nearest_chunks=8, solver="momentum", horizon=4)
policy = Policy(make_net(contract, config), contract, torch.device("cpu"))
again = load_policy(policy.save(sys.argv[1]))
plan = again.act(again._blank())
print(json.dumps([again.config.to_dict()["nearest_chunks"], plan.iterations, (again.config == config)]))
try: main(["train", "--help"])
except SystemExit: pass
"""


def test_entry_points_bring_a_policy_and_a_solver(package: Path) -> None:
    path = os.pathsep.join([str(package), str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", PROBE, str(package / "model")],
        capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0]) == [8, 8, True]
    assert "--nearest-sharpness" in result.stdout and "(default: 5.0)" in result.stdout
    assert "nearest}" in result.stdout, "among the policies to choose from"
