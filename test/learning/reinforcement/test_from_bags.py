"""`difftop train-rl --bags`: recordings of the demo's arm are learned from first, with the reward asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium", reason="the extra [sim] is not installed")
pytest.importorskip("tensorboard", reason="the extra [train] is not installed")

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from difftop_ros.cli import main
from difftop_ros.contract import Contract, load_contract
from difftop_ros.data import EpisodeDataset, ingest
from difftop_ros.data.errors import BagError
from difftop_ros.data.numbers import numbers_at
from difftop_ros.learning.checkpoints import checkpoints
from difftop_ros.learning.reinforcement.demonstrations import Demonstrations, demonstrations_of
from difftop_ros.learning.reinforcement.environments import make_trial
from difftop_ros.learning.reinforcement.replay import Episode
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import read_returns
from difftop_ros.learning.settings import TrainingError
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import rosbags_types as types
from difftop_ros.policies.latent_planning.net import position_steps

STEPS, BEGIN = 12, 50.0
STORE = get_typestore(Stores.ROS2_JAZZY)
JOINTS, NUMBER, FLAG = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64", "std_msgs/msg/Bool"


def told(kind: str, value: Any) -> Any:
    message = types(kind)()
    message.data = value
    return message


class Session:
    """A contract of the demo's arm with joints alone, and bags of it: steps at random, half of what a step can be."""

    def __init__(self, folder: Path) -> None:
        whole = load_contract("config/panda_table.yaml")
        short = {
            "observations": {"joints": whole.observations["joints"]},
            "episode": whole.episode.model_copy(update={"max_seconds": 0.5, "success_topic": "/sim/success"}),
            "sim": whole.sim.model_copy(update={"cameras": {}}),
        }
        self.path = folder / "reach.yaml"
        self.contract: Contract = whole.model_copy(update=short)
        self.path.write_text(self.contract.to_yaml())
        self.bags = folder / "bags"
        self.steps = [self.write(self.bags / f"b{seed}", seed) for seed in range(3)]

    def write(self, folder: Path, seed: int, worth: float = 1.0, receive_s: float = 1e9) -> np.ndarray:
        """One bag; the steps (STEPS, A) in [-1, 1]. Received at `receive_s`, stamped in simulated time."""
        random, contract = np.random.default_rng(seed), self.contract.in_namespace("/")
        names, period = contract.command.joint_names, 1 / contract.rate_hz
        low, high = map(np.asarray, contract.command.bounds())
        position, most = (low + high) / 2, np.asarray(position_steps(contract))
        steps = random.uniform(-0.5, 0.5, (STEPS, len(names)))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            known: dict[str, Any] = {}

            def write(topic: str, kind: str, now: float, message: Any) -> None:
                if topic not in known:
                    known[topic] = writer.add_connection(topic, kind, typestore=STORE)
                writer.write(known[topic], round((receive_s + now) * 1e9), bytes(STORE.serialize_cdr(message, kind)))

            for index, step in enumerate(steps):
                now, goal = BEGIN + index * period, position + step * most
                write(contract.observations["joints"].topic, JOINTS, now, joint_state(types, names, now, position))
                write("/sim/reward", NUMBER, now + 1e-3, told(NUMBER, worth * index))
                write("/sim/success", FLAG, now + 1e-3, told(FLAG, index >= 9))
                order = joint_state(types, names, now + 2e-3, goal)
                write(contract.command.topic, contract.command.type, now + 2e-3, order)
                position = goal
        return steps

    def dataset(self, folder: Path) -> EpisodeDataset:
        ingest(sorted(self.bags.iterdir()), self.contract, folder)
        return EpisodeDataset(folder)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(tmp_path_factory.mktemp("session"))


def test_recordings_become_steps_and_rewards(session: Session, tmp_path: Path) -> None:
    dataset = session.dataset(tmp_path / "dataset")
    found = demonstrations_of(dataset, "task")
    assert len(found.episodes) == 3 and found.clipped == 0
    for episode, steps in zip(found.episodes, session.steps, strict=True):
        count = len(episode)
        assert STEPS - 3 <= count < STEPS and len(episode.frames["joints"]) == count + 1
        first = round(float(episode.rewards[0])) - 1
        np.testing.assert_allclose(episode.actions, steps[first : first + count], atol=1e-4)
        np.testing.assert_array_equal(np.diff(episode.rewards), 1.0)  # the moment after each step, by its number
    done = demonstrations_of(dataset, "success")
    for episode, rewards in zip(done.episodes, found.episodes):
        np.testing.assert_array_equal(episode.rewards, rewards.rewards >= 9)
    assert done.mark != found.mark


def test_costs_are_taken_off(session: Session, tmp_path: Path) -> None:
    costs = tmp_path / "costs.yaml"
    costs.write_text("terms: {slowly: {kind: joint_speed, share: 0.001, weight: 0.01}}\n")
    dataset = session.dataset(tmp_path / "dataset")
    plain, less = (demonstrations_of(dataset, spec) for spec in ("success", f"success+costs:{costs}"))
    assert all((a.rewards > b.rewards).all() for a, b in zip(plain.episodes, less.episodes))
    trial = make_trial(TryingSettings.from_values({"env": "reach", "reward_from": f"costs:{costs}"}), session.path)
    trial.reset(0)
    assert trial.step(np.ones(trial.actions)).reward < trial.step(np.zeros(trial.actions)).reward <= 0
    trial.close()


def test_rewards_that_cannot_be_are_sentences(session: Session, tmp_path: Path) -> None:
    dataset = session.dataset(tmp_path / "dataset")
    with pytest.raises(TrainingError, match=r"reward_from is 'luck'; expected some of task, success, costs:FILE"):
        demonstrations_of(dataset, "luck")
    bag, times = session.bags / "b0", np.array([0], np.int64)
    with pytest.raises(BagError, match=r"has no topic '/reward'; it has .*: record it too"):
        numbers_at(bag, "/reward", session.contract, times)
    with pytest.raises(BagError, match=r"is a sensor_msgs/msg/JointState; expected a number of std_msgs"):
        numbers_at(bag, "joint_command", session.contract, times)
    session.write(tmp_path / "nan", 9, worth=float("nan"))
    with pytest.raises(BagError, match=r"'/sim/reward' in bag .* is nan at one moment; expected finite numbers"):
        numbers_at(tmp_path / "nan", "sim/reward", session.contract, times)


QUICK = ["--latent-size", "16", "--model-width", "16", "--batch", "8", "--plan-after", "2", "--plan-batch", "4",
         "--update-ratio", "0.2", "--eval-episodes", "1", "--plan-iterations", "2", "--pretrain", "6"]  # fmt: skip


def learner_of(out: Path) -> dict[str, Any]:
    return torch.load(checkpoints(out / "checkpoints")[-1], weights_only=True)["learner"]


def test_bags_are_learned_from_before_anything_is_tried(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train-rl", "--env", "reach", "--contract", str(session.path), "--bags", str(session.bags), *QUICK]
    words += ["--eval-every", "20"]
    assert main([*words, "--steps", "20", "--out", str(tmp_path / "whole")]) == 0
    assert [int(row["step"]) for row in read_returns(tmp_path / "whole/returns.csv")] == [0, 20]
    whole = learner_of(tmp_path / "whole")
    assert whole["updates"] == 6 + 4
    assert main([*words, "--steps", "10", "--out", str(tmp_path / "parts")]) == 0
    assert main([*words, "--steps", "20", "--out", str(tmp_path / "parts")]) == 0
    parts = learner_of(tmp_path / "parts")
    assert all(torch.equal(whole["agent"][name], value) for name, value in parts["agent"].items())
    capsys.readouterr()
    assert main([*words, "--steps", "30", "--out", str(tmp_path / "parts"), "--reward-from", "success"]) == 2
    assert "other recorded episodes" in capsys.readouterr().err
    assert main(["train-rl", "--bags", str(session.bags), "--out", str(tmp_path / "no")]) == 2
    assert "has no robot that they could be of" in capsys.readouterr().err


def test_pretraining_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    from difftop_ros.learning.progress import Stopped
    from difftop_ros.learning.reinforcement.acting import try_episode
    from difftop_ros.learning.reinforcement.train import train_by_trying

    from .conftest import small, trial

    random = np.random.default_rng(0)
    episodes: list[Episode] = [try_episode(None, trial(), seed, 0.0, random).episode for seed in range(3)]
    recorded = Demonstrations(episodes, "these", 0.0)
    settings = small(pretrain=12, steps=40)
    train_by_trying(trial, settings, tmp_path / "whole", recorded=recorded)
    asked = iter([False] * 7 + [True])
    with pytest.raises(Stopped, match="stopped after 7 updates on recorded episodes"):
        train_by_trying(trial, settings, tmp_path / "parts", recorded=recorded, stop=lambda: next(asked))
    train_by_trying(trial, settings, tmp_path / "parts", recorded=recorded)
    whole, parts = learner_of(tmp_path / "whole"), learner_of(tmp_path / "parts")
    assert whole["updates"] == parts["updates"] > 12
    assert all(torch.equal(whole["agent"][name], value) for name, value in parts["agent"].items())
    with pytest.raises(TrainingError, match="other recorded episodes"):
        train_by_trying(trial, settings, tmp_path / "parts", recorded=Demonstrations(episodes, "others", 0.0))
