"""The bridge by simulation_interfaces alone, its own services switched off: asked one by one, then driven by verbs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.cli import main
from difftop_ros.contract import load_contract
from difftop_ros.data.bags.reader import open_bag
from difftop_ros.errors import UserError
from difftop_ros.messages.types import ros_types
from difftop_ros.paths import share_path
from difftop_ros.policies import DifftopNet, Policy, PolicyConfig

BRIDGE = "difftop_ros.nodes.simulation.bridge.node"
CONTRACT = share_path("config/panda_table.yaml")


class Client:
    """Calls the services and hears clock and episode."""

    def __init__(self, context: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile

        self.node = rclpy.create_node("asks", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.clock: list[int] = []
        self.episodes: list[Any] = []
        latched = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(ros_types("rosgraph_msgs/msg/Clock"), "/clock", self._on_clock, 100)
        kind = ros_types("difftop_ros/msg/EpisodeStatus")
        self.node.create_subscription(kind, "/sim/episode", self.episodes.append, latched)

    def _on_clock(self, message: Any) -> None:
        self.clock.append(message.clock.sec * 1_000_000_000 + message.clock.nanosec)

    def until(self, done: Callable[[], bool], timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < deadline
            self.executor.spin_once(timeout_sec=0.05)

    def ask(self, name: str, **fields: Any) -> Any:
        from simulation_interfaces import srv

        kind = getattr(srv, "".join(part.title() for part in name.split("_")))
        client = self.node.create_client(kind, f"/sim_bridge/{name}")
        assert client.wait_for_service(30.0), name
        future = client.call_async(kind.Request(**fields))
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def state(self, number: int) -> int:
        """The result of setting a state."""
        from simulation_interfaces.msg import SimulationState

        return self.ask("set_simulation_state", state=SimulationState(state=number)).result.result


@pytest.fixture
def client(ros_context: object) -> Iterator[Client]:
    made = Client(ros_context)
    yield made
    made.executor.shutdown()
    made.node.destroy_node()


def start(spawn: Any, *settings: str) -> Any:
    arguments = [part for s in (f"contract:={CONTRACT}", "own_services:=false", *settings) for part in ("-p", s)]
    bridge = spawn(BRIDGE, "--ros-args", *arguments)
    bridge.wait_for("ready", timeout=60)
    return bridge


STOPPED, PLAYING, PAUSED, QUITTING = 0, 1, 2, 3
OK, UNSUPPORTED, NOT_FOUND, FAILED = 1, 0, 2, 4


def test_time_is_played_paused_stepped_and_begun_anew(spawn: Any, client: Client) -> None:
    from simulation_interfaces.msg import SimulatorFeatures

    bridge = start(spawn, "task:=lift", "seed:=5", "joint_state_rate:=100.0")
    told = client.ask("get_simulator_features").features.features
    assert {SimulatorFeatures.SIMULATION_STATE_PAUSE, SimulatorFeatures.ENTITY_STATE_GETTING} <= set(told)
    assert SimulatorFeatures.SIMULATION_RESET_TIME not in told and SimulatorFeatures.SPAWNING not in told
    assert client.ask("get_simulation_state").state.state == PLAYING
    refused = client.ask("step_simulation", steps=1).result
    assert refused.result == FAILED and "pause it" in refused.error_message
    assert client.state(PAUSED) == OK and client.state(PAUSED) == 101
    assert client.ask("get_simulation_state").state.state == PAUSED
    assert client.ask("step_simulation").result.result == OK  # one step, unless told otherwise
    client.until(lambda: len(client.clock) > 0)
    at = client.clock[-1]
    assert client.ask("step_simulation", steps=3).result.result == OK
    client.until(lambda: client.clock[-1] == at + 30_000_000)  # of one publisher, so nothing came in between
    assert client.clock[-4:] == [at, at + 10_000_000, at + 20_000_000, at + 30_000_000]
    assert client.ask("step_simulation", steps=2**40).result.result == FAILED
    assert client.ask("reset_simulation", scope=1).result.result == UNSUPPORTED
    assert client.ask("reset_simulation", scope=4).result.result == OK  # nothing was spawned
    assert client.episodes[-1].seed == 5
    for scope, seed in ((0, 6), (2, 7), (255, 8)):
        assert client.ask("reset_simulation", scope=scope).result.result == OK
        client.until(lambda s=seed: client.episodes[-1].seed == s)
    assert client.clock[-1] > at
    assert client.state(QUITTING) == UNSUPPORTED
    assert client.state(STOPPED) == OK and client.ask("get_simulation_state").state.state == STOPPED
    client.until(lambda: client.episodes[-1].seed == 9)
    assert client.state(PLAYING) == OK
    before = client.clock[-1]
    client.until(lambda: client.clock[-1] > before + 50_000_000)
    names = [name for name, _ in client.node.get_service_names_and_types()]
    assert "/sim/reset" not in names and "/sim/step" not in names
    assert bridge.interrupt() == 0


def test_bodies_are_told_and_placed_and_lock_step_does_not_run(spawn: Any, client: Client) -> None:
    from simulation_interfaces.msg import EntityFilters, EntityState

    start(spawn, "task:=lift", "lockstep:=true")
    assert client.state(PLAYING) == 102  # an error of the transition
    assert client.ask("get_entities").entities == ["cube"]
    assert client.ask("get_entities", filters=EntityFilters(filter="c.*")).result.result == UNSUPPORTED
    state = client.ask("get_entity_state", entity="cube").state
    assert state.header.frame_id == "world" and state.pose.position.z == pytest.approx(0.02, abs=1e-3)
    missing = client.ask("get_entity_state", entity="cup").result
    assert missing.result == NOT_FOUND and "there are ['cube']" in missing.error_message
    place = EntityState()
    place.pose.position.x, place.pose.position.y, place.pose.position.z = 0.55, -0.1, 0.3
    assert client.ask("set_entity_state", entity="cube", state=place, set_pose=True).result.result == OK
    found = client.ask("get_entity_state", entity="cube").state.pose
    assert (found.position.x, found.position.y, found.position.z) == (0.55, -0.1, 0.3) and found.orientation.w == 1.0
    assert client.ask("step_simulation", steps=100).result.result == OK  # it falls
    assert client.ask("get_entity_state", entity="cube").state.pose.position.z == pytest.approx(0.02, abs=2e-3)
    place.pose.orientation.w = 0.0
    assert client.ask("set_entity_state", entity="cube", state=place, set_pose=True).result.result == 101
    assert client.ask("set_entity_state", entity="cube", state=place, set_twist=True).result.result == UNSUPPORTED


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small untrained policy for the demo's contract."""
    import torch

    torch.manual_seed(0)
    contract = load_contract(CONTRACT)
    options: dict[str, Any] = {
        "horizon": 6, "features": 16, "latent": 2, "bc_width": 16, "prior_width": 16, "posterior_width": 16,
        "cost_width": 16, "cost_outputs": 8, "point_widths": (8, 8), "iterations": 3,
    }  # fmt: skip
    net = DifftopNet(contract, PolicyConfig(**options))
    return Policy(net, contract, torch.device("cpu")).save(tmp_path / "untrained")


def test_verbs_drive_a_simulator_that_somebody_else_runs(spawn: Any, model: Path, tmp_path: Path) -> None:
    """Evaluated from two starts; then the expert's demonstration, in lock step, watching a mirror of it."""
    start(spawn, "task:=lift", "reliable_sensors:=true")
    program = [sys.executable, "-m", "difftop_ros.cli"]
    out, bags = tmp_path / "found", tmp_path / "bags"
    told = ("--sim", "topics", "--success-when", "cube.z > 0.001")  # true at once, and held
    process = spawn([*program, "eval", "--model", model, "--episodes", 2, "--out", out, *told])
    assert process.wait(200) == 0, process.output()
    (found,) = json.loads((out / "evaluation.json").read_text())
    assert (found["successes"], found["episodes"], found["task"]) == (2, 2, "lift") and found["plan_ms_p50"] > 0
    assert "through topics: 2 of 2" in process.output()
    process = spawn(
        [*program, "record", "--expert", "--sim", "topics", "--episodes", 1, "--stay-steps", 0, "--out", bags]
    )
    assert process.wait(200) == 0, process.output()
    assert "1 of 1 succeeded" in process.output()
    (mark,) = (json.loads(path.read_text()) for path in bags.glob("*/episode.json"))
    assert mark["success"] and mark["complete"] and mark["seed"] == 0 and 40 < mark["steps"] < 150
    with open_bag(next(bags.glob("panda_table*"))) as bag:
        assert {"/joint_command", "/joint_states"} <= set(bag.topics)


def test_a_mirror_is_in_the_state_that_it_is_shown() -> None:
    from difftop_ros.sim import make_world
    from difftop_ros.sim.interface import HasBodies, Mirror

    one, other = make_world("lift", seed=3), make_world("lift", seed=4)
    assert isinstance(one, HasBodies) and isinstance(one, Mirror) and isinstance(other, HasBodies)
    position, velocity, _ = other.joint_state()
    one.mirror(position, velocity)
    for name, pose in other.bodies().items():
        one.place(name, pose)
        np.testing.assert_allclose(one.bodies()[name], pose, atol=1e-12)
    np.testing.assert_allclose(one.joint_state()[0], position, atol=1e-9)
    np.testing.assert_allclose(one.joint_state()[1], velocity, atol=1e-9)
    np.testing.assert_allclose(one.camera_pose("wrist"), other.camera_pose("wrist"), atol=1e-9)


@pytest.mark.parametrize("text", ["", "cube.z", "cube > 3", "cube.w > 1", "cube.z >= 1", "cube.z > high"])
def test_a_condition_of_another_form_is_refused(text: str) -> None:
    from difftop_ros.nodes.environment import prepare

    prepare()
    from difftop_ros.nodes.simulation.control import Condition

    with pytest.raises(UserError, match="the condition is"):
        Condition.parse(text)
    low = Condition.parse("table/cup-2.y<-.5")
    pose = np.array([0.0, -0.6, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert low.entity == "table/cup-2" and low.holds(pose) and not low.holds(-pose)


def test_a_shipped_model_keeps_its_own_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = share_path("models/panda_lift")
    before = (shipped / "evaluation.json").read_bytes()
    assert main(["eval", "--model", str(shipped), "--episodes", "1", "--no-base"]) == 0
    assert (shipped / "evaluation.json").read_bytes() == before
    assert len(json.loads((tmp_path / "evaluation/panda_lift/evaluation.json").read_text())) == 1
    assert "results go to evaluation/panda_lift" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert main(["eval", "--model", str(shipped), "--episodes", "1", "--out", str(tmp_path / "file/below")]) == 2
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["reach", "push"])
def test_tasks_that_need_a_target_of_ours_are_refused_elsewhere(task: str) -> None:
    from difftop_ros.nodes.recorder.simulations import ExpertOptions, ForeignBridge

    with pytest.raises(UserError, match="is told where to go by its 'target_"):
        ForeignBridge(load_contract(CONTRACT), ExpertOptions(task=task)).start()
