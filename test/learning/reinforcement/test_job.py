"""`difftop train-rl` from a task's name: a robot's run is a model folder, and pictures are learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the extra [sim] is not installed")
pytest.importorskip("tensorboard", reason="the extra [train] is not installed")

from difftop_ros.cli import main
from difftop_ros.contract import load_contract
from difftop_ros.learning.evaluate import evaluate
from difftop_ros.learning.reinforcement.environments import make_trial
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import read_returns
from difftop_ros.paths import share_path
from difftop_ros.policies import load_policy
from difftop_ros.policies.latent_planning.net import position_steps
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.gl import choose_backend
from difftop_ros.sim.robot import SimulatedRobot

QUICK = ["--latent-size", "16", "--model-width", "16", "--batch", "8", "--plan-after", "2", "--plan-batch", "4",
         "--update-ratio", "0.2", "--eval-episodes", "1", "--plan-iterations", "2"]  # fmt: skip


@pytest.fixture
def reach(tmp_path: Path) -> Path:
    """The demo arm's contract with joints alone and episodes of half a second."""
    contract = load_contract(share_path("config/panda_table.yaml"))
    short = contract.model_copy(
        update={
            "observations": {"joints": contract.observations["joints"]},
            "episode": contract.episode.model_copy(update={"max_seconds": 0.5}),
            "sim": contract.sim.model_copy(update={"cameras": {}}),
        }
    )
    path = tmp_path / "reach.yaml"
    path.write_text(short.to_yaml())
    return path


def test_a_robot_s_run_is_a_model_folder(reach: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    words = ["--env", "reach", "--contract", str(reach), "--out", str(out), "--steps", "30", "--random-steps", "20"]
    assert main(["train-rl", *words, *QUICK, "--eval-every", "30", "--eval-with", "plan+prior"]) == 0
    assert {row["acting"] for row in read_returns(out / "returns.csv")} == {"plan", "prior"}
    policy = load_policy(out)
    robot = SimulatedRobot(policy.contract, "reach")
    found = evaluate(policy, robot, [7])
    robot.close()
    assert found.outcomes[0].steps == robot.max_steps and not found.outcomes[0].note


def test_a_robot_is_commanded_in_steps_its_joints_can_keep(reach: Path) -> None:
    trial = make_trial(TryingSettings.from_values({"env": "reach"}), reach)
    before = trial.reset(3)["joints"]
    after = trial.step(np.ones(trial.actions)).frames["joints"]
    moved = np.abs(after - before)[: trial.actions]
    assert trial.contract is not None
    assert moved.max() > 0 and (moved <= np.asarray(position_steps(trial.contract)) + 1e-3).all()
    trial.close()


def test_pictures_are_learned_from(tmp_path: Path) -> None:
    pytest.importorskip("dm_control", reason="the extra [dmcontrol] is not installed")
    try:
        choose_backend()
    except SimError as error:
        pytest.skip(str(error))
    words = ["--env", "cartpole-swingup", "--observe", "pixels", "--action-repeat", "100", "--steps", "2000"]
    words += ["--random-steps", "1000", "--image-widths", "4", "4", "4", "--keypoints", "4", "--features", "16"]
    assert main(["train-rl", *words, "--out", str(tmp_path), *QUICK, "--eval-every", "2000"]) == 0
    assert len(read_returns(tmp_path / "returns.csv")) == 1


def test_what_cannot_be_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (["--env", "reach", "--action-repeat", "4"], "action_repeat is 4, but a contract has its own rate"),
        (["--eval-with", "plan+luck"], "eval_with is 'plan+luck'; expected some of plan, prior, mppi"),
        (["--policy", "prior", "--plan-iterations", "3"], "which belong to ['difftop_rl']"),
        (["--noise", "0.05"], "least_noise is 0.1; expected at most noise"),
    ):
        assert main(["train-rl", "--out", str(tmp_path / "run"), *words]) == 2
        assert sentence in capsys.readouterr().err
