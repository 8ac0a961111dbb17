"""Training-time disturbances change what they should, by as much as they should, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from difftop_ros.errors import UserError
from difftop_ros.learning.imitation.augment import (
    AugmentSettings,
    Hand,
    Place,
    add_box,
    augment,
    colour_jitter,
    jitter_cloud,
    move_cloud,
    random_shift,
    shifted,
    turned,
)

KINDS = {"joints": "vector", "cloud": "cloud", "picture": "image"}
SPATIAL = {"joints": (), "cloud": ((0, True),), "picture": ()}
OFF: dict[str, float] = {"joint_noise": 0.0, "cloud_jitter_m": 0.0, "cloud_drop": 0.0, "image_shift_px": 0}


@pytest.fixture
def obs() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "joints": torch.randn(40, 2, 3),
        "cloud": torch.rand(40, 2, 64, 6),
        "picture": torch.randint(0, 256, (40, 2, 12, 16, 3), dtype=torch.uint8),
    }


def test_everything_off_changes_nothing(obs: dict[str, torch.Tensor]) -> None:
    seen = augment(obs, KINDS, AugmentSettings(**OFF))
    assert all(torch.equal(seen[key], obs[key]) for key in obs)


@pytest.mark.parametrize(
    ("option", "key"),
    [({"joint_noise": 0.1}, "joints"), ({"cloud_jitter_m": 0.1}, "cloud"), ({"cloud_drop": 0.5}, "cloud"),
     ({"cloud_shift_m": 0.1}, "cloud"), ({"cloud_turn_rad": 0.1}, "cloud"), ({"cloud_clutter": 0.5}, "cloud"),
     ({"image_shift_px": 3}, "picture")],
    ids=str,
)  # fmt: skip
def test_each_disturbance_is_seen_by_its_own_stream_alone(obs: dict[str, torch.Tensor], option: Any, key: str) -> None:
    before = {name: frames.clone() for name, frames in obs.items()}
    seen = augment(obs, KINDS, AugmentSettings(**{**OFF, **option}))
    for name in obs:
        assert torch.equal(obs[name], before[name]), "the frames themselves are kept"
        assert torch.equal(seen[name], obs[name]) is (name != key)
        assert seen[name].dtype == obs[name].dtype and seen[name].shape == obs[name].shape


def test_a_moved_cloud_stays_rigid_and_within_its_bounds(obs: dict[str, torch.Tensor]) -> None:
    cloud = obs["cloud"]
    seen = move_cloud(cloud, 0.1, 0.2)
    assert torch.equal(seen[..., 3:], cloud[..., 3:]), "colours stay"
    for a, b in ((0, 1), (5, 9)):  # distances within a frame, and from frame to frame
        before = cloud[:, 0, a, :3] - cloud[:, 1, b, :3]
        after = seen[:, 0, a, :3] - seen[:, 1, b, :3]
        assert torch.allclose(before.norm(dim=1), after.norm(dim=1), atol=1e-5)
    shift = (seen - cloud)[:, -1, :, :3].mean(1).norm(dim=1)
    assert float(shift.max()) <= 0.1 + 1e-5 and float(shift.std()) > 0.01, "its middle moves by the shift"
    turned_only = move_cloud(cloud, 0.0, 0.2)
    middle = cloud[:, -1, :, :3].mean(1, keepdim=True)
    first, second = cloud[:, -1, :, :3] - middle, turned_only[:, -1, :, :3] - middle
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=2).clamp(-1, 1)
    assert float(cosine.arccos().max()) <= 0.2 + 1e-3, "no point turns further than asked"
    assert move_cloud(cloud, 0.0, 0.0) is cloud


def test_some_points_become_the_surface_of_one_box_in_all_frames(obs: dict[str, torch.Tensor]) -> None:
    cloud = obs["cloud"].repeat(1, 1, 40, 1)
    seen = add_box(cloud, 0.5, (0.02, 0.2))
    new = (seen[..., :3] != cloud[..., :3]).any(-1)
    share = new.float().mean((1, 2))
    assert 0 < float(share.max()) < 0.55 and float(share.min()) < 0.1
    for sample in torch.where(new.sum((1, 2)) > 200)[0]:
        points = seen[sample][new[sample]][:, :3]
        low, high = points.amin(0), points.amax(0)
        assert ((high - low) <= 0.2 + 1e-6).all() and ((high - low) > 0.01).all()
        to_face = torch.minimum(points - low, high - points).amin(1)
        assert float(to_face.max()) < 0.004, "on a face of the box that they all span"
        for frame in range(2):
            here = seen[sample, frame][new[sample, frame]][:, :3]
            assert torch.allclose(here.amin(0), low, atol=0.01) and torch.allclose(here.amax(0), high, atol=0.01)
    assert add_box(cloud, 0.0) is cloud


def test_noise_has_the_size_asked_for(obs: dict[str, torch.Tensor]) -> None:
    joints = augment(obs, KINDS, AugmentSettings(**{**OFF, "joint_noise": 0.2}))["joints"] - obs["joints"]
    assert float(joints.std()) == pytest.approx(0.2, rel=0.2) and abs(float(joints.mean())) < 0.05
    cloud = jitter_cloud(obs["cloud"], 0.05, 0.0) - obs["cloud"]
    assert float(cloud[..., :3].std()) == pytest.approx(0.05, rel=0.1)
    assert float(cloud[..., 3:].abs().max()) == 0, "colours stay"


def test_dropped_points_become_the_first_one(obs: dict[str, torch.Tensor]) -> None:
    seen = jitter_cloud(obs["cloud"], 0.0, 0.6)
    same = (seen == obs["cloud"]).all(-1)
    gone = (seen == obs["cloud"][..., :1, :]).all(-1)
    assert (same | gone).all()
    share = 1 - same.float().mean((1, 2))
    assert float(share.max()) <= 0.75 and float(share.mean()) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("command", [0, None])
def test_a_turned_scene_keeps_what_the_arm_sees_from_its_base(
    obs: dict[str, torch.Tensor], command: int | None
) -> None:
    actions = torch.randn(40, 4, 3)
    seen, commands = turned(obs, actions, SPATIAL, Place("joints", 1, command), 0.7)
    angle = seen["joints"][..., 1] - obs["joints"][..., 1]
    assert float(angle.abs().max()) <= 0.7 and float(angle.std()) > 0.2
    assert torch.allclose(angle[:, 0], angle[:, 1], atol=1e-6), "both frames of a sample turn alike"
    assert torch.equal(seen["joints"][..., [0, 2]], obs["joints"][..., [0, 2]])
    cloud, before = seen["cloud"], obs["cloud"]
    assert torch.equal(cloud[..., 2:], before[..., 2:]), "heights and colours stay"
    assert torch.allclose(cloud[..., :2].norm(dim=-1), before[..., :2].norm(dim=-1), atol=1e-5)
    cross = before[..., 0] * cloud[..., 1] - before[..., 1] * cloud[..., 0]
    by = torch.atan2(cross, (before[..., :2] * cloud[..., :2]).sum(-1))
    assert torch.allclose(by, angle[..., None].expand_as(by), atol=1e-3), "clouds turn by as much as the joint"
    assert torch.equal(seen["picture"], obs["picture"])
    moved = commands - actions
    expected = torch.zeros_like(moved)
    if command is not None:
        expected[..., command] = angle[:, :1]
    assert torch.allclose(moved, expected, atol=1e-6), "of the commands, positions of that joint alone turn"


@pytest.mark.parametrize("commands", [(None, None), (2, 0)])
def test_a_shifted_scene_keeps_what_the_hand_sees_around_it(obs: dict[str, torch.Tensor], commands: Any) -> None:
    """Joints 2 and 0 read the hand's x and y; their commands move where they are positions."""
    actions = torch.randn(40, 4, 3)
    before = {key: frames.clone() for key, frames in obs.items()}
    axes = [Place("joints", index, command) for index, command in zip((2, 0), commands, strict=True)]
    seen, planned = shifted(obs, actions, SPATIAL, axes, 0.2)
    shift = (seen["joints"] - obs["joints"])[..., [2, 0]]
    assert 0.15 < float(shift.abs().max()) <= 0.2 + 1e-6
    assert torch.allclose(shift[:, 0], shift[:, 1], atol=1e-6), "both frames of a sample move alike"
    assert abs(float(torch.corrcoef(shift[:, 0].T)[0, 1])) < 0.6, "the axes move apart"
    assert torch.equal(seen["joints"][..., 1], obs["joints"][..., 1])
    moved = seen["cloud"] - obs["cloud"]
    assert torch.allclose(moved[..., :2], shift[:, :, None].expand_as(moved[..., :2]), atol=1e-6)
    assert not moved[..., 2:].any(), "heights and colours stay"
    assert torch.equal(seen["picture"], obs["picture"])
    expected = torch.zeros_like(actions)
    if commands[0] is not None:
        expected[..., [2, 0]] = shift[:, :1]
    assert torch.allclose(planned - actions, expected, atol=1e-6)
    assert all(torch.equal(obs[key], before[key]) for key in obs), "what was given is not written into"


def test_shift_joints_are_names_of_at_most_three_axes() -> None:
    assert AugmentSettings(shift_joints="hand_x, hand_y", shift_m=0.1).reach == {"hand_x": 0.1, "hand_y": 0.1}
    for half in ({"shift_joints": "hand_x"}, {"shift_m": 0.1}):
        with pytest.raises(UserError, match=r"shift_joints and shift_m or .* belong together"):
            AugmentSettings(**half)
    for names in ("a,b,c,d", "a,,b"):
        with pytest.raises(UserError, match="expected up to three"):
            AugmentSettings(shift_joints=names, shift_m=0.1)


def test_a_turn_needs_joint_and_angle() -> None:
    for half in ({"turn_joint": "shoulder"}, {"turn_rad": 0.3}):
        with pytest.raises(UserError, match="belong together"):
            AugmentSettings(**half)
    with pytest.raises(UserError, match=r"joint_noise is -1\.0; expected at least 0"):
        AugmentSettings(joint_noise=-1.0)


def test_a_shifted_picture_is_the_picture_moved(obs: dict[str, torch.Tensor]) -> None:
    pixels, picture = 3, obs["picture"]
    seen = random_shift(picture, pixels)
    offsets = set()
    for sample, original in zip(seen, picture, strict=True):
        inner = sample[:, pixels:-pixels, pixels:-pixels]
        height, width = inner.shape[1:3]
        found = [
            (down, right)
            for down in range(2 * pixels + 1)
            for right in range(2 * pixels + 1)
            if torch.equal(inner, original[:, down : down + height, right : right + width])
        ]
        assert len(found) == 1, "both frames of a sample move alike"
        offsets.add(found[0])
    assert len(offsets) > 15


@pytest.mark.parametrize("positions", [True, False])
def test_what_leads_to_a_point_of_the_scene_leads_to_it_in_the_turned_and_larger_one(
    obs: dict[str, torch.Tensor], positions: bool
) -> None:
    """Joints 2, 0, 1 read the hand's x, y, z; commands lead to the cloud's first point, or half of the way there."""
    here = obs["joints"][:, -1, [2, 0, 1]]
    goal = obs["cloud"][:, -1, 0, :3]
    actions = torch.zeros(40, 4, 3)
    actions[..., [1, 2, 0]] = (goal if positions else 0.5 * (goal - here))[:, None]
    hand = Hand([("joints", 2), ("joints", 0), ("joints", 1)], (1, 2, 0), positions)
    angle, factor = torch.linspace(-3, 3, 40), torch.linspace(0.8, 1.2, 40)
    before = {key: frames.clone() for key, frames in obs.items()}
    seen, planned = hand.turned(obs, actions, SPATIAL, angle, factor)
    torch.testing.assert_close(seen["joints"][:, -1], obs["joints"][:, -1], msg="the hand stays")
    new_goal = seen["cloud"][:, -1, 0, :3]
    expected = new_goal if positions else 0.5 * (new_goal - here)
    torch.testing.assert_close(planned[..., [1, 2, 0]], expected[:, None].expand(-1, 4, -1), atol=1e-5, rtol=1e-5)
    far, was = ((cloud[:, -1, :, :3] - here[:, None]).norm(dim=2) for cloud in (seen["cloud"], obs["cloud"]))
    torch.testing.assert_close(far, factor[:, None] * was)
    heights = (seen["cloud"][:, -1, :, 2] - here[:, None, 2]) / (obs["cloud"][:, -1, :, 2] - here[:, None, 2])
    torch.testing.assert_close(heights, factor[:, None].expand_as(heights), atol=1e-3, rtol=1e-3)
    past = (seen["joints"] - seen["joints"][:, -1:])[:, 0, [2, 0, 1]].norm(dim=1)
    torch.testing.assert_close(past, factor * (obs["joints"] - obs["joints"][:, -1:])[:, 0].norm(dim=1))
    assert torch.equal(seen["cloud"][..., 3:], obs["cloud"][..., 3:]) and torch.equal(seen["picture"], obs["picture"])
    assert all(torch.equal(obs[key], before[key]) for key in obs), "what was given is not written into"


def test_scenes_are_turned_and_scaled_with_the_axes_of_a_hand_alone() -> None:
    assert AugmentSettings(shift_joints="x,y", scene_turn_rad=0.2).about_hand
    for wrong, words in (
        ({"scene_turn_rad": 0.2}, "belong together"),
        ({"shift_joints": "x,y", "scene_scale": 0.1}, "x, y and z for scene_scale"),
        ({"shift_joints": "x", "scene_turn_rad": 0.1}, "x and y for scene_turn_rad"),
    ):
        with pytest.raises(UserError, match=words):
            AugmentSettings(**wrong)


def test_colours_get_lighter_and_darker_within_their_range(obs: dict[str, torch.Tensor]) -> None:
    seen = augment(obs, KINDS, AugmentSettings(**OFF, colour_jitter=0.3))
    assert torch.equal(seen["cloud"][..., :3], obs["cloud"][..., :3])
    for before, after, top in (
        (obs["cloud"][..., 3:], seen["cloud"][..., 3:], 1.0),
        (obs["picture"], seen["picture"], 255.0),
    ):
        assert after.dtype == before.dtype and float(after.min()) >= 0 and float(after.max()) <= top
        ratio = after.float().flatten(1).mean(1) / before.float().flatten(1).mean(1)
        assert 0.68 < float(ratio.min()) < 0.95 and 1.05 < float(ratio.max()) < 1.32
    assert torch.equal(colour_jitter(obs["picture"], 0.0, 255.0), obs["picture"])
