"""The simulated world: determinism, physics of success, cameras, any model by path, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from difftop_ros.contract import DepthCloudObs, PointCloudObs, load_contract
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path
from difftop_ros.sim.cloud import depth_to_cloud, transform_points
from difftop_ros.sim.mujoco.expert import run_trial
from difftop_ros.sim.mujoco.panda import make_expert, make_world
from difftop_ros.sim.tasks import TASK_NAMES

ARM = """
<mujoco><compiler angle="radian"/><worldbody><light pos="0 0 3"/>
<camera name="side" pos="0 -2 .5" xyaxes="1 0 0 0 0 1"/>
<body name="a"><joint name="shoulder" axis="0 0 1" range="-1 1" limited="true"/>
<geom type="capsule" size=".05" fromto="0 0 0 .4 0 0"/>
<body pos=".4 0 0"><joint name="elbow" axis="0 0 1"/><geom type="capsule" size=".05" fromto="0 0 0 .4 0 0"/></body>
</body></worldbody><actuator>{actuators}</actuator></mujoco>
"""
SERVOS = '<position joint="shoulder" kp="50" kv="5" ctrlrange="-1 1"/><position joint="elbow" kp="50" kv="5"/>'


def state_after(task: str, seed: int) -> np.ndarray:
    world = make_world(task, disturbance=0.01)
    world.reset(5)
    world.step(world.joint_state()[0] + 0.1, 0.3)  # a reset must forget what was before it
    world.reset(seed)
    random = np.random.default_rng(0)
    for _ in range(20):
        world.step(world.joint_state()[0] + random.normal(0, 0.03, len(world.joint_names)), 0.05)
    return np.concatenate([world.data.qpos, world.data.qvel, [world.time]])


@pytest.mark.parametrize("task", TASK_NAMES)
def test_same_seed_and_commands_give_identical_states(task: str) -> None:
    np.testing.assert_array_equal(state_after(task, 3), state_after(task, 3))
    assert not np.array_equal(state_after(task, 3), state_after(task, 4))


@pytest.mark.parametrize("task", TASK_NAMES)
def test_the_expert_succeeds_and_a_still_arm_does_not(task: str) -> None:
    world = make_world(task)
    expert = make_expert(world)
    trials = [run_trial(world, expert, 1000 + seed) for seed in range(10)]
    assert sum(t.success for t in trials) >= 9, trials
    assert max(t.largest_change for t in trials) < 0.08  # rad per step of 0.05 s: well within 2.175 rad/s
    assert 15 <= np.median([t.steps for t in trials]) <= 110
    world.reset(1000)
    still = world.joint_state()[0]
    world.step(still, 3.0)
    assert not world.success()


def test_after_success_the_expert_holds_still() -> None:
    world = make_world("lift")
    expert = make_expert(world)
    run_trial(world, expert, 0, stay_steps=40)
    before = world.joint_state()[0]
    for _ in range(20):
        world.step(expert.act(), 0.05)
    assert world.success()
    assert np.abs(world.joint_state()[0] - before).max() < 0.01


def test_a_cube_thrown_up_is_not_lifted() -> None:
    world = make_world("lift")
    world.reset(0)
    world.data.qpos[world.model.jnt_qposadr[mujoco.mj_name2id(world.model, mujoco.mjtObj.mjOBJ_JOINT, "cube")] + 2] = (
        0.5
    )
    still = world.joint_state()[0]
    for _ in range(10):
        world.step(still, 0.02)
        assert not world.success()


def test_the_expert_recovers_from_disturbances() -> None:
    world = make_world("lift", disturbance=0.02)
    expert = make_expert(world)
    assert sum(run_trial(world, expert, seed).success for seed in range(5)) >= 4


def test_varied_starts_are_a_share_of_the_episodes_repeatable_and_solved_by_the_expert() -> None:
    world, usual = make_world("lift", varied_starts=0.5), make_world("lift")
    expert = make_expert(world)
    varied = []
    for seed in range(40):
        world.reset(seed)
        usual.reset(seed)
        np.testing.assert_allclose(world.scene.cube()[0], usual.scene.cube()[0], atol=1e-6)
        opening = world.joint_state()[0][-1]
        if not np.allclose(world.joint_state()[0], usual.joint_state()[0]):
            varied.append(seed)
            place, rotation = world.scene.tcp()
            assert 0.3 < place[0] < 0.66 and abs(place[1]) < 0.26 and 0.05 < place[2] < 0.34
            assert abs(rotation[2, 2]) > 0.95 and opening < 0.08
    assert 10 < len(varied) < 30
    first = run_trial(world, expert, varied[0])
    again = run_trial(world, expert, varied[0])
    assert first == again
    assert sum(run_trial(world, expert, seed).success for seed in varied[:8]) >= 7


def test_varied_starts_need_the_shipped_arm_and_a_share() -> None:
    with pytest.raises(UserError, match=r"varied_starts is 1\.5"):
        make_world("lift", varied_starts=1.5)


def test_starts_differ_and_stay_in_the_work_space() -> None:
    world = make_world("lift")
    cubes = []
    for seed in range(40):
        world.reset(seed)
        position, yaw, _ = world.scene.cube()
        cubes.append(position)
        assert abs(yaw) <= np.deg2rad(20.5)
    spread = np.ptp(np.array(cubes), axis=0)
    assert 0.15 < spread[0] <= 0.2 and 0.18 < spread[1] <= 0.24


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_clouds_lie_on_the_surfaces_that_rays_hit(camera: str) -> None:
    world = make_world("lift", width=160, height=120)
    world.reset(1)
    colour, depth = world.render(camera)
    assert colour.shape == (120, 160, 3) and colour.dtype == np.uint8 and colour.std() > 5
    pose = world.camera_pose(camera)
    points = transform_points(pose, depth_to_cloud(depth, world.intrinsics(camera)))
    origin = pose[:3, 3]
    errors = []
    for row, column in np.random.default_rng(0).integers([0, 0], [120, 160], (400, 2)):
        ray = points[row, column].astype(np.float64) - origin
        distance = np.linalg.norm(ray)
        hit = np.zeros(1, np.int32)
        visible = np.array([1, 1, 1, 0, 0, 0], np.uint8)
        found = mujoco.mj_ray(world.model, world.data, origin, ray / distance, visible, 1, -1, hit)
        if 0 < found < 3:
            errors.append(abs(found - distance))
    world.close()
    assert len(errors) > 200
    assert np.median(errors) < 1e-3  # [m]


def test_the_cube_is_seen_red_where_it_lies() -> None:
    world = make_world("lift", width=320, height=240)
    for seed in range(6):
        world.reset(seed)
        colour, depth = world.render("front")
        colour = colour.astype(int)
        red = (colour[..., 0] > 90) & (colour[..., 1] < 60) & (colour[..., 2] < 60)
        points = transform_points(world.camera_pose("front"), depth_to_cloud(depth, world.intrinsics("front")))[red]
        assert red.sum() > 100
        assert np.linalg.norm(points.mean(0)[:2] - world.scene.cube()[0][:2]) < 0.02
    world.close()


def test_the_demo_contract_knows_where_the_front_camera_is() -> None:
    contract = load_contract(share_path("config/panda_table.yaml"))
    world = make_world("lift")
    assert list(world.joint_names) == contract.command.joint_names
    cloud = contract.observations["cloud"]
    assert isinstance(cloud, (DepthCloudObs, PointCloudObs)) and cloud.transform is not None
    transform = cloud.transform
    x, y, z, w = transform.quat_xyzw
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, np.array([w, x, y, z]))
    pose = world.camera_pose("front")
    np.testing.assert_allclose(rotation.reshape(3, 3), pose[:3, :3], atol=1e-5)
    np.testing.assert_allclose(transform.xyz, pose[:3, 3], atol=1e-6)


def test_any_model_by_path(tmp_path: Path) -> None:
    file = tmp_path / "arm.xml"
    file.write_text(ARM.format(actuators=SERVOS))
    world = make_world("none", model_path=file)
    assert world.joint_names == ("shoulder", "elbow") and world.cameras == ("side",)
    world.step(np.array([0.4, -0.3]), 8.0)
    np.testing.assert_allclose(world.joint_state()[0], [0.4, -0.3], atol=5e-3)
    assert not world.success()


@pytest.mark.parametrize(
    "options,words",
    [
        ({"task": "dance"}, ["dance", "lift"]),
        ({"task": "lift", "model": SERVOS}, ["tcp", "cube", "'none'"]),
        ({"task": "none", "model": '<motor joint="elbow"/>'}, ["elbow", "<position"]),
        ({"task": "none", "model": ""}, ["no actuator"]),
        ({"task": "none", "model": "<nonsense/>"}, ["cannot be read"]),
        ({"task": "none", "model_path": "/does/not/exist.xml"}, ["does not exist"]),
        ({"task": "lift", "width": 0}, ["0x120"]),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, options: dict[str, Any], words: list[str]
) -> None:
    if "model" in options:
        (tmp_path / "m.xml").write_text(ARM.format(actuators=options.pop("model")))
        options["model_path"] = tmp_path / "m.xml"
    with pytest.raises(UserError) as caught:
        make_world(**options)
    assert all(w in str(caught.value) for w in words), caught.value
    assert "\n" not in str(caught.value)


def test_bad_commands_simulate_nothing() -> None:
    world = make_world("reach")
    before = world.time
    for bad in (np.zeros(7), np.full(8, np.nan)):
        with pytest.raises(UserError):
            world.step(bad, 0.05)
    assert world.time == before


def test_time_is_kept_over_many_uneven_steps() -> None:
    world = make_world("reach")
    still = world.joint_state()[0]
    for _ in range(300):
        world.step(still, 1 / 30)
    assert world.time == pytest.approx(10.0, abs=2.1e-3)
