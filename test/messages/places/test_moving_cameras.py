"""Clouds of a camera on a moving link stand still in the base frame, alike in bags and live; stale ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.typesys import Stores, get_typestore

from difftop_ros.contract import Contract, ContractError, parse_contract
from difftop_ros.contract.clouds import Transform
from difftop_ros.data import EpisodeDataset, ingest, open_bag
from difftop_ros.data.bags.check import check, offer_of_bag
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError, ObservationPipeline, StaleObservation
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import rosbags_types as types
from difftop_ros.runtime.streams import StreamBuffers
from difftop_ros.runtime.worker import PolicyWorker

from .conftest import MOUNT, MS, Waved, moving_contract

STORE = get_typestore(Stores.ROS2_JAZZY)
Make = Callable[..., Contract]


def pushed(buffers: StreamBuffers, waved: Waved, until: int, first: int = 0) -> int:
    """Hands over the messages with stamps up to `until`; returns how many there were."""
    count = first
    while count < len(waved.messages) and waved.messages[count][2] <= until:
        topic, kind, stamp, message = waved.messages[count]
        if topic in buffers.topics:
            buffers.push(topic, bytes(STORE.serialize_cdr(message, kind)), stamp)
        count += 1
    return count


def off_the_table(cloud: np.ndarray, cube: np.ndarray) -> np.ndarray:
    """Heights [m] of the points that are on the table's top, and not on the cube or the arm."""
    return cloud[(cloud[:, 2] < 0.01) & (np.linalg.norm(cloud[:, :2] - cube[:2], axis=1) > 0.05), 2]


def test_the_table_stays_where_it_is_while_the_arm_moves(waved: Waved, made: Make, tmp_path: Path) -> None:
    contract = made()
    assert waved.speed > 0.4  # [m/s]: within 8 ms the camera goes 3 mm
    data = tmp_path / "data"
    report = ingest([waved.write(tmp_path / "bag")], contract, data)
    assert report.episodes == 1 and not report.bags[0].undecodable
    episode = EpisodeDataset(data, include_failures=True)[0]
    for key in ("cloud", "depth"):
        heights = np.concatenate([off_the_table(frame, waved.cube) for frame in episode[key][:]])
        assert heights.size > 2000
        assert np.abs(heights).max() < 0.002, key
    # The same points with the pose at the joint reading before them are off by what the arm goes meanwhile.
    line, worst = ObservationPipeline(contract.in_namespace("/")), 0.0
    for topic, _, stamp, message in waved.messages:
        if topic == "/joint_states":
            line.follow(topic, stamp, message)
        elif topic == "/wrist/points":
            poses = line.where.poses("cloud", {topic: stamp})
            cloud = line.decode("cloud", {topic: message}, poses)
            worst = max(worst, np.abs(off_the_table(cloud, waved.cube)).max())
    assert worst > 0.003


def test_points_are_where_the_simulated_camera_was(waved: Waved, made: Make) -> None:
    contract = made().in_namespace("/")
    line = ObservationPipeline(contract)
    for topic, _, stamp, message in waved.messages:
        line.follow(topic, stamp, message)
    assert len(waved.cameras) > 15
    for stamp, camera in waved.cameras.items():
        (pose,) = line.where.poses("cloud", {"/wrist/points": stamp}).values()
        pose = pose @ Transform.model_validate(MOUNT).pose
        np.testing.assert_allclose(pose[:3, 3], camera[:3, 3], atol=1e-3)
        np.testing.assert_allclose(pose[:3, :3], camera[:3, :3], atol=2e-3)


def test_live_gives_the_frames_of_the_bag(waved: Waved, made: Make, tmp_path: Path) -> None:
    contract = made().in_namespace("/")
    ingest([waved.write(tmp_path / "bag")], contract, tmp_path / "data")
    stored = EpisodeDataset(tmp_path / "data", include_failures=True)[0]
    buffers = StreamBuffers(ObservationPipeline(contract).topics, contract.unstamped, 0.35, contract)
    worker = PolicyWorker(None, contract, lambda raw, kind: STORE.deserialize_cdr(raw, kind))
    done = 0
    for step in range(stored.steps):
        now = stored.attributes["first_ns"] + round(step * 1e9 / contract.rate_hz)
        # A picture is longer on its way than the joint reading after it.
        done = pushed(buffers, waved, now + 20 * MS, done)
        frames, _ = worker.observe(buffers.request(now, 1, 1 / contract.rate_hz))
        for key in contract.observations:
            np.testing.assert_array_equal(frames[key][0], stored[key][step], err_msg=f"{key} at step {step}")


def test_joints_that_stopped_make_the_cloud_stale(waved: Waved, made: Make) -> None:
    contract = made().in_namespace("/")
    last = [stamp for topic, _, stamp, _ in waved.messages if topic == "/wrist/points"][-1]
    latest: dict[str, tuple[int, Any]] = {}
    line = ObservationPipeline(contract)
    for topic, _, stamp, message in waved.messages:
        if topic != "/joint_states" or stamp < last - 200 * MS:
            latest[topic] = (stamp, message)
    sentence = r"'cloud' moves with the robot, and the reading on '/joint_states' nearest .* is 2\d\d ms away"
    for hold in (False, True):  # bags hold joints, and never a camera by old ones
        with pytest.raises(StaleObservation, match=sentence):
            line.observe(latest, last, hold=hold)
    nothing = {topic: entry for topic, entry in latest.items() if topic != "/joint_states"}
    with pytest.raises(StaleObservation, match=r"nothing was received on '/joint_states' yet"):
        ObservationPipeline(contract).observe(nothing, last)
    line.forget()
    with pytest.raises(StaleObservation, match=r"moves with the robot, and nothing was received on '/joint_states'"):
        line.where.poses("cloud", {"/wrist/points": last})


def test_readings_of_another_driver_and_of_none_are_passed_over(waved: Waved, made: Make) -> None:
    """The gripper's driver publishes on the same topic, and a message may be anything."""
    contract = made().in_namespace("/")
    clean, mixed = ObservationPipeline(contract), ObservationPipeline(contract)
    for topic, _, stamp, message in waved.messages:
        clean.follow(topic, stamp, message)
        mixed.follow(topic, stamp, message)
        if topic == "/joint_states":
            mixed.follow(topic, stamp + MS, joint_state(types, ["finger"], 0.0, np.array([0.1])))
            bad = joint_state(types, message.name, 0.0, np.full(len(message.name), np.nan))
            mixed.follow(topic, stamp + 2 * MS, bad)
            mixed.follow(topic, stamp + 3 * MS, types("std_msgs/msg/Bool")())
    for stamp in waved.cameras:
        stamps = {"/wrist/points": stamp}
        for one, other in zip(*(line.where.poses("cloud", stamps).values() for line in (clean, mixed)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_joint_that_wraps_around_goes_the_short_way_between_readings(tmp_path: Path) -> None:
    """A turntable with a camera passes pi between two readings, under a clock that counts reception."""
    (tmp_path / "table.urdf").write_text(
        "<robot name='r'><link name='base'/><link name='table'/><joint name='turn' type='continuous'>"
        "<parent link='base'/><child link='table'/><axis xyz='0 0 1'/></joint></robot>"
    )
    data = {
        "name": "table", "rate_hz": 10, "control_rate_hz": 50, "clock": "receive",
        "robot": {"description": str(tmp_path / "table.urdf")},
        "command": {"topic": "/c", "type": "sensor_msgs/msg/JointState",
                    "joints": [{"name": "turn", "position": [-9, 9], "velocity": 2, "continuous": True}]},
        "observations": {
            "joints": {"kind": "joint_state", "topic": "/j", "joints": ["turn"]},
            "cloud": {"kind": "point_cloud", "topic": "/p", "frame": "base", "points": 8,
                      "transform": {"from_frame": "eye", "link": "table", "xyz": [1.0, 0, 0]}},
        },
    }  # fmt: skip
    line = ObservationPipeline(parse_contract(yaml.safe_dump(data)))
    for stamp, angle in ((1000 * MS, np.pi - 0.02), (1020 * MS, -np.pi + 0.06)):
        line.follow("/j", stamp, joint_state(types, ["turn"], 55.0, np.array([angle])))  # its own stamp does not count
    (pose,) = line.where.poses("cloud", {"/p": 1010 * MS}).values()
    np.testing.assert_allclose(pose[:3, :3] @ [1, 0, 0], [np.cos(np.pi + 0.02), np.sin(np.pi + 0.02), 0], atol=1e-9)


def test_a_second_camera_may_move_beside_one_that_stands(waved: Waved, made: Make) -> None:
    data = moving_contract()
    still = {"topic": "wrist/depth", "camera_info": "wrist/info", "transform": {**MOUNT, "link": None}}
    data["observations"]["cloud"]["also"] = [still]
    contract = parse_contract(yaml.safe_dump(data))
    (place,) = contract.observations["cloud"].places
    assert (place.topic, place.link) == ("wrist/points", "panda_hand")
    data["observations"]["cloud"]["also"] = [{**still, "transform": {**MOUNT, "link": "panda_link7"}}]
    assert len(parse_contract(yaml.safe_dump(data)).observations["cloud"].places) == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rpy": [0, 0, 1]}, "given twice, by quat_xyzw and by rpy"),
        ({"rpy": [0, 0, 90], "quat_xyzw": [0, 0, 0, 1]}, r"transform.rpy.2' is 90; input should be less than"),
        ({"links": "hand"}, "did you mean 'link'"),
        (None, r"'cloud', 'depth'\] move with the robot, whose model is not named"),
    ],
)  # fmt: skip
def test_wrong_mounts_are_told_by_the_contract(change: dict[str, Any] | None, sentence: str) -> None:
    data = yaml.safe_load(yaml.safe_dump(moving_contract()))
    if change is None:
        del data["robot"]["description"]
    else:
        data["observations"]["cloud"]["transform"].update(change)
    with pytest.raises(ContractError, match=sentence):
        parse_contract(yaml.safe_dump(data))


def test_wrong_links_are_told_before_anything_runs(made: Make, tmp_path: Path) -> None:
    data = yaml.safe_load(yaml.safe_dump(moving_contract()))
    data["observations"]["cloud"]["transform"]["link"] = "hand"
    contract = parse_contract(yaml.safe_dump(data))
    for ask in (
        lambda: ObservationPipeline(contract).where.require(),
        lambda: PolicyWorker(None, contract, lambda raw, kind: None),
        lambda: ingest([tmp_path], contract, tmp_path / "data"),
    ):
        with pytest.raises(UserError, match=r"'cloud' is placed by the robot's model: .* has no frame 'hand'; it has"):
            ask()
    # An elbow that only the description knows: nobody measures it.
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(
        "<robot name='r'><link name='base'/><link name='arm'/><link name='eye'/>"
        "<joint name='panda_joint1' type='revolute'><parent link='base'/><child link='arm'/></joint>"
        "<joint name='pan' type='revolute'><parent link='arm'/><child link='eye'/></joint></robot>"
    )
    data["robot"] |= {"description": str(urdf), "coupling": {}}
    data["observations"]["cloud"]["transform"]["link"] = "eye"
    data["observations"].pop("depth")
    contract = parse_contract(yaml.safe_dump(data))
    with pytest.raises(ObservationError, match=r"'eye' of .* hangs on the joints \['pan'\], which no joint_state"):
        ObservationPipeline(contract).where.require()


def test_a_model_that_changes_makes_another_dataset(made: Make, tmp_path: Path) -> None:
    data = moving_contract()
    model = tmp_path / "panda.xml"
    model.write_text("<mujoco/>")
    data["robot"]["description"] = str(model)
    before = parse_contract(yaml.safe_dump(data)).data_sha256()
    model.write_text("<mujoco> </mujoco>")
    assert parse_contract(yaml.safe_dump(data)).data_sha256() != before
    assert made().sha256 == made().sha256


def test_check_decodes_moving_clouds_of_a_bag(waved: Waved, made: Make, tmp_path: Path) -> None:
    contract = made()
    with open_bag(waved.write(tmp_path / "bag")) as bag:
        found = check(contract, offer_of_bag(bag, contract), live=False)
    assert {finding.subject: finding.level for finding in found if finding.subject in ("cloud", "depth")} == {
        "cloud": "ok", "depth": "ok",
    }  # fmt: skip
