"""The robot's model: kinematics against MuJoCo's, spheres that hold the robot, derivatives, and what is refused."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
import yaml

from difftop_ros.contract import load_contract
from difftop_ros.costs import RobotModel, RobotModelError, Spheres
from difftop_ros.paths import share_path
from difftop_ros.sim.mujoco.spheres import cover

PANDA = share_path("models/panda_table/panda.xml")
JOINTS = load_contract(share_path("config/panda_table.yaml")).command.joint_names
COUPLING = {"panda_gripper": {"panda_finger_joint1": 0.5, "panda_finger_joint2": 0.5}}
URDF = """<?xml version="1.0" encoding="utf-8"?>
<robot name="two"><link name="base"/><link name="upper"/><link name="tip"/>
<joint name="a" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
<limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
<joint name="b" type="revolute"><parent link="upper"/><child link="tip"/><origin xyz="1 0 0"/><axis xyz="0 0 1"/>
<limit lower="-2" upper="2" effort="1" velocity="1"/></joint></robot>"""


@pytest.fixture(scope="module")
def spheres(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spheres") / "spheres.yaml"
    path.write_text(yaml.safe_dump(cover(PANDA, 40)))
    return path


def random_positions(count: int) -> np.ndarray:
    """Joint positions (count, 8) within the limits."""
    bounds = load_contract(share_path("config/panda_table.yaml")).command.bounds()
    return np.random.default_rng(0).uniform(*bounds, (count, len(JOINTS)))


def in_mujoco(model: mujoco.MjModel, positions: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(model)
    for name, value in zip(JOINTS, positions, strict=True):
        for joint, ratio in COUPLING.get(name, {name: 1.0}).items():
            data.qpos[model.joint(joint).qposadr[0]] = ratio * value
    mujoco.mj_kinematics(model, data)
    return data


def test_every_link_is_where_mujoco_has_it() -> None:
    robot = RobotModel(PANDA, JOINTS, COUPLING)
    model = mujoco.MjModel.from_xml_path(str(PANDA))
    positions = random_positions(20)
    found = robot.transforms(torch.tensor(positions, dtype=torch.float32))
    for row, q in enumerate(positions):
        data = in_mujoco(model, q)
        for frame in robot.frames:
            body = data.site(frame) if frame == "tcp" else data.body(frame)
            transform = found[row, robot.frames.index(frame)].numpy()
            np.testing.assert_allclose(transform[:3, 3], body.xpos, atol=2e-6)
            if frame != "tcp":
                np.testing.assert_allclose(transform[:3, :3], body.xmat.reshape(3, 3), atol=2e-6)


def test_urdf_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "two.urdf"
    path.write_text(URDF)
    robot = RobotModel(path, ["b", "a"])
    tip = robot.pose(torch.tensor([[0.3, 0.5]]), "tip")
    np.testing.assert_allclose(tip[0, :2, 3].numpy(), [np.cos(0.5), np.sin(0.5)], atol=1e-6)
    np.testing.assert_allclose(tip[0, 0, 0], np.cos(0.8), atol=1e-6)


def test_the_spheres_hold_every_moving_shape(spheres: Path) -> None:
    robot = RobotModel(PANDA, JOINTS, COUPLING, Spheres.load(spheres))
    assert len(robot.radii) == 40 and float(robot.radii.max()) < 0.08
    model = mujoco.MjModel.from_xml_path(str(PANDA))
    (q,) = random_positions(1)
    data = in_mujoco(model, q)
    centres = robot.sphere_centres(torch.tensor(q, dtype=torch.float32)).numpy()
    rng = np.random.default_rng(1)
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_BOX or not model.body_weldid[body]:
            continue
        corner = rng.choice([-1, 1], (8, 3)) * model.geom_size[geom]
        points = corner @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
        beyond = np.linalg.norm(points[:, None] - centres[None], axis=2) - robot.radii.numpy()
        assert beyond.min(1).max() < 0.004, model.body(body).name


def test_derivatives_of_the_spheres_are_those_of_differences(spheres: Path) -> None:
    robot = RobotModel(PANDA, JOINTS, COUPLING, Spheres.load(spheres)).to("cpu", torch.float64)
    q = torch.tensor(random_positions(2), requires_grad=True)

    def height(positions: torch.Tensor) -> torch.Tensor:
        return robot.sphere_centres(positions)[..., 2].square().sum((-1, -2))

    assert torch.autograd.gradcheck(height, (q,), atol=1e-6)
    assert torch.autograd.gradgradcheck(height, (q,), atol=1e-6)


REFUSED = [
    (lambda path: RobotModel(path / "none.xml", ["a"]), "cannot be read"),
    (lambda path: RobotModel(PANDA, ["panda_gripper"]), "no joint 'panda_gripper'.*robot.coupling"),
    (lambda path: RobotModel(PANDA, JOINTS, COUPLING, written(path, {"hand": [[0, 0, 0, 1]]})), "no frame 'hand'"),
    (lambda path: written(path, {"panda_hand": [[0, 0, 0, 0]]}), "radius 0"),
    (lambda path: written(path, {"panda_hand": [[0, 0]]}), "expected"),
    (lambda path: RobotModel(PANDA, JOINTS, COUPLING).sphere_centres(torch.zeros(8)), "no collision spheres"),
]


def written(folder: Path, data: dict[str, object]) -> Spheres:
    (folder / "spheres.yaml").write_text(yaml.safe_dump(data))
    return Spheres.load(folder / "spheres.yaml")


@pytest.mark.parametrize(("make", "says"), REFUSED, ids=[says[:20] for _, says in REFUSED])
def test_what_cannot_be_is_refused_in_a_sentence(make, says: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RobotModelError, match=says):
        make(tmp_path)
