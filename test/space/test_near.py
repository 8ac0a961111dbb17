"""Distances to what is around, swept motion, and which points of a cloud are in the way."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from difftop_ros.contract import Contract
from difftop_ros.contract.shapes import SHAPES
from difftop_ros.contract.surroundings import Surroundings
from difftop_ros.errors import UserError
from difftop_ros.space import Body, Spheres, body_of
from difftop_ros.space.near import Scene, first_touch, shape_distance
from difftop_ros.space.sight import Sight, StaleCloud

CART = """<robot name="cart"><link name="world"/><link name="x"/><link name="tip"/>
<joint name="x" type="prismatic"><parent link="world"/><child link="x"/><axis xyz="1 0 0"/></joint>
<joint name="y" type="prismatic"><parent link="x"/><child link="tip"/><axis xyz="0 1 0"/></joint></robot>"""


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """A ball of 5 cm moved in the plane by two joints; a camera 1 m above the origin."""
    (tmp_path / "cart.urdf").write_text(CART)
    (tmp_path / "spheres.yaml").write_text("tip: [[0, 0, 0, 0.05]]\n")
    joint = {"unit": "m", "position": [-2, 2], "velocity": 1.0}
    return Contract.model_validate({
        "name": "cart", "rate_hz": 10, "control_rate_hz": 50,
        "robot": {"description": str(tmp_path / "cart.urdf"), "spheres": str(tmp_path / "spheres.yaml"),
                  "tool_frame": "tip"},
        "command": {"topic": "command", "type": "sensor_msgs/msg/JointState",
                    "joints": [{"name": "x", **joint}, {"name": "y", **joint}]},
        "observations": {
            "joints": {"kind": "joint_state", "topic": "joint_states", "joints": ["y", "x"]},
            "cloud": {"kind": "point_cloud", "topic": "points", "frame": "world", "points": 64,
                      "transform": {"from_frame": "eye", "xyz": [0.0, 0.0, 1.0], "quat_xyzw": [0, 0, 0, 1]}},
        },
    })  # fmt: skip


def shapes(*given: dict[str, object]) -> tuple[object, ...]:
    return SHAPES.validate_python(given)


def test_distances_are_those_of_points_on_the_surface() -> None:
    rng = np.random.default_rng(0)
    turn = Rotation.from_rotvec([0.3, -0.5, 0.9])
    half = np.array([0.1, 0.2, 0.05])
    (box,) = shapes({"kind": "box", "centre": [0.4, 0, 0.3], "size": (2 * half).tolist(),
                     "quat_xyzw": turn.as_quat().tolist()})  # fmt: skip
    places = rng.uniform([0, -0.5, 0], [0.8, 0.5, 0.6], (200, 3))
    local = turn.inv().apply(places - [0.4, 0, 0.3])
    outside = np.linalg.norm(np.maximum(np.abs(local) - half, 0), axis=1)
    depth = (np.abs(local) - half).max(1)
    np.testing.assert_allclose(shape_distance(box, places), np.where(depth < 0, depth, outside), atol=1e-12)
    (cylinder,) = shapes({"kind": "cylinder", "centre": [0, 0, 0.5], "radius": 0.1, "length": 1.0})
    places = np.array([[0.3, 0, 0.5], [0, 0, 1.2], [0, 0.05, 0.5], [0.4, 0, 1.4]])
    np.testing.assert_allclose(shape_distance(cylinder, places), [0.2, 0.2, -0.05, 0.5], atol=1e-12)
    (table,) = shapes({"kind": "half_space", "point": [0, 0, 0.1]})
    np.testing.assert_allclose(shape_distance(table, places), places[:, 2] - 0.1)


def test_the_nearest_of_shapes_and_points_is_named() -> None:
    scene = Scene(shapes({"kind": "half_space", "name": "table", "point": [0, 0, 0]}), np.array([[1.0, 0, 0.5]]))
    distance, which = scene.distance(np.array([[0.0, 0, 0.2], [1.0, 0, 0.45]]))
    np.testing.assert_allclose(distance, [0.2, 0.05])
    assert [scene.name(index) for index in which] == ["'table'", "a point of the cloud"]
    assert not Scene() and Scene((), np.zeros((1, 3)))


def test_a_thin_wire_between_two_way_points_is_not_missed(contract: Contract) -> None:
    body = body_of(contract)
    wire = Scene((), np.array([[0.37, 0.049, 0.0]]))
    path = np.array([[-1.0, 0.0], [1.0, 0.0]])
    touch = first_touch(body, wire, path, 0.0)
    assert touch is not None and touch.link == "tip" and "point of the cloud" in str(touch)
    assert abs(touch.place[0] - 0.37) < 0.06 and touch.share == pytest.approx(0.5 + touch.place[0] / 2, abs=1e-6)
    assert first_touch(body, Scene((), np.array([[0.37, 0.07, 0.0]])), path, 0.0) is None
    assert first_touch(body, Scene(), path, 0.0) is None


def test_what_is_too_near_already_may_be_left_but_not_come_nearer(contract: Contract) -> None:
    body = body_of(contract)
    wall = Scene(shapes({"kind": "half_space", "name": "wall", "point": [0, 0, 0], "normal": [1, 0, 0]}))
    start = [0.04, 0.0]  # 1 cm inside
    assert first_touch(body, wall, np.array([start, [0.5, 0.0]]), 0.02) is None
    assert first_touch(body, wall, np.array([start, [0.04, 0.5]]), 0.02) is None
    touch = first_touch(body, wall, np.array([start, [0.02, 0.0]]), 0.02)
    assert touch is not None and "mm inside 'wall'" in str(touch)


def test_a_sweep_is_at_least_as_near_as_any_place_on_the_way(contract: Contract) -> None:
    arm = Path(contract.robot.path("description")).with_name("arm.urdf")
    arm.write_text("""<robot name="two"><link name="base"/><link name="upper"/><link name="tip"/>
      <joint name="a" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/></joint>
      <joint name="b" type="revolute"><parent link="upper"/><child link="tip"/><origin xyz="0.5 0 0"/>
      <axis xyz="0 0 1"/></joint></robot>""")
    body = Body.read(arm, ["a", "b"], spheres=Spheres(("upper", "tip"), np.array([[0.25, 0, 0], [0.4, 0, 0]]),
                                                      np.array([0.05, 0.03])))  # fmt: skip
    rng = np.random.default_rng(1)
    found = missed = 0
    for _ in range(300):
        path = np.cumsum(np.vstack([rng.uniform(-1, 1, (1, 2)), rng.normal(0, 0.3, (3, 2))]), axis=0)
        scene = Scene((), rng.uniform([-0.9, -0.9, 0], [0.9, 0.9, 0.0], (3, 3)))
        dense = np.concatenate([np.linspace(a, b, 400) for a, b in itertools.pairwise(path)])
        centres = body.centres(dense)
        distance = scene.distance(centres.reshape(-1, 3))[0].reshape(len(dense), 2) - body.radii
        truly = bool(((distance < 0) & (distance < distance[0] - 3e-3)).any())
        touch = first_touch(body, scene, path, 0.0)
        found += truly
        missed += truly and touch is None
    assert found > 15 and missed == 0


def test_own_points_and_what_is_held_are_not_in_the_way_and_hidden_points_are_remembered(contract: Contract) -> None:
    options = Surroundings(cloud="cloud", low=(-1, -1, -0.3), high=(1, 1, 0.3), above=-1.0, memory_s=1.0, thickness=0)
    sight = Sight(body_of(contract), options, contract)
    home = np.array([0.5, 0.0])
    cloud = np.array([[0.5, 0.05, 0.0], [0.5, 0.11, 0.0], [0.0, 0.0, -0.2], [5.0, 0, 0], [np.nan, 0, 0]], np.float32)
    np.testing.assert_allclose(sight.look(cloud, home, 0.0), [[0, 0, -0.2], [0.5, 0.11, 0.0]])
    nothing = np.empty((0, 3), np.float32)
    over = np.array([0.0, 0.0])  # the ball is now between the camera and the second point
    np.testing.assert_allclose(sight.look(nothing, over, 0.9), [[0.0, 0.0, -0.2]])
    assert len(sight.look(nothing, over, 1.1)) == 0, "its memory is bounded in age"
    sight.look(cloud, home, 2.0)
    sight.reset()
    assert len(sight.look(nothing, over, 2.1)) == 0


def test_what_the_camera_cannot_see_of_a_thing_lies_behind_what_it_sees(contract: Contract) -> None:
    options = {"cloud": "cloud", "low": (-1, -1, -0.3), "high": (1, 1, 0.3), "above": -1.0}
    cloud, home = np.array([[0.0, 0.0, 0.2], [0.5, 0.0, 0.0]], np.float32), np.array([0.8, 0.0])
    thick = Sight(body_of(contract), Surroundings(**options, thickness=0.03), contract).look(cloud, home, 0.0)
    below = thick[np.abs(thick[:, 0]) < 0.1]
    np.testing.assert_allclose(np.sort(below[:, 2]), [0.17, 0.185, 0.2], atol=1e-6)
    eye = np.array([0.0, 0.0, 1.0])
    rays = thick[np.abs(thick[:, 0]) > 0.1] - eye
    across = np.linalg.norm(np.cross(rays, np.array([0.5, 0.0, -1.0]) / 1.25**0.5), axis=1)
    assert len(rays) == 3 and (across < 1e-6).all(), "along the camera's ray"
    near = Sight(body_of(contract), Surroundings(**options, thickness=0.03, robot_margin=0.0), contract)
    near.look(cloud, home, 0.0)
    assert len(near.look(cloud, np.array([0.5, 0.0]), 0.1)) < len(thick), "where the robot stands there is nothing"
    flat = Sight(body_of(contract), Surroundings(**options, thickness=0), contract)
    np.testing.assert_allclose(flat.look(cloud, home, 0.0), cloud)


def test_what_has_moved_is_not_remembered_where_it_was(contract: Contract) -> None:
    """A post crosses below the ball, which then hides its whole way from the camera above."""
    options = Surroundings(cloud="cloud", low=(-1, -1, -0.5), high=(1, 1, 0.3), above=-1.0, thickness=0, memory_s=2.0)
    sight, away = Sight(body_of(contract), options, contract), np.array([0.8, 0.8])
    rng = np.random.default_rng(0)
    post = rng.uniform([-0.02, -0.02, -0.4], [0.02, 0.02, -0.3], (60, 3)).astype(np.float32)
    post[:2] = [[-0.02, -0.02, -0.4], [0.02, 0.02, -0.3]]
    for step in range(11):
        offset = np.float32([-0.2 + 0.02 * step, 0, 0])
        points = sight.look(post + offset, away, step / 20)
    assert points[:, 0].max() > 0.02 + 0.12, "where it will be"
    assert points[:, 0].min() > -0.1, "and no longer where it was"


def test_too_old_a_cloud_is_refused_unless_one_may_go_on(contract: Contract) -> None:
    frames = {"joints": np.zeros((1, 2)), "cloud": np.full((1, 64, 3), 0.2, np.float32)}
    body, most = body_of(contract), contract.observations["cloud"].max_age_ms
    sight = Sight(body, Surroundings(cloud="cloud", thickness=0), contract)
    assert len(sight.in_frames(frames, 0.0, {"cloud": most - 1})) == 1
    with pytest.raises(StaleCloud, match=r"'cloud' is .* ms old, max_age_ms is"):
        sight.in_frames(frames, 0.0, {"cloud": most + 1})
    going = Sight(body, Surroundings(cloud="cloud", on_stale="go_on", max_age_ms=50, thickness=0), contract)
    assert len(going.in_frames(frames, 0.0, {"cloud": 5000.0})) == 1
    with pytest.raises(UserError, match="no 'cloud'"):
        going.in_frames({"joints": frames["joints"]}, 0.0, {})
    with pytest.raises(UserError, match="'camera', which is no cloud"):
        Sight(body, Surroundings(cloud="camera"), contract)


def test_what_a_turning_camera_saw_is_remembered(contract: Contract) -> None:
    data = contract.to_dict()
    data["observations"]["cloud"]["transform"] = {"from_frame": "eye", "link": "x"}
    turning = type(contract).model_validate(data)
    sight = Sight(body_of(turning), Surroundings(cloud="cloud", above=-1.0, low=(-1, -1, -1), memory_s=1.0), turning)
    home, nothing = np.array([0.5, 0.0]), np.empty((0, 3), np.float32)
    seen = sight.look(np.array([[0.5, 0.3, 0.2]], np.float32), home, 0.0)
    assert len(seen) == 1
    np.testing.assert_array_equal(sight.look(nothing, home, 0.9), seen)
    assert len(sight.look(nothing, home, 1.1)) == 0
