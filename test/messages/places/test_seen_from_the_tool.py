"""The tool's pose as an observation, and clouds as the tool sees them, by the robot's model, in bags and live alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rosbags.typesys import Stores, get_typestore

from difftop_ros.contract import Contract, ContractError, parse_contract
from difftop_ros.contract.surroundings import Surroundings
from difftop_ros.data import EpisodeDataset, ingest
from difftop_ros.errors import UserError
from difftop_ros.learning.imitation.augment import Place, shifted, turned
from difftop_ros.messages import ObservationPipeline
from difftop_ros.runtime.streams import StreamBuffers
from difftop_ros.runtime.worker import PolicyWorker
from difftop_ros.sim.robot import SimulatedRobot
from difftop_ros.space import body_of
from difftop_ros.space.relative import from_tool, in_base
from difftop_ros.space.sight import Sight

from .conftest import MS, Waved, moving_contract

STORE = get_typestore(Stores.ROS2_JAZZY)
Make = Callable[..., Contract]
TOOL = {"kind": "tool_pose", "topic": "joint_states", "max_age_ms": 100}


def hand_centric(relative_to: str) -> dict[str, Any]:
    return {**moving_contract()["observations"]["cloud"], "relative_to": relative_to}


@pytest.fixture
def contract(made: Make) -> Contract:
    return made(
        tool=TOOL, point={**TOOL, "rotation": False}, elbow={**TOOL, "link": "panda_link4"},
        near=hand_centric("tool_position"), hand=hand_centric("tool"),
    )  # fmt: skip


def test_a_bag_has_the_tools_pose_and_what_it_sees(waved: Waved, contract: Contract, tmp_path: Path) -> None:
    ingest([waved.write(tmp_path / "bag")], contract, tmp_path / "data")
    episode = EpisodeDataset(tmp_path / "data", include_failures=True)[0]
    assert episode["tool"].shape[1:] == (9,) and episode["point"].shape[1:] == (3,)
    assert not np.allclose(episode["tool"][:], episode["elbow"][:], atol=0.1)
    line = ObservationPipeline(contract.in_namespace("/"), readings_kept=None)
    for topic, _, stamp, message in waved.messages:
        line.follow(topic, stamp, message)
    used = 0
    for step in range(episode.steps):
        now = episode.attributes["first_ns"] + round(step * 1e9 / contract.rate_hz)
        place, x_axis, y_axis = episode["tool"][step].reshape(3, 3)
        np.testing.assert_array_equal(episode["point"][step], place)
        assert abs(x_axis @ y_axis) < 1e-6 and abs(np.linalg.norm(x_axis) - 1) < 1e-6
        # What is recorded is the reading at or before the step: at most 20 ms old.
        stamps = [stamp for stamp in waved.cameras if stamp <= now]
        seen_at = max(stamps)
        tool, cloud = waved.tools[seen_at], episode["cloud"][step]
        expected = (cloud - tool[:3, 3]) @ tool[:3, :3]
        np.testing.assert_allclose(episode["near"][step], cloud - tool[:3, 3], atol=2e-3)
        np.testing.assert_allclose(episode["hand"][step], expected, atol=3e-3)
        used += 1
    assert used > 25
    (pose,) = line.where.poses("tool", {"/joint_states": seen_at}).values()
    np.testing.assert_allclose(pose, waved.tools[seen_at], atol=2e-3)


def test_live_gives_the_frames_of_the_bag(waved: Waved, contract: Contract, tmp_path: Path) -> None:
    contract = contract.in_namespace("/")
    ingest([waved.write(tmp_path / "bag")], contract, tmp_path / "data")
    stored = EpisodeDataset(tmp_path / "data", include_failures=True)[0]
    buffers = StreamBuffers(ObservationPipeline(contract).topics, contract.unstamped, 0.35, contract)
    worker = PolicyWorker(None, contract, lambda raw, kind: STORE.deserialize_cdr(raw, kind))
    waiting = [entry for entry in waved.messages if entry[0] in buffers.topics]
    for step in range(stored.steps):
        now = stored.attributes["first_ns"] + round(step * 1e9 / contract.rate_hz)
        while waiting and waiting[0][2] <= now + 20 * MS:
            topic, kind, stamp, message = waiting.pop(0)
            buffers.push(topic, bytes(STORE.serialize_cdr(message, kind)), stamp)
        frames, _ = worker.observe(buffers.request(now, 1, 1 / contract.rate_hz))
        for key in ("tool", "near", "hand"):
            np.testing.assert_array_equal(frames[key][0], stored[key][step], err_msg=f"{key} at step {step}")


def test_the_simulated_robot_observes_its_tool() -> None:
    data = moving_contract(tool=TOOL, hand=hand_centric("tool"))
    del data["observations"]["depth"]
    data["sim"] |= {"width": 64, "height": 48, "cameras": {"cloud": "wrist", "hand": "wrist"}}
    robot = SimulatedRobot(parse_contract(yaml.safe_dump(data)))
    robot.reset(0)
    frames, site = robot.observe(), robot.world.data.site("tcp")
    turn = site.xmat.reshape(3, 3)
    np.testing.assert_allclose(frames["tool"], [*site.xpos, *turn[:, 0], *turn[:, 1]], atol=1e-5)
    np.testing.assert_allclose(frames["hand"], (frames["cloud"] - site.xpos) @ turn, atol=1e-4)
    robot.close()


@pytest.mark.parametrize("relative_to", ["tool_position", "tool"])
def test_seen_from_the_tool_and_back(made: Make, relative_to: str) -> None:
    (cloud,) = (
        o for o in made(hand=hand_centric(relative_to)).observations.values() if getattr(o, "relative_to", None)
    )
    rng, pose = np.random.default_rng(0), np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.linalg.qr(rng.normal(size=(3, 3)))[0], [0.4, -0.1, 0.3]
    points = rng.normal(size=(50, 6)).astype(np.float32)
    seen = from_tool(points, cloud, pose)
    assert not np.allclose(seen[:, :3], points[:, :3]) and np.array_equal(seen[:, 3:], points[:, 3:])
    np.testing.assert_allclose(in_base(seen, cloud, pose), points, atol=1e-6)
    assert cloud.spatial == (() if relative_to == "tool" else ((0, False),))


def test_a_moved_scene_moves_poses_and_leaves_what_the_hand_sees(contract: Contract) -> None:
    """Turned scenes turn places and directions, shifted ones move places alone."""
    spatial = {key: contract.observations[key].spatial for key in ("joints", "tool", "cloud", "near", "hand")}
    torch.manual_seed(0)
    obs = {
        "joints": torch.randn(6, 2, 8), "tool": torch.randn(6, 2, 9), "cloud": torch.randn(6, 2, 20, 3),
        "near": torch.randn(6, 2, 20, 3), "hand": torch.randn(6, 2, 20, 3),
    }  # fmt: skip
    actions = torch.randn(6, 4, 8)
    seen, _ = turned(obs, actions, spatial, Place("joints", 0, 0), 0.7)
    angle = (seen["joints"] - obs["joints"])[:, 0, 0]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(6)
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], 1).view(6, 3, 3)
    for key in ("tool", "cloud", "near"):
        flat = obs[key].reshape(6, -1, 3)
        assert torch.allclose(seen[key].reshape(6, -1, 3), torch.einsum("bij,bnj->bni", turn, flat), atol=1e-5), key
    assert torch.equal(seen["hand"], obs["hand"])
    moved, _ = shifted(obs, actions, spatial, [Place("joints", 0, None), Place("joints", 1, None)], 0.2)
    shift = (moved["joints"] - obs["joints"])[:, :1, :2]
    assert torch.allclose((moved["tool"] - obs["tool"])[..., :2], shift.expand(6, 2, 2), atol=1e-6)
    assert torch.equal(moved["tool"][..., 2:], obs["tool"][..., 2:])
    assert torch.allclose((moved["cloud"] - obs["cloud"])[..., :2], shift[:, :, None].expand(6, 2, 20, 2), atol=1e-6)
    assert torch.equal(moved["near"], obs["near"]) and torch.equal(moved["hand"], obs["hand"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"robot": {"description": "models/panda_table/panda.xml"}}, "of the robot's tool, .*tool_frame"),
        ({"robot": {"tool_frame": "tcp"}}, r"'depth', 'tool'\] move with the robot, whose model"),
        ({"tool": {**TOOL, "topic": "other_states"}}, r"topics of the tool poses \['tool'\] are those of no"),
        ({"tool": {**TOOL, "rotation": "6d"}}, r"tool.rotation' is '6d'; input should be a valid bool"),
    ],
)  # fmt: skip
def test_what_a_tool_needs_is_told_by_the_contract(change: dict[str, Any], sentence: str) -> None:
    data = moving_contract(tool=change.get("tool", TOOL))
    data["robot"] = change.get("robot", data["robot"])
    with pytest.raises(ContractError, match=sentence):
        parse_contract(yaml.safe_dump(data))


def test_a_policy_is_not_run_with_another_tool(contract: Contract, made: Make) -> None:
    other = made(
        tool={**TOOL, "link": "panda_hand"}, point=TOOL, elbow={**TOOL, "link": "panda_link4"},
        near=hand_centric("tool"), hand=hand_centric("tool"),
    )  # fmt: skip
    found = other.incompatibilities(contract)
    assert {line.partition(" = ")[0] for line in found} == {
        "observation 'tool' has link", "observation 'point' has rotation", "observation 'near' has relative_to",
    }  # fmt: skip


def test_obstacles_are_not_looked_for_in_a_hand_centric_cloud(contract: Contract) -> None:
    with pytest.raises(UserError, match="'near' is relative to the tool; what is in the way is looked for in the base"):
        Sight(body_of(contract), Surroundings(cloud="near"), contract)
