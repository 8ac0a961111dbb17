"""Meta-World behind our interface: determinism, commands, cameras, experts, and the way from bag to windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("metaworld", reason="the extra [metaworld] is not installed")

from difftop_ros import sim
from difftop_ros.contract import Contract, DepthCloudObs, PointCloudObs, load_contract
from difftop_ros.data import EpisodeDataset, WindowDataset, find_bags, ingest
from difftop_ros.errors import UserError
from difftop_ros.messages.commands import array_to_command
from difftop_ros.messages.types import rosbags_types
from difftop_ros.nodes.simulation.bridge.commands import CommandTracker
from difftop_ros.paths import share_path
from difftop_ros.sim.mujoco.metaworld import MetaWorld, make_expert, make_world, task_names
from difftop_ros.sim.robot import SimulatedRobot

PUSH = "metaworld/push-v3"
CONTRACTS = ("metaworld_cloud", "metaworld_image", "metaworld_state")
STILL = np.zeros(4)


def contract_of(name: str) -> Contract:
    return load_contract(share_path(f"config/{name}.yaml"))


def everything(world: MetaWorld) -> np.ndarray:
    """All that a later state or picture could depend on."""
    data, model = world.data, world.model
    parts = (data.qpos, data.qvel, data.mocap_pos, model.body_pos, model.site_pos, data.site_xpos, world.full_state)
    return np.concatenate([np.ravel(p) for p in (*parts, world.joint_state()[0], world.joint_state()[1], world.time)])


def run(world: MetaWorld, seed: int, steps: int) -> np.ndarray:
    world.reset(seed)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        world.step(random.uniform(-1, 1, 4), world.step_s)
    return everything(world)


@pytest.mark.parametrize("task", [PUSH, "metaworld/door-open-v3", "metaworld/bin-picking-v3", "metaworld/box-close-v3"])
def test_same_seed_and_commands_give_identical_states(task: str) -> None:
    world = make_world(task, disturbance=0.1)
    first = run(world, 3, 25)
    run(world, 5, 10)  # a reset must forget what was before it
    np.testing.assert_array_equal(first, run(world, 3, 25))
    np.testing.assert_array_equal(first, run(make_world(task, disturbance=0.1), 3, 25))
    assert not np.array_equal(first, run(world, 4, 25))


def test_the_seed_places_object_and_goal() -> None:
    world = make_world(PUSH)
    states = []
    for seed in range(6):
        world.reset(seed)
        states.append([*world.full_state[4:6], *world.full_state[-3:-1]])
    assert (np.ptp(states, axis=0) > 0.04).all()  # [m]; the goal's radius is 0.05


def test_all_fifty_tasks_are_there_and_a_wrong_name_tells_the_right_one() -> None:
    assert len(task_names()) == 50
    with pytest.raises(UserError, match="did you mean one of 'metaworld/push-v3'"):
        make_world("metaworld/push")
    with pytest.raises(UserError, match="does not go with task 'metaworld/push-v3'"):
        make_world(PUSH, "my_arm.xml")
    with pytest.raises(UserError, match="does not go with task"):
        make_world(PUSH, varied_starts=0.3)


@pytest.mark.parametrize(("number", "sign"), [(n, s) for n in range(3) for s in (-1.0, 1.0)])
def test_a_command_moves_the_hand_its_way(number: int, sign: float) -> None:
    world = make_world(PUSH)
    start = world.joint_state()[0]
    command = sign * np.eye(4)[number]
    world.step(command, 10 * world.step_s)
    moved = world.joint_state()[0][:3] - start[:3]
    assert 0.04 < sign * moved[number] < 0.11  # 10 steps of at most 0.01 m, behind a soft weld
    assert np.abs(np.delete(moved, number)).max() < 0.02
    assert sign * world.joint_state()[1][number] > 0.3  # [m/s], towards 0.8


def test_the_fingers_close_on_one_and_open_on_minus_one() -> None:
    world = make_world(PUSH)
    world.step(np.array([0, 0, 0, 1.0]), 30 * world.step_s)
    closed = world.joint_state()[0][3]
    world.step(np.array([0, 0, 0, -1.0]), 30 * world.step_s)
    assert world.joint_state()[0][3] > closed + 0.02


def test_time_goes_in_whole_steps_and_goes_on_after_the_horizon() -> None:
    world = make_world(PUSH)
    for _ in range(10):
        world.step(STILL, 0.01)
    assert world.time == pytest.approx(0.1, abs=1e-9)
    world.step(STILL, 6.5)
    assert world.time == pytest.approx(6.6, abs=1e-9)
    assert world.task.max_seconds == pytest.approx(6.25)


@pytest.mark.parametrize("command", [np.zeros(3), np.array([0, 0, np.nan, 0])])
def test_a_bad_command_is_refused_and_nothing_moves(command: np.ndarray) -> None:
    world = make_world(PUSH)
    before = everything(world)
    with pytest.raises(UserError, match=r"shape \(3,\)|not finite"):
        world.step(command, 0.1)
    np.testing.assert_array_equal(before, everything(world))


@pytest.mark.parametrize("task", ["push", "pick-place", "basketball", "sweep", "door-open"])
def test_the_expert_succeeds_and_a_still_hand_does_not(task: str) -> None:
    world = make_world(f"metaworld/{task}-v3")
    expert = make_expert(world)
    for seed in range(3):
        world.reset(seed)
        assert not world.success()
        while not world.success() and world.time < world.task.max_seconds:
            world.step(expert.act(), expert.step_s)
        assert world.success(), seed
    world.reset(0)
    world.step(STILL, 1.0)
    assert not world.success()


@pytest.mark.parametrize("task", ["push", "pick-place"])
def test_object_and_goal_are_where_the_cloud_shows_them(task: str) -> None:
    robot = SimulatedRobot(contract_of("metaworld_cloud"), f"metaworld/{task}-v3")
    try:
        for seed in range(3):
            robot.reset(seed)
            cloud = robot.observe()["cloud"]
            world: Any = robot.world  # a MetaWorld: others do not tell their full state
            puck, goal = world.full_state[4:7], world.full_state[-3:]
            # A cylinder of radius and half height 0.02 m, a ball of radius 0.02 m: the cloud is their surface.
            for centre, farthest in ((puck, 0.0285), (goal, 0.0205)):
                distances = np.linalg.norm(cloud - centre, axis=1)
                near = distances[distances < 0.035]
                assert near.size >= 8 and near.min() > 0.018 and near.min() < 0.022
                assert near.max() < farthest + 0.002
    finally:
        robot.world.close()


def test_the_corner_cameras_stand_upright_and_see_the_hand() -> None:
    world = make_world(PUSH, width=96, height=96)
    try:
        for camera in ("corner", "corner2", "corner3", "corner4"):
            pose = world.camera_pose(camera)
            assert pose[2, 1] < -0.3, camera  # its y axis, which goes down in the picture, goes down in the world
            hand = np.linalg.inv(pose) @ [*world.joint_state()[0][:3], 1]
            pixel = world.intrinsics(camera) @ (hand[:3] / hand[2])
            assert hand[2] > 0 and (pixel[:2] > 0).all() and (pixel[:2] < 96).all(), camera
        picture, _ = world.render("corner2")
        green = (picture[..., 1] > 150) & (picture[..., 0] < 100)  # the goal
        assert green.sum() >= 4
    finally:
        world.close()


@pytest.mark.parametrize("name", CONTRACTS)
def test_no_observation_but_the_eyes_knows_the_object(name: str) -> None:
    """Starts of different seeds look the same to the joints, whatever object and goal are."""
    robot = SimulatedRobot(contract_of(name))
    try:
        frames = []
        for seed in range(2):
            robot.reset(seed)
            frames.append(robot.observe())
        np.testing.assert_array_equal(frames[0]["joints"], frames[1]["joints"])
        eyes = set(frames[0]) - {"joints"}
        assert bool(eyes) == (name != "metaworld_state")
        assert all(not np.array_equal(frames[0][key], frames[1][key]) for key in eyes)
    finally:
        robot.world.close()


def test_positions_are_refused_by_a_hand_that_takes_velocities() -> None:
    contract = contract_of("metaworld_state")
    positions = contract.model_copy(update={"command": contract.command.model_copy(update={"mode": "position"})})
    with pytest.raises(UserError, match=r"set command\.mode to velocity"):
        SimulatedRobot(positions)


def test_a_velocity_command_holds_until_its_time_out_and_then_is_zero() -> None:
    contract = contract_of("metaworld_state")
    tracker = CommandTracker(contract, [0, 1, 2, 3], timeout_s=0.05, direct=True)
    tracker.begin(np.full(4, 0.6), time_ns=0)
    np.testing.assert_array_equal(tracker.targets(0.0125, STILL), STILL)
    values = np.array([0.5, -1.0, 0.25, 1.0])
    tracker.offer(array_to_command(contract, values, 1_000_000_000, rosbags_types))
    for _ in range(4):
        np.testing.assert_array_equal(tracker.targets(0.0125, STILL), values)
    np.testing.assert_array_equal(tracker.targets(0.0125, STILL), STILL)


def test_the_contracts_differ_in_their_eyes_alone() -> None:
    commands = [contract_of(name).command for name in CONTRACTS]
    joints = [contract_of(name).observations["joints"] for name in CONTRACTS]
    assert all(c == commands[0] for c in commands) and all(j == joints[0] for j in joints)
    contract = contract_of("metaworld_cloud")
    world = make_world(PUSH)
    assert 1 / contract.rate_hz == pytest.approx(world.step_s)
    cloud = contract.observations["cloud"]
    assert isinstance(cloud, (DepthCloudObs, PointCloudObs))
    transform = cloud.transform
    assert transform is not None
    pose = world.camera_pose(contract.sim.cameras["cloud"])
    np.testing.assert_allclose(transform.rotation, pose[:3, :3], atol=1e-6)
    np.testing.assert_allclose(transform.xyz, pose[:3, 3], atol=1e-9)


@pytest.mark.parametrize(("name", "stay"), [("metaworld_cloud", 10), ("metaworld_image", 0)])
def test_demonstrations_through_the_topics_are_what_the_simulation_gave(
    name: str, stay: int, ros_domain: int, tmp_path: Path
) -> None:
    """`difftop record --expert` → bag → ingest: every frame and action as in a run in one process, bit for bit."""
    pytest.importorskip("rclpy", reason="rclpy is not installed in this environment")
    path, task, seed = share_path(f"config/{name}.yaml"), "metaworld/coffee-button-v3", 7
    words = ["record", "--expert", "--contract", str(path), "--task", task, "--episodes", "1", "--seed", str(seed)]
    words += ["--stay-steps", str(stay)]
    recorded = subprocess.run(
        [sys.executable, "-m", "difftop_ros.cli", *words, "--out", str(tmp_path / "bags")],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert recorded.returncode == 0, recorded.stderr
    contract = load_contract(path)
    ingest(find_bags(tmp_path / "bags"), contract, tmp_path / "dataset")
    episode = EpisodeDataset(tmp_path / "dataset")[0]
    assert episode.attributes["success"] is True and episode.attributes["task"] == task
    robot = SimulatedRobot(contract, task)
    try:
        robot.reset(seed)
        expert = sim.make_expert(robot.world)
        stored, succeeded = {key: episode[key][:] for key in episode}, 0
        for step in range(episode.steps):
            action = expert.act()
            for key, frame in robot.observe().items():
                np.testing.assert_array_equal(stored[key][step], frame, err_msg=f"{key} at step {step}")
            np.testing.assert_array_equal(stored["action"][step], action)
            robot.apply(action, 1 / contract.rate_hz)
            succeeded += robot.success()
    finally:
        robot.world.close()
    assert max(stay, 1) <= succeeded <= stay + 3  # the status that tells success comes apart from the step's answer
    windows = WindowDataset(EpisodeDataset(tmp_path / "dataset"), obs_steps=2, horizon=4)
    batch = windows.batch(np.arange(3))
    shapes = {key: frames.shape for key, frames in batch["obs"].items()}
    eyes = {"cloud": (3, 2, 512, 3)} if name == "metaworld_cloud" else {"corner": (3, 2, 84, 84, 3)}
    assert shapes == {"joints": (3, 2, 4), **eyes}
    assert batch["action"].shape == (3, 4, 4) and np.abs(batch["action"]).max() <= 1
