"""TF: read from bags and live, between its readings; and compared with the robot's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from difftop_ros.contract import Contract, ContractError, parse_contract
from difftop_ros.data import EpisodeDataset, ingest, open_bag
from difftop_ros.data.bags.check import check, offer_of_bag
from difftop_ros.data.errors import DatasetError
from difftop_ros.messages import ObservationPipeline, StaleObservation
from difftop_ros.messages.places.transforms import MOST_FRAMES, Transforms
from difftop_ros.paths import share_path
from difftop_ros.runtime.streams import StreamBuffers
from difftop_ros.runtime.worker import PolicyWorker

from .conftest import MS, Waved, moving_contract, tf_message, transform

STORE = get_typestore(Stores.ROS2_JAZZY)
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


def by_tf(**robot: Any) -> dict[str, Any]:
    data = moving_contract()
    seen = data["observations"]
    seen["told"] = {**seen["cloud"], "transform": {"from_frame": "wrist_optical_frame", "tf": True}}
    data["robot"] |= robot
    return yaml.safe_load(yaml.safe_dump(data))


@pytest.fixture
def contract() -> Contract:
    return parse_contract(yaml.safe_dump(by_tf()))


def test_clouds_placed_by_tf_are_those_placed_by_the_model(waved: Waved, contract: Contract, tmp_path: Path) -> None:
    ingest([waved.write(tmp_path / "bag", transforms=True)], contract, tmp_path / "data")
    stored = EpisodeDataset(tmp_path / "data", include_failures=True)[0]
    assert stored.steps > 25
    for step in range(stored.steps):
        # of the same points, but for those at the edges of the crop
        near = np.linalg.norm(stored["told"][step][:, None] - stored["cloud"][step][None], axis=2).min(1)
        assert np.median(near) < 5e-4 and (near < 2e-3).mean() > 0.95
    contract = contract.in_namespace("/")
    buffers = StreamBuffers(ObservationPipeline(contract).topics, contract.unstamped, 0.35, contract)
    worker = PolicyWorker(None, contract, lambda raw, kind: STORE.deserialize_cdr(raw, kind))
    waiting = sorted([*waved.messages, *waved.transforms], key=lambda entry: entry[2])
    for step in range(stored.steps):
        now = stored.attributes["first_ns"] + round(step * 1e9 / contract.rate_hz)
        while waiting and waiting[0][2] <= now + 20 * MS:
            topic, kind, stamp, message = waiting.pop(0)
            if topic != "/joint_command":
                buffers.push(topic, bytes(STORE.serialize_cdr(message, kind)), stamp)
        frames, _ = worker.observe(buffers.request(now, 1, 1 / contract.rate_hz))
        np.testing.assert_array_equal(frames["told"][0], stored["told"][step], err_msg=f"step {step}")
    # Time began anew: what is fixed is known still.
    buffers.clear()
    assert {topic for topic, _ in buffers.request(0, 1, 0.1).followed} == {"/tf_static"}


def test_a_bag_without_tf_says_what_it_lacks(waved: Waved, contract: Contract, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"gives no step: .*'told' is placed by TF \('/tf' and '/tf_static'\), and noth"
    ):
        ingest([waved.write(tmp_path / "bag")], contract, tmp_path / "data")


def test_what_tf_does_not_tell_is_refused(waved: Waved, contract: Contract) -> None:
    contract = contract.in_namespace("/")
    line, stamp = ObservationPipeline(contract), max(waved.cameras)
    stamps = {"/wrist/points": stamp}
    with pytest.raises(
        StaleObservation, match=r"'told' is placed by TF \('/tf' and '/tf_static'\), and nothing tells of"
    ):
        line.where.poses("told", stamps)
    mount, *links = waved.transforms
    line.follow(mount[0], mount[2], mount[3])
    with pytest.raises(StaleObservation, match=r"nothing tells of 'world'; known are \['panda_hand', 'wrist_optical"):
        line.where.poses("told", stamps)
    line.follow("/tf", 0, "no message")
    for topic, _, at, message in links:
        if at < stamp - 400 * MS:
            line.follow(topic, at, message)
    with pytest.raises(
        StaleObservation, match=r"whose pose of 'panda_.*' nearest in time .* is 4\d\d ms away, max_age_ms is"
    ):
        line.where.poses("told", stamps)
    line.follow("/tf", stamp, tf_message(transform("nowhere", "panda_link0", stamp, np.zeros(3), UPRIGHT)))
    with pytest.raises(StaleObservation, match=r"nothing tells of 'world'|'world' are not connected"):
        line.where.poses("told", stamps)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"link": "panda_hand"}, "TF tells the whole pose of from_frame"),
        ({"rpy": [0, 0, 1]}, "TF tells the whole pose of from_frame"),
        ({"from_frame": ""}, "a frame without a name is not in TF"),
    ],
)
def test_a_pose_is_told_by_one(change: dict[str, Any], sentence: str) -> None:
    data = by_tf()
    data["observations"]["told"]["transform"] |= change
    with pytest.raises(ContractError, match=sentence):
        parse_contract(yaml.safe_dump(data))


def test_poses_between_readings_and_over_branches() -> None:
    tree = Transforms(None)
    quarter = Rotation.from_rotvec([0, 0, np.pi / 2]).as_quat()
    tree.take(tf_message(transform("base", "arm", 1000, np.zeros(3), UPRIGHT)), None, False)
    tree.take(tf_message(transform("/base", "/arm", 2000, np.array([0.2, 0, 0]), -quarter)), None, False)
    tree.take(tf_message(transform("arm", "eye", 0, np.array([1.0, 0, 0]), UPRIGHT)), None, True)
    tree.take(tf_message(transform("base", "table", 0, np.array([0, 0, -0.5]), UPRIGHT)), None, True)
    pose, away, of = tree.pose("table", "eye", 1500)
    turn = Rotation.from_rotvec([0, 0, np.pi / 4]).as_matrix()
    np.testing.assert_allclose(pose[:3, :3], turn, atol=1e-9)
    np.testing.assert_allclose(pose[:3, 3], turn @ [1, 0, 0] + [0.1, 0, 0.5], atol=1e-9)
    assert (away, of) == (500, "arm")
    np.testing.assert_allclose(tree.pose("eye", "table", 1500)[0], np.linalg.inv(pose), atol=1e-9)
    assert tree.pose("table", "eye", 5000)[1:] == (3000, "arm")
    # A frame that is hung elsewhere leaves what it hung on; a circle is no way.
    tree.take(tf_message(transform("table", "arm", 3000, np.zeros(3), UPRIGHT)), None, False)
    np.testing.assert_allclose(tree.pose("table", "arm", 1000)[0], np.eye(4), atol=1e-12)
    tree.take(tf_message(transform("eye", "base", 0, np.zeros(3), UPRIGHT)), None, True)
    tree.pose("table", "eye", 3000)
    with pytest.raises(KeyError, match="nothing tells of 'moon'"):
        tree.pose("base", "moon", 0)


def test_numbers_that_are_no_pose_are_passed_over_and_frames_are_bounded() -> None:
    tree = Transforms(16)
    for parent, child, xyz, turn in (
        ("base", "base", np.zeros(3), UPRIGHT), ("base", "", np.zeros(3), UPRIGHT), ("", "arm", np.zeros(3), UPRIGHT),
        ("base", "arm", np.array([np.nan, 0, 0]), UPRIGHT), ("base", "arm", np.zeros(3), np.zeros(4)),
        ("base", "arm", np.zeros(3), np.array([0, 0, 0, np.inf])),
    ):  # fmt: skip
        tree.take(tf_message(transform(parent, child, 0, xyz, turn)), None, False)
    assert not tree.frames
    for number in range(MOST_FRAMES + 50):
        tree.take(tf_message(transform("base", f"f{number}", 0, np.zeros(3), UPRIGHT)), None, False)
    assert len(tree.frames) == MOST_FRAMES + 1
    for stamp in range(100):
        tree.take(tf_message(transform("base", "f0", stamp, np.zeros(3), UPRIGHT)), None, False)
    assert tree.pose("base", "f0", 0)[1] == 84  # the newest 16 readings


def test_check_compares_tf_with_the_model(waved: Waved, contract: Contract, tmp_path: Path) -> None:
    bag = waved.write(tmp_path / "bag", transforms=True)

    def told(of: Contract) -> Any:
        with open_bag(bag) as opened:
            found = check(of, offer_of_bag(opened, of), live=False)
        assert {f.subject: f.level for f in found if f.subject in ("cloud", "told")} == {"cloud": "ok", "told": "ok"}
        return next(f for f in found if f.subject == "tf")

    fine = told(contract)
    assert fine.level == "ok"
    assert "'/tf' and '/tf_static' put 11 frames where the model does, from 'world' within 0." in fine.text
    # The same arm with a forearm that is 12 mm longer: its frames from there on are elsewhere.
    longer = share_path("models/panda_table/panda.xml").read_text()
    assert longer.count('pos="-0.0825 0.384 0"') == 1
    (tmp_path / "longer.xml").write_text(longer.replace('pos="-0.0825 0.384 0"', 'pos="-0.0825 0.396 0"'))
    wrong = told(parse_contract(yaml.safe_dump(by_tf(description=str(tmp_path / "longer.xml")))))
    assert wrong.level == "warning"
    assert "put 'panda_link5' 12.0 mm and 0.0" in wrong.text and "so are 5 frames behind it" in wrong.text
    # Another robot's description: nothing in common.
    urdf = tmp_path / "other.urdf"
    urdf.write_text("<robot name='r'><link name='base'/><link name='arm'/><joint name='panda_joint1' type='revolute'>"
                    "<parent link='base'/><child link='arm'/></joint></robot>")  # fmt: skip
    data = by_tf(description=str(urdf), coupling={})
    data["observations"] = {key: data["observations"][key] for key in ("joints", "told")}
    other = parse_contract(yaml.safe_dump(data))
    with open_bag(bag) as opened:
        found = check(other, offer_of_bag(opened, other), live=False)
    assert "tell of none of the frames of robot.description" in next(f.text for f in found if f.subject == "tf")
