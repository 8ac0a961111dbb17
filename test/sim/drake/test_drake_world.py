"""The engine drake runs Gazebo's world: the same masses, shapes, starts and pictures as MuJoCo's, and the same task."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from difftop_ros.contract import load_contract
from difftop_ros.paths import share_path
from difftop_ros.sim import make_expert, make_world
from difftop_ros.sim.errors import SimError

pytest.importorskip("pydrake", reason="the extra [drake] is not installed")
HOME_TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def world() -> Any:
    made = make_world("drake/lift")
    yield made
    made.close()


@pytest.fixture(scope="module")
def other() -> Any:
    made = make_world("lift")
    yield made
    made.close()


def test_joints_limits_and_inertia_are_mujocos(world: Any, other: Any) -> None:
    assert world.joint_names == other.joint_names
    for mine, theirs in zip(world.limits, other.limits, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-8)
    plant, context, robot = world._stage.plant, world._stage.context, world._stage.robot
    bare = mujoco.MjModel.from_xml_path(str(share_path("models/panda_table/scene.xml")))
    bare.dof_armature[:] = 0  # Gazebo has no rotors
    data, random = mujoco.MjData(bare), np.random.default_rng(1)
    names = list(world._parts)
    for _ in range(4):
        for name, joint in zip(names, world._joints, strict=True):
            value = random.uniform(*bare.joint(name).range)
            data.qpos[bare.joint(name).qposadr] = value
            position = plant.GetPositions(context)
            position[joint.position_start()] = value
            plant.SetPositions(context, position)
        mujoco.mj_forward(bare, data)
        full = np.zeros((bare.nv, bare.nv))
        mujoco.mj_fullM(bare, full, data.qM)
        mine = plant.CalcMassMatrix(context)[np.ix_(world._speeds, world._speeds)]
        np.testing.assert_allclose(mine, full[:9, :9], atol=1e-6)
        np.testing.assert_allclose(world.scene.tcp()[0], data.site("tcp").xpos, atol=1e-7)
    mass = sum(plant.get_body(i).get_mass(context) for i in plant.GetBodyIndices(robot))
    assert mass == pytest.approx(sum(bare.body_mass[bare.body(n).id] for n in _bodies(bare)), abs=1e-6)


def _bodies(model: Any) -> list[str]:
    return [model.body(i).name for i in range(1, model.nbody) if model.body(i).name.startswith("panda")]


def test_solid_shapes_are_mujocos(world: Any) -> None:
    from pydrake.geometry import Box, Capsule, Cylinder, Role

    inspector, plant = world._stage.scene.model_inspector(), world._stage.plant
    found = []
    for geometry in inspector.GetAllGeometryIds(Role.kProximity):
        shape, pose = inspector.GetShape(geometry), inspector.GetPoseInFrame(geometry)
        body = plant.GetBodyFromFrameId(inspector.GetFrameId(geometry)).name()
        size = {
            Box: lambda s: (s.width() / 2, s.depth() / 2, s.height() / 2),
            Capsule: lambda s: (s.radius(), s.length() / 2, 0),
            Cylinder: lambda s: (s.radius(), s.length() / 2, 0),
        }[type(shape)](shape)
        found.append((body, type(shape).__name__.lower(), *size, *pose.translation()))
    model = mujoco.MjModel.from_xml_path(str(share_path("models/panda_table/scene.xml")))
    kinds = {mujoco.mjtGeom.mjGEOM_BOX: "box", mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule"}
    kinds[mujoco.mjtGeom.mjGEOM_CYLINDER] = "cylinder"
    wanted = []
    for g in range(model.ngeom):
        if not (model.geom_contype[g] or model.geom_conaffinity[g]):
            continue
        name = model.body(model.geom_bodyid[g]).name
        kind = kinds[int(model.geom_type[g])]
        size = model.geom_size[g] if kind == "box" else (*model.geom_size[g][:2], 0)
        wanted.append(("link" if name == "world" else name, kind, *size, *model.geom_pos[g]))
    np.testing.assert_allclose(
        np.array([row[2:] for row in sorted(found)]), np.array([row[2:] for row in sorted(wanted)]), atol=1e-6
    )
    assert [row[:2] for row in sorted(found)] == [row[:2] for row in sorted(wanted)]


def test_it_starts_as_mujoco_does_and_holds(world: Any, other: Any) -> None:
    for seed in (0, 7):
        world.reset(seed)
        other.reset(seed)
        start = world.joint_state()[0]
        np.testing.assert_allclose(start, other.joint_state()[0], atol=HOME_TOLERANCE)
        np.testing.assert_allclose(world.scene.cube()[0], other.scene.cube()[0], atol=1e-3)
        cube = world.scene.cube()[0]
        world.step(start, 1.0)
        np.testing.assert_allclose(world.joint_state()[0], start, atol=HOME_TOLERANCE)
        np.testing.assert_allclose(world.scene.cube()[0], cube, atol=1e-4)
        assert world.time == pytest.approx(1.0, abs=1e-6) and not world.success()


def test_it_follows_a_command_with_mujocos_lag(world: Any, other: Any) -> None:
    for engine in (world, other):
        engine.reset(3)
    target = world.joint_state()[0] + np.array([0.03, 0.015, -0.03, 0.015, 0.03, -0.03, 0.03, -0.02])
    for _ in range(6):
        for engine in (world, other):
            engine.step(target, 0.05)
        moved = [engine.joint_state()[0][:7] for engine in (world, other)]
        np.testing.assert_allclose(*moved, atol=0.006)  # a fifth of the way


def test_the_same_commands_give_the_same_states(world: Any) -> None:
    random, seen = np.random.default_rng(5), []
    moves = random.uniform(-0.05, 0.05, (10, 8))
    for _ in range(2):
        world.reset(11)
        for move in moves:
            world.step(world.joint_state()[0] + move, 0.05)
        seen.append(np.concatenate([world.joint_state()[0], world.scene.cube()[0]]))
    np.testing.assert_array_equal(*seen)


DRAW = """
import sys, numpy as np
from difftop_ros.sim import make_world
world = make_world(sys.argv[1])
world.reset(4)
out = {}
for camera in ("front", "wrist"):
    out[camera + "_rgb"], out[camera + "_depth"] = world.render(camera)
    out[camera + "_k"], out[camera + "_pose"] = world.intrinsics(camera), world.camera_pose(camera)
np.savez(sys.argv[2], **out)
"""


def test_both_cameras_see_what_mujocos_see(tmp_path: Path) -> None:
    """In a process each: two engines do not share OpenGL."""
    drawn = []
    for task in ("lift", "drake/lift"):
        file = tmp_path / f"{len(drawn)}.npz"
        subprocess.run([sys.executable, "-c", DRAW, task, str(file)], check=True, timeout=100)
        drawn.append(np.load(file))
    theirs, mine = drawn
    for camera in ("front", "wrist"):
        np.testing.assert_allclose(mine[f"{camera}_k"], theirs[f"{camera}_k"], atol=1e-4)
        np.testing.assert_allclose(mine[f"{camera}_pose"], theirs[f"{camera}_pose"], atol=1e-4)
        near = theirs[f"{camera}_depth"] < 3.0
        off = np.abs(mine[f"{camera}_depth"] - theirs[f"{camera}_depth"])[near]
        assert np.median(off) < 1e-4
        assert np.mean(off > 0.005) < 0.005  # but for pixels on an edge
        table = mine[f"{camera}_rgb"][-20:].reshape(-1, 3).astype(float)
        np.testing.assert_allclose(
            np.median(table, 0), np.median(theirs[f"{camera}_rgb"][-20:].reshape(-1, 3), 0), atol=12
        )


def test_what_it_does_not_have_is_refused() -> None:
    for task, options, message in (
        ("drake/push", {}, "marker 'target_disc'"),
        ("drake/juggle", {}, "unknown"),
        ("drake/lift", {"disturbance": 0.1}, "engine drake has no disturbance"),
        ("drake/lift", {"model_path": share_path("models/panda_table/scene.xml")}, "has no <world>"),
        ("drake/lift", {"model_path": "/no/such.sdf"}, "cannot be read"),
        ("drake/lift", {"model_path": share_path("config/gazebo/table.sdf")}, "has 0 models"),
    ):
        with pytest.raises(SimError, match=message):
            make_world(task, **options)


def test_it_has_no_expert(world: Any) -> None:
    with pytest.raises(SimError, match="no scripted expert"):
        make_expert(world)
    with pytest.raises(SimError, match="expected 8 finite numbers"):
        world.step(np.full(8, np.nan), 0.05)
    with pytest.raises(SimError, match="camera 'sky' is not in the world"):
        world.render("sky")


def test_the_shipped_policy_lifts_the_cube_in_it() -> None:
    """Under Gazebo's contract: fingers by name, a cloud of depth and colour."""
    from difftop_ros.learning.evaluate import evaluate
    from difftop_ros.policies import load_policy
    from difftop_ros.sim.robot import SimulatedRobot

    policy = load_policy(share_path("models/panda_lift"), "cpu")
    robot = SimulatedRobot(load_contract(share_path("config/panda_gazebo.yaml")), "drake/lift")
    try:
        found = evaluate(policy, robot, [1_000_001, 1_000_002])
    finally:
        robot.close()
    assert found.successes >= 1, found.outcomes
