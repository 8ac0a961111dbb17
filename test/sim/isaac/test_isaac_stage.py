"""config/isaac: fresh; the stage opens and is the MuJoCo model's; the graph's names are those of Isaac Sim's nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from difftop_ros.contract import load_contract
from difftop_ros.paths import share_path
from difftop_ros.sim.isaac import graph as graphs
from difftop_ros.sim.mujoco.panda import SCENE

pytest.importorskip("pxr", reason="the extra [isaac] (usd-core) is not installed")
from pxr import Usd, UsdGeom, UsdPhysics

from difftop_ros.sim.isaac import __main__ as isaac
from difftop_ros.sim.isaac import stage as stages

FOLDER = share_path("config/isaac")
# type -> inputs and outputs that are used here, as the nodes' own descriptions have them (5.1 and 6.x)
PORTS = {
    "omni.graph.action.OnPlaybackTick": (set(), {"tick"}),
    "isaacsim.core.nodes.IsaacReadSimulationTime": (set(), {"simulationTime"}),
    "isaacsim.ros2.bridge.ROS2Context": ({"useDomainIDEnvVar"}, {"context"}),
    "isaacsim.ros2.bridge.ROS2PublishClock": ({"execIn", "timeStamp", "context", "topicName"}, set()),
    "isaacsim.ros2.bridge.ROS2PublishJointState": (
        {"execIn", "timeStamp", "context", "topicName", "targetPrim", "jointNames", "jointPositions", "jointVelocities",
         "jointEfforts"}, set()),
    "isaacsim.ros2.bridge.ROS2SubscribeJointState": (
        {"execIn", "context", "topicName"}, {"jointNames", "positionCommand", "velocityCommand"}),
    "isaacsim.core.nodes.IsaacArticulationController": (
        {"execIn", "robotPath", "jointNames", "positionCommand", "velocityCommand"}, set()),
    "isaacsim.sensors.physics.IsaacReadJointState": (
        {"execIn", "prim"}, {"jointNames", "jointPositions", "jointVelocities", "jointEfforts"}),
    "isaacsim.core.nodes.IsaacCreateRenderProduct": (
        {"execIn", "cameraPrim", "width", "height"}, {"execOut", "renderProductPath"}),
    "isaacsim.ros2.bridge.ROS2CameraHelper": (
        {"execIn", "context", "topicName", "frameId", "type", "renderProductPath"}, set()),
    "isaacsim.ros2.bridge.ROS2CameraInfoHelper": (
        {"execIn", "context", "topicName", "frameId", "renderProductPath"}, set()),
}  # fmt: skip


@pytest.fixture(scope="module")
def stage() -> Any:
    return Usd.Stage.Open(str(FOLDER / "panda_table.usda"))


@pytest.fixture(scope="module")
def model() -> Any:
    return mujoco.MjModel.from_xml_path(str(share_path(SCENE)))


def test_the_files_are_those_that_the_model_gives(tmp_path: Path) -> None:
    assert isaac.main(["--check"]) == 0
    assert isaac.main(["--out", str(tmp_path), "--check"]) == 1


def test_bodies_have_mujocos_masses_and_places(stage: Any, model: Any) -> None:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    cache = UsdGeom.XformCache()
    names = [model.body(i).name for i in range(1, model.nbody) if model.body(i).name != "target"]
    for name in names:
        prim = stage.GetPrimAtPath(f"{stages.THINGS if name == 'cube' else stages.ROBOT}/{name}")
        assert prim.HasAPI(UsdPhysics.RigidBodyAPI), name
        mass = UsdPhysics.MassAPI(prim)
        body = model.body(name)
        assert mass.GetMassAttr().Get() == pytest.approx(body.mass[0], rel=1e-6)
        np.testing.assert_allclose(mass.GetCenterOfMassAttr().Get(), body.ipos, atol=1e-6)
        np.testing.assert_allclose(sorted(mass.GetDiagonalInertiaAttr().Get()), sorted(body.inertia), rtol=1e-5)
        turn = mass.GetPrincipalAxesAttr().Get()
        axes = np.array(Usd.Stage and _matrix(turn))
        inertia = axes @ np.diag(mass.GetDiagonalInertiaAttr().Get()) @ axes.T
        mine = np.array(_matrix_of(body.iquat)) @ np.diag(body.inertia) @ np.array(_matrix_of(body.iquat)).T
        np.testing.assert_allclose(inertia, mine, atol=1e-6)
        world = np.array(cache.GetLocalToWorldTransform(prim)).T
        np.testing.assert_allclose(world[:3, 3], data.body(name).xpos, atol=1e-6)
        np.testing.assert_allclose(world[:3, :3], data.body(name).xmat.reshape(3, 3), atol=1e-6)


def _matrix(quat: Any) -> np.ndarray:
    return _matrix_of([quat.GetReal(), *quat.GetImaginary()])


def _matrix_of(quat: Any) -> np.ndarray:
    flat = np.empty(9)
    mujoco.mju_quat2Mat(flat, np.asarray(quat, float))
    return flat.reshape(3, 3)


def test_joints_have_mujocos_limits_and_servos(stage: Any, model: Any) -> None:
    for i in range(model.njnt):
        joint = model.joint(i)
        if joint.name == "cube":
            continue
        prim = stage.GetPrimAtPath(f"{stages.ROBOT}/joints/{joint.name}")
        slides = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE
        made = UsdPhysics.PrismaticJoint(prim) if slides else UsdPhysics.RevoluteJoint(prim)
        unit = 1.0 if slides else np.degrees(1.0)
        ends = made.GetLowerLimitAttr().Get(), made.GetUpperLimitAttr().Get()
        np.testing.assert_allclose(np.array(ends) / unit, joint.range, atol=1e-6)
        kind = "linear" if slides else "angular"
        drive = UsdPhysics.DriveAPI(prim, kind)
        assert drive.GetMaxForceAttr().Get() > 0 and drive.GetStiffnessAttr().Get() > 0
        child = stage.GetPrimAtPath(made.GetBody1Rel().GetTargets()[0])
        assert child.GetName() == model.body(joint.bodyid[0]).name
        axis = _matrix(made.GetLocalRot1Attr().Get())[:, 2]
        np.testing.assert_allclose(axis, joint.axis, atol=1e-6)
        # the frames of both sides meet: the stage stands at the joint's zero
        above = model.body(model.body(joint.bodyid[0]).parentid[0]).name
        assert made.GetBody0Rel().GetTargets()[0].name == above
    servo = UsdPhysics.DriveAPI(stage.GetPrimAtPath(f"{stages.ROBOT}/joints/panda_joint1"), "angular")
    assert servo.GetStiffnessAttr().Get() == pytest.approx(4500 / np.degrees(1.0), rel=1e-6)
    assert stage.GetPrimAtPath(stages.ROBOT).HasAPI(UsdPhysics.ArticulationRootAPI)
    base = UsdPhysics.FixedJoint(stage.GetPrimAtPath(f"{stages.ROBOT}/joints/panda_link0_mount"))
    assert not base.GetBody0Rel().GetTargets()  # to the world


def test_solid_shapes_are_mujocos(stage: Any, model: Any) -> None:
    solid = [p for p in stage.Traverse() if p.HasAPI(UsdPhysics.CollisionAPI)]
    assert len(solid) == sum(bool(model.geom_contype[g] or model.geom_conaffinity[g]) for g in range(model.ngeom))
    cube = UsdGeom.Cube(stage.GetPrimAtPath(f"{stages.THINGS}/cube/cube"))
    box = UsdGeom.Imageable(cube).ComputeUntransformedBound(0, "default").ComputeAlignedRange()
    world = UsdGeom.Imageable(cube).ComputeWorldBound(0, "default").ComputeAlignedRange().GetSize()
    assert box.GetSize()[0] == pytest.approx(1.0)
    np.testing.assert_allclose(world, [0.04] * 3, atol=1e-6)


def test_cameras_see_what_the_contract_says(stage: Any, model: Any) -> None:
    contract = load_contract(share_path(isaac.CONTRACT))
    transform = contract.observations["cloud"].transform
    camera = UsdGeom.Camera(stage.GetPrimAtPath(f"{stages.CAMERAS}/front"))
    world = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(camera.GetPrim())).T
    np.testing.assert_allclose(world[:3, 3], transform.xyz, atol=1e-6)
    np.testing.assert_allclose(world[:3, :3] @ np.diag([1, -1, -1]), transform.rotation, atol=1e-5)
    view = np.degrees(2 * np.arctan(camera.GetVerticalApertureAttr().Get() / 2 / camera.GetFocalLengthAttr().Get()))
    assert view == pytest.approx(float(model.cam_fovy[model.camera("front").id]), abs=1e-4)
    assert set(stages.camera_paths(isaac.scene())) == {"front", "wrist"}


@pytest.mark.parametrize("version", graphs.VERSIONS)
def test_the_graph_joins_ports_that_exist_and_topics_of_the_contract(version: int, stage: Any) -> None:
    graph = json.loads((FOLDER / f"graph_{version}.json").read_text())
    nodes = graph["nodes"]

    def port(place: str, side: str) -> tuple[str, str]:
        node, _, name = place.partition(f".{side}:")
        return nodes[node], name

    fed = [port(end, "inputs") for _, end in graph["connect"]]
    for kind, name in [*fed, *(port(p, "inputs") for p in [*graph["values"], *graph["targets"]])]:
        assert name in PORTS[kind][0], (kind, name)
    for begin, _ in graph["connect"]:
        kind, name = port(begin, "outputs")
        assert name in PORTS[kind][1], (kind, name)
    assert len({end for _, end in graph["connect"]}) == len(graph["connect"])  # a port is fed once
    for prims in graph["targets"].values():
        assert all(stage.GetPrimAtPath(prim).IsValid() for prim in prims)
    needs_tick = {n for n, kind in nodes.items() if "execIn" in PORTS[kind][0]}
    assert needs_tick == {end.partition(".")[0] for _, end in graph["connect"] if end.endswith("inputs:execIn")}
    topics = {value for place, value in graph["values"].items() if place.endswith("topicName")}
    contract = load_contract(share_path(isaac.CONTRACT))
    wanted = {topic for obs in contract.observations.values() for topic in obs.topics}
    assert wanted | {contract.command.topic, "/clock"} <= topics
    assert ("joints" in nodes) == (version >= 6)


def test_the_contract_is_the_demos_but_for_its_topics() -> None:
    contract = load_contract(share_path(isaac.CONTRACT))
    assert contract.incompatibilities(load_contract(share_path("models/panda_lift/contract.yaml"))) == []
    assert contract.command.joints == load_contract(share_path("config/panda_table.yaml")).command.joints


def test_the_script_inside_isaac_needs_nothing_but_what_lies_beside_it() -> None:
    import ast

    tree = ast.parse((FOLDER / "standalone.py").read_text())
    modules = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert modules <= {"argparse", "json", "sys", "pathlib", "typing", "isaacsim", "omni", "usdrt"}
    first = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "main")
    lines = ast.unparse(first).splitlines()
    app = next(i for i, line in enumerate(lines) if "SimulationApp(" in line)
    assert not any("import omni" in line for line in lines[:app])  # Isaac Sim's own come after it
