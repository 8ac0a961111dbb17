"""The trainer node learns on a robot through topics alone: the simulation bridge in a process of its own, over DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the extra [sim] is not installed")
pytest.importorskip("tensorboard", reason="the extra [train] is not installed")

from difftop_ros.contract import load_contract
from difftop_ros.learning.reinforcement.train import read_returns
from difftop_ros.paths import share_path
from difftop_ros.policies import load_policy

from .test_trainer_node import Listener

TRAINER = "difftop_ros.nodes.trainer.node"
BRIDGE = "difftop_ros.nodes.simulation.bridge.node"
SMALL = {"latent_size": 16, "model_width": 16, "batch": 8, "plan_after": 2, "plan_batch": 4, "update_ratio": 0.2,
         "eval_episodes": 1, "plan_iterations": 2, "eval_every": 40, "random_steps": 20}  # fmt: skip


@pytest.fixture
def heard(ros_context: object) -> Iterator[Listener]:
    listener = Listener(ros_context)
    yield listener
    listener.close()


@pytest.fixture
def reach(tmp_path: Path) -> Path:
    """The demo arm's contract with joints alone and episodes of one second."""
    contract = load_contract(share_path("config/panda_table.yaml"))
    short = contract.model_copy(
        update={
            "observations": {"joints": contract.observations["joints"]},
            "episode": contract.episode.model_copy(update={"max_seconds": 1.0}),
            "sim": contract.sim.model_copy(update={"cameras": {}}),
        }
    )
    path = tmp_path / "reach.yaml"
    path.write_text(short.to_yaml())
    return path


def words(*given: dict[str, Any]) -> list[str]:
    return [
        "--ros-args",
        *(word for values in given for pair in values.items() for word in ("-p", "{}:={}".format(*pair))),
    ]


def commands(heard: Listener, contract: Path) -> list[np.ndarray]:
    """Positions as they are commanded from now on."""
    from sensor_msgs.msg import JointState

    found: list[np.ndarray] = []
    heard.node.create_subscription(
        JointState, "/joint_command", lambda message: found.append(np.array(message.position)), 1000
    )
    return found


@pytest.mark.timeout(300)
def test_it_learns_through_topics_behind_the_gate_and_goes_on(
    reach: Path,
    spawn: Any,
    heard: Listener,
    tmp_path: Path,
) -> None:
    bridge = spawn(BRIDGE, *words({"task": "reach", "contract": reach}))
    bridge.wait_for("ready", 60)
    sent, out = commands(heard, reach), tmp_path / "model"
    given = {"env": "ros", "contract": reach, "out": out, "use_sim_time": "true"}
    trying = {f"trying.{name}": value for name, value in SMALL.items()}
    process = spawn(TRAINER, *words(given, trying, {"trying.steps": 40}))
    heard.until(lambda: "done" in heard.stages(), process, 200)
    assert process.wait(30) == 0
    assert heard.stages()[-3:] == ["train", "evaluate", "done"]
    assert [int(row["step"]) for row in read_returns(out / "returns.csv")] == [40]
    policy = load_policy(out)
    limits = np.array([joint.velocity for joint in policy.contract.command.joints])
    period = 1 / policy.contract.control_rate_hz
    assert len(sent) > 100
    jumps = np.abs(np.diff(np.stack(sent), axis=0))
    within = (jumps <= limits * period * (1 + 1e-6)).all(1)
    # a new episode begins where the reset has put the arm; within one no joint is faster than it may be
    assert (~within).sum() <= 8
    more = spawn(TRAINER, *words(given, trying, {"trying.steps": 60}))
    heard.heard.clear()
    heard.until(lambda: "done" in heard.stages(), more, 200)
    assert "going on from step 40" in more.output()


@pytest.mark.timeout(300)
def test_what_the_robot_s_side_lacks_is_a_sentence(
    reach: Path,
    spawn: Any,
    heard: Listener,
    tmp_path: Path,
) -> None:
    given = {"env": "ros", "contract": reach, "out": tmp_path / "model", "use_sim_time": "true"}
    trying = {f"trying.{name}": value for name, value in SMALL.items()}
    bridge = spawn(BRIDGE, *words({"task": "reach", "contract": reach}))
    bridge.wait_for("ready", 60)
    process = spawn(TRAINER, *words(given, trying, {"trying.steps": 100_000, "trying.checkpoint_every": 10}))
    heard.until(lambda: heard.steps() >= 20, process, 100)
    bridge.stop()  # in the middle of an episode, or of a reset
    heard.until(lambda: "failed" in heard.stages(), process, 100)
    assert process.wait(30) == 2
    message = heard.heard[-1].message
    assert "does not answer" in message or "sim/reset" in message
    assert "Traceback" not in process.output()
    assert list((tmp_path / "model/checkpoints").glob("*.ckpt"))
