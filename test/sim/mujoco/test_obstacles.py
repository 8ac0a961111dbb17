"""Obstacles in the demo arm's world: solid, movable, watched; and those that are placed in the way of its task."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from difftop_ros.contract.shapes import SHAPES, AnyShape
from difftop_ros.paths import share_path
from difftop_ros.sim import make_world
from difftop_ros.sim.errors import SimError
from difftop_ros.sim.mujoco.in_the_way import KINDS, LEAST_M, InTheWay
from difftop_ros.sim.mujoco.obstacles import FAR_M, moved, pose
from difftop_ros.sim.mujoco.panda import PandaWorld
from difftop_ros.sim.placed import Course, Placed, parse_placed

POST = {"kind": "cylinder", "name": "post", "centre": [0.6, 0.0, 0.2], "radius": 0.03, "length": 0.4}
WALL = {"kind": "half_space", "point": [0.62, 0, 0], "normal": [-1, 0, 0]}
BLOCK = {"kind": "box", "centre": [0.6, 0, 0.3], "size": [0.1, 0.3, 0.2], "quat_xyzw": [0, 0, 0.6, 0.8]}


def shapes(*rows: dict[str, object]) -> tuple[AnyShape, ...]:
    return SHAPES.validate_python(rows)


def reach_out(world: PandaWorld, steps: int = 40) -> None:
    """The arm stretches forwards: joint 2 down, joint 4 open, at about half a metre a second."""
    command = world.joint_state()[0]
    for _ in range(steps):
        command[[1, 3]] += (0.03, 0.03)
        world.step(command, 0.05)


def test_a_world_without_obstacles_is_what_it_was() -> None:
    plain, empty, far = PandaWorld("lift"), PandaWorld("lift", obstacles=()), PandaWorld("lift", obstacles=shapes(
        {**POST, "centre": [3.0, 3.0, 0.0]}))  # fmt: skip
    for world in (plain, empty, far):
        world.reset(3)
        reach_out(world, 12)
    assert np.array_equal(plain.data.qpos, empty.data.qpos) and np.array_equal(plain.data.qvel, empty.data.qvel)
    assert np.array_equal(plain.data.qpos, far.data.qpos), "what is far away changes nothing either"
    assert len(empty.obstacles) == 0 and empty.obstacles.distance() == FAR_M and not empty.obstacles.touched


@pytest.mark.parametrize("row", [POST, WALL, BLOCK], ids=lambda row: row["kind"])
def test_obstacles_stop_the_arm_and_contacts_are_told(row: dict[str, object]) -> None:
    free, world = PandaWorld("lift"), PandaWorld("lift", obstacles=shapes(row))
    for each in (free, world):
        each.reset(3)
    begin = world.obstacles.distance()
    assert begin > 0.03 and not world.obstacles.contacts
    for each in (free, world):
        reach_out(each)
    assert free.scene.tcp()[0][0] - world.scene.tcp()[0][0] > 0.02, "it is solid"
    name = row.get("name", row["kind"])
    assert {obstacle for _, obstacle in world.obstacles.touched} == {name}
    assert all(part.startswith("panda_") for part, _ in world.obstacles.touched)
    assert 0 < min(world.obstacles.touched.values()) < world.time and world.obstacles.contacts
    assert -0.02 < world.obstacles.nearest_m <= 0
    world.reset(3)
    assert not world.obstacles.touched and world.obstacles.nearest_m == FAR_M
    assert world.obstacles.distance() == begin


def test_a_touch_between_two_looks_of_a_policy_is_not_missed() -> None:
    world = PandaWorld("lift", obstacles=shapes(POST))
    world.reset(3)
    world.obstacles.place(0, moved(world.obstacles.shapes[0], np.array([-0.6, 0.6, 0.0])))
    world.obstacles.follow(0, Course(velocity=(0.0, -12.0, 0.0), start_s=0.01, end_s=0.11))
    world.step(world.joint_state()[0], 0.2)  # a post that flies through the arm within the step
    assert world.obstacles.contacts and world.obstacles.distance() > 0.1 > 0 > world.obstacles.nearest_m


def test_obstacles_move_along_their_course_and_back_at_a_reset() -> None:
    world = PandaWorld("reach", obstacles=shapes(POST))
    world.obstacles.follow(0, Course(velocity=(0.0, 0.2, 0.0), start_s=0.1, end_s=0.6))
    seen = []
    for _ in range(2):
        world.reset(1)
        for _ in range(20):
            world.step(world.joint_state()[0], 0.05)
            seen.append(world.obstacles.shapes[0].centre[1])
    assert seen[:20] == seen[20:] and seen[0] == 0 and seen[19] == pytest.approx(0.1)
    assert np.array_equal(
        world.data.mocap_pos[world.model.body("obstacle_0").mocapid[0]], pose(world.obstacles.shapes[0])[0]
    )
    assert set(world.snapshot()) >= {"mocap_pos"}, "films show it where it is"


def test_a_model_with_a_home_of_its_own_gets_obstacles_too(tmp_path: Path) -> None:
    shutil.copytree(share_path("models/panda_table"), tmp_path / "model")
    scene = tmp_path / "model/scene.xml"
    home = """<keyframe><key name="home" qpos="0 -0.5 0 -2.6 0 2.1 0.8 0.03 0.03 0.5 0 0.02 1 0 0 0"
        mpos="0.5 0.1 0" mquat="1 0 0 0"/></keyframe></mujoco>"""
    scene.write_text(scene.read_text().replace("</mujoco>", home))
    plain, world = PandaWorld("reach", scene), PandaWorld("reach", scene, obstacles=shapes(POST, WALL))
    for each in (plain, world):
        each.reset(4)
        each.step(each.joint_state()[0] + 0.05, 0.3)
    assert np.array_equal(plain.data.qpos, world.data.qpos)
    assert np.array_equal(plain.scene.target(), world.scene.target())
    assert np.allclose(world.data.mocap_pos[1:], [POST["centre"], WALL["point"]])


@pytest.mark.parametrize("axis", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.6, 0, -0.8)])
def test_an_axis_is_turned_to_where_it_points(axis: tuple[float, float, float]) -> None:
    (post,) = shapes({**POST, "axis": axis})
    w, x, y, z = pose(post)[1]
    third = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
    assert third == pytest.approx(axis, abs=1e-9)


def test_what_cannot_be() -> None:
    world = PandaWorld("lift", obstacles=shapes(POST))
    with pytest.raises(SimError, match="make another world"):
        world.obstacles.place(0, shapes({**POST, "radius": 0.05})[0])
    with pytest.raises(SimError, match="make another world"):
        world.obstacles.place(0, shapes(BLOCK)[0])
    with pytest.raises(SimError, match="do not go with task"):
        make_world("metaworld/push-v3", obstacles=shapes(POST))
    with pytest.raises(SimError, match="expected one of"):
        InTheWay().find("tree", 0)


def test_obstacles_in_the_way_are_the_same_for_a_seed_and_clear_of_the_start() -> None:
    found = {kind: InTheWay().find(kind, 1_000_002) for kind in ("post", "moving_post")}
    assert set(found) < set(KINDS)
    again = InTheWay().find("moving_post", 1_000_002)
    assert again == found["moving_post"] and again is not None
    for placed in filter(None, found.values()):
        world = PandaWorld("lift", obstacles=[placed.shape])
        world.reset(1_000_002)
        assert world.obstacles.distance() > LEAST_M - 2e-3
    course = again.course
    assert course is not None and math.hypot(*course.velocity) > 0.1 and course.end_s > course.start_s


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{shape: 3}", "obstacles"),
        ("[{shape: {kind: ball}}]", "ball"),
        ("[{shape: {kind: cylinder, centre: [0, 0, 0], radius: 0.1, length: 1}, speed: 3}]", "speed"),
        ("[{shape: {kind: cylinder, centre: [0, 0, 0], radius: .nan, length: 1}}]", "radius"),
        ("[{shape: {kind: box, centre: [0,0,0], size: [1,1,1]}, course: {velocity: [0, 0, 1], start_s: 3, end_s: 2}}]",
         "start_s is 3"),
        ("[", "not valid YAML"),
    ],
)  # fmt: skip
def test_obstacles_as_text_are_read_or_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(SimError, match=says):
        parse_placed(text, "here")
    placed = Placed(shape=shapes(POST)[0], course=Course(velocity=(0.1, 0.0, 0.0), end_s=2.0))
    assert parse_placed(f"[{placed.model_dump_json()}]", "here") == (placed,) and parse_placed("", "here") == ()
