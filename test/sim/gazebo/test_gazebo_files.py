"""config/gazebo: fresh, read by libsdformat without a word, the MuJoCo model's, and bridged as the contract says."""

from __future__ import annotations

import ctypes
import ctypes.util
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import yaml

from difftop_ros.contract import DepthCloudObs, load_contract
from difftop_ros.messages.coupling import sent_names
from difftop_ros.messages.types import rosbags_types
from difftop_ros.nodes.launching import with_share_paths
from difftop_ros.paths import share_path
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.gazebo import __main__ as gazebo
from difftop_ros.sim.gazebo.describe import describe
from difftop_ros.sim.gazebo.topics import GZ_TYPES
from difftop_ros.sim.mujoco.panda import SCENE

FOLDER = share_path("config/gazebo")
WORLDS = ("table.sdf", "panda_table.sdf")


@pytest.fixture(scope="module")
def contract() -> Any:
    return load_contract(share_path(gazebo.CONTRACT))


@pytest.fixture(scope="module")
def model() -> Any:
    return mujoco.MjModel.from_xml_path(str(share_path(SCENE)))


def test_the_files_are_those_that_the_model_gives() -> None:
    assert gazebo.main(["--check"]) == 0


def test_a_stale_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gazebo.main(["--out", str(tmp_path)]) == 0
    (tmp_path / "table.sdf").write_text("<sdf/>")
    assert gazebo.main(["--out", str(tmp_path), "--check"]) == 1
    assert "stale: ['table.sdf']" in capsys.readouterr().out


@pytest.mark.parametrize("name", WORLDS)
def test_libsdformat_reads_the_world_without_a_warning(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = ctypes.util.find_library("sdformat12")
    if found is None:
        pytest.skip("libsdformat is not installed (apt install libsdformat-dev)")
    assert ctypes.CDLL(found).cmdCheck(str(FOLDER / name).encode()) == 0
    out, err = capfd.readouterr()
    assert (out.strip(), err) == ("Valid.", "")


def test_the_urdf_is_the_model_of_mujoco(model: Any) -> None:
    """MuJoCo reads the URDF back: limits, masses, inertias, and where the tool is at random poses."""
    urdf = mujoco.MjModel.from_xml_string((FOLDER / "panda.urdf").read_text())
    random = np.random.default_rng(0)
    names = [urdf.joint(i).name for i in range(urdf.njnt)]
    assert names == [f"panda_joint{i}" for i in range(1, 8)] + ["panda_finger_joint1", "panda_finger_joint2"]
    here, there = mujoco.MjData(model), mujoco.MjData(urdf)
    bare = mujoco.MjModel.from_xml_path(str(share_path(SCENE)))
    bare.dof_armature[:] = 0
    for name in names:
        np.testing.assert_allclose(urdf.joint(name).range, model.joint(name).range, atol=1e-8)
    for _ in range(5):
        for name in names:
            value = random.uniform(*model.joint(name).range)
            here.qpos[model.joint(name).qposadr], there.qpos[urdf.joint(name).qposadr] = value, value
        mujoco.mj_forward(bare, here)
        mujoco.mj_forward(urdf, there)
        for link in ("panda_link4", "panda_leftfinger"):
            np.testing.assert_allclose(there.body(link).xpos, here.body(link).xpos, atol=1e-7)
        mass = [np.zeros((m.nv, m.nv)) for m in (bare, urdf)]
        for m, d, matrix in zip((bare, urdf), (here, there), mass, strict=True):
            mujoco.mj_fullM(m, matrix, d.qM)
        np.testing.assert_allclose(mass[1], mass[0][:9, :9], atol=1e-6)


def test_controllers_command_what_the_contract_sends(contract: Any) -> None:
    root = ET.fromstring((FOLDER / "panda.urdf").read_text())
    commanded = [j.get("name") for j in root.findall("ros2_control/joint") if j.find("command_interface") is not None]
    settings = yaml.safe_load((FOLDER / "controllers.yaml").read_text())
    name, rest = contract.command.topic.split("/")
    assert rest == "joint_trajectory"
    assert settings["controller_manager"]["ros__parameters"][name]["type"].endswith("JointTrajectoryController")
    sent = sent_names(contract.command.joint_names, contract.command.coupling)
    assert settings[name]["ros__parameters"]["joints"] == commanded == sent
    world = ET.parse(FOLDER / "panda_table.sdf").getroot()
    plugin = world.find(".//plugin[@name='gz::sim::systems::JointTrajectoryController']")
    assert [e.text for e in plugin.findall("joint_name")] == sent


def test_limits_are_those_of_the_demos_contract(contract: Any) -> None:
    demo = load_contract(share_path("config/panda_table.yaml"))
    assert contract.command.joints == demo.command.joints
    trained = load_contract(share_path("models/panda_lift/contract.yaml"))
    assert contract.incompatibilities(trained) == []


def test_the_plugins_file_is_found_where_the_package_is() -> None:
    root = ET.fromstring(with_share_paths((FOLDER / "panda.urdf").read_text()))
    path = root.findtext("gazebo/plugin/parameters") or ""
    assert yaml.safe_load(Path(path).read_text()).keys() == {"controller_manager", "joint_trajectory_controller"}


@pytest.mark.parametrize(("name", "world"), [("bridge.yaml", "table.sdf"), ("bridge_light.yaml", "panda_table.sdf")])
def test_the_bridge_joins_topics_that_both_sides_have(name: str, world: str, contract: Any) -> None:
    entries = yaml.safe_load((FOLDER / name).read_text())
    root = ET.parse(FOLDER / world).getroot()
    light = world == "panda_table.sdf"
    scene = root.find("world").get("name")
    offered = {"/clock"} | (
        {"/model/robot/joint_trajectory", f"/world/{scene}/model/robot/joint_state"} if light else set()
    )
    sensors = [*root.iter("sensor"), *ET.parse(FOLDER / "panda.urdf").getroot().iter("sensor")]
    for sensor in sensors:
        for part in ("image", "depth_image", "points", "camera_info"):
            offered.add(f"/{sensor.findtext('topic')}/{part}")
    for entry in entries:
        assert entry["gz_topic_name"] in offered
        assert GZ_TYPES[entry["ros_type_name"]] == entry["gz_type_name"]
        assert rosbags_types(entry["ros_type_name"])() is not None
        assert entry["direction"] == ("ROS_TO_GZ" if entry["ros_type_name"].endswith("Trajectory") else "GZ_TO_ROS")
    bridged = {entry["ros_topic_name"]: entry["ros_type_name"] for entry in entries}
    wanted = {t: k for o in contract.observations.values() for t, k in o.topics.items()}
    wanted[contract.command.topic] = contract.command.type
    if not light:  # these two are ros2_control's
        wanted = {t: k for t, k in wanted.items() if t not in ("joint_states", contract.command.topic)}
    assert wanted.items() <= bridged.items()


def test_the_contracts_camera_is_where_the_world_has_it(contract: Any, model: Any) -> None:
    from difftop_ros.sim.drake.read import read_world

    camera = read_world(FOLDER / "panda_table.sdf").cameras["front"]
    cloud = contract.observations["cloud"]
    assert isinstance(cloud, DepthCloudObs)
    np.testing.assert_allclose(camera.link_from_optical[:3, 3], cloud.transform.xyz, atol=1e-6)
    np.testing.assert_allclose(camera.link_from_optical[:3, :3], cloud.transform.rotation, atol=1e-5)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.cam("front").xpos, cloud.transform.xyz, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<joint type="ball"/><geom size=".1"/>', "neither a hinge nor a slide"),
        ('<joint axis="1 0 0"/><joint axis="0 1 0"/><geom size=".1"/>', "has 2 joints"),
        ('<joint pos="0 0 1"/><geom size=".1"/>', "does not lie in the origin"),
        ('<joint/><geom type="ellipsoid" size=".1 .1 .2"/>', "no box, cylinder, capsule, sphere or plane"),
    ],
)
def test_what_other_formats_lack_is_refused(body: str, message: str) -> None:
    text = f'<mujoco><worldbody><body name="b">{body}</body></worldbody></mujoco>'
    with pytest.raises(SimError, match=message):
        describe(mujoco.MjModel.from_xml_string(text), "odd")
