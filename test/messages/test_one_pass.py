"""Crop, voxels and colours against a plain account of them; messages opened when needed, and frames made once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difftop_ros.contract import Contract, parse_contract
from difftop_ros.messages import ObservationError, ObservationPipeline
from difftop_ros.messages.cloud.crop import cropped
from difftop_ros.messages.cloud.voxels import Voxels, means_of
from difftop_ros.messages.clouds import process_cloud
from difftop_ros.messages.points import Points, decode_point_cloud, point_cloud2
from difftop_ros.messages.types import LARGE, read_large, ros_types, rosbags_types
from difftop_ros.plan_result import STAGES
from difftop_ros.sim.desk import CAMERA, CAMERA_FRAME, CROP, FRAME, QUAT_XYZW, desk
from difftop_ros.stages import measured, stage

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TRANSFORM = {"from_frame": CAMERA_FRAME, "xyz": list(CAMERA), "quat_xyzw": list(QUAT_XYZW)}


def contract(**cloud: Any) -> Contract:
    section = {"kind": "point_cloud", "topic": "/points", "frame": FRAME, "points": 64, **cloud}
    return parse_contract(yaml.safe_dump({
        "name": "c", "rate_hz": 10, "control_rate_hz": 10,
        "command": {"topic": "/c", "type": "sensor_msgs/msg/JointState",
                    "joints": [{"name": "a", "position": [-1, 1], "velocity": 1}]},
        "observations": {"j": {"kind": "joint_state", "topic": "/j", "joints": ["a"]}, "cloud": section},
    }))  # fmt: skip


def plain_voxels(xyz: np.ndarray, size: float) -> dict[tuple[int, ...], list[int]]:
    cells = defaultdict(list)
    for index, cell in enumerate(np.floor(xyz.astype(np.float64) * (1.0 / size)).astype(np.int64).tolist()):
        cells[tuple(cell)].append(index)
    return dict(sorted(cells.items()))


@QUICK
@given(st.integers(1, 400), st.sampled_from([0.003, 0.05, 0.4, 30.0]), st.sampled_from([0.0, 1e3, 1e7, 3e37]),
       st.integers(0, 99))  # fmt: skip
def test_voxels_are_the_means_of_their_points_in_the_order_of_the_cells(
    n: int, size: float, far: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(n, 3)).astype(np.float32)
    xyz[:: max(n // 3, 1), seed % 3] += np.float32(far)
    voxels = Voxels(*xyz.T, size)
    if far < 1e7:  # beyond, a plain account's integers overflow
        cells = plain_voxels(xyz, size)
        expected = [xyz[members].astype(np.float64).mean(0) for members in cells.values()]
        np.testing.assert_allclose(voxels.means, expected, rtol=1e-6, atol=1e-6)
        chosen = rng.integers(0, len(cells), 5)
        members, begin = voxels.points_in(chosen)
        parts = np.split(members, begin[1:])
        assert [part.tolist() for part in parts] == [list(cells.values())[cell] for cell in chosen]
        values = rng.random((len(members), 2)).astype(np.float32)
        np.testing.assert_allclose(
            means_of(values, begin), [v.mean(0) for v in np.split(values, begin[1:])], rtol=1e-5
        )  # fmt: skip
    everything, begin = voxels.points_in(np.arange(len(voxels.means)))
    assert sorted(everything.tolist()) == list(range(n))
    assert len(begin) == len(voxels.means)


@QUICK
@given(st.integers(0, 99), st.booleans(), st.booleans())
def test_what_is_kept_is_what_a_plain_account_keeps_and_in_its_order(seed: int, turned: bool, crop: bool) -> None:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-2, 2, (500, 3)).astype(np.float32)
    xyz[rng.random((500, 3)) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
    low, high = np.sort(rng.uniform(-2, 2, (2, 3)), axis=0)
    low, high = low - 0.5, high + 0.5
    more = {"crop": {"min": low.tolist(), "max": high.tolist()}} if crop else {}
    obs = contract(transform=TRANSFORM, **more).observations["cloud"]
    frame = CAMERA_FRAME if turned else FRAME
    found = cropped(Points(*xyz.T, frame, lambda index: index[:, None]), obs.sources[0], obs)
    placed = xyz.astype(np.float64)
    with np.errstate(invalid="ignore"):
        if turned:
            placed = placed @ obs.sources[0].transform.rotation.T + CAMERA
        inside = np.isfinite(placed).all(1)
        near = np.zeros(len(xyz), bool)  # to a side of the crop: rounding decides
        if crop:
            inside &= ((placed >= low) & (placed <= high)).all(1)
            near = (np.minimum(np.abs(placed - low), np.abs(placed - high)) < 1e-5).any(1)
    kept = found.colour(np.arange(found.x.size))[:, 0]
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(np.setdiff1d(kept, np.flatnonzero(near)), np.flatnonzero(inside & ~near))
    np.testing.assert_allclose(np.stack([found.x, found.y, found.z], 1), placed[kept], atol=1e-5)


def test_organised_and_shuffled_points_of_any_layout_are_the_same_voxels_with_the_same_colours() -> None:
    seen = desk(96, 72)
    shuffled = np.random.default_rng(1).permutation(seen.depth.size)
    flat, colour = seen.xyz.reshape(-1, 3)[shuffled], seen.colour.reshape(-1, 3)[shuffled]
    messages = [
        point_cloud2(rosbags_types, seen.xyz, 0.0, CAMERA_FRAME, seen.colour),
        point_cloud2(rosbags_types, seen.xyz, 0.0, CAMERA_FRAME, seen.colour, row_padding=7, big_endian=True),
        point_cloud2(rosbags_types, flat, 0.0, CAMERA_FRAME, colour, order=("rgb", "z", "x", "y"), padding=4),
    ]
    crop = {"min": list(CROP[0]), "max": list(CROP[1])}
    obs = contract(transform=TRANSFORM, crop=crop, voxel_m=0.03, color=True, points=5000).observations["cloud"]
    frames = [process_cloud(decode_point_cloud(message, "/points", True), obs) for message in messages]
    assert 100 < len(np.unique(frames[0], axis=0)) < 5000
    for frame in frames[1:]:
        np.testing.assert_allclose(frame, frames[0], atol=2e-6)


@pytest.mark.parametrize("kind", LARGE)
def test_large_messages_are_views_and_hold_what_rclpys_hold(kind: str, seeded: np.random.Generator) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    from difftop_ros.nodes.topics import deserialize

    message = ros_types(kind)()
    message.header.frame_id, message.header.stamp.sec = "camera", 7
    message.data = seeded.integers(0, 256, 1000, dtype=np.uint8).tobytes()
    if kind.endswith("PointCloud2"):
        message.fields = [
            ros_types("sensor_msgs/msg/PointField")(name=name, offset=4 * i) for i, name in enumerate("xyz")
        ]
    raw = serialize_message(message)
    found, expected = read_large(raw, kind), deserialize_message(raw, ros_types(kind))
    assert found.header.frame_id == "camera" and found.header.stamp.sec == 7
    assert bytes(found.data) == bytes(expected.data) and not found.data.flags.owndata
    for wrong in (b"", raw[:11], raw[:40], b"\x00\x01\x00\x00" + bytes([255]) * 60):
        with pytest.raises(ObservationError, match=f"is not a {kind}"):
            deserialize(wrong, kind)


@pytest.fixture
def seeded() -> np.random.Generator:
    return np.random.default_rng(3)


def test_messages_are_opened_once_when_their_frame_is_asked_for_and_kept_over_overlapping_windows() -> None:
    opened: list[str] = []

    def open_it(ticket: list[str]) -> Any:
        opened.append(ticket[0])
        return messages[ticket[0]]

    messages = {name: point_cloud2(rosbags_types, np.full((50, 3), i, np.float32), 0.0, FRAME)
                for i, name in enumerate("abcdef")}  # fmt: skip
    tickets = {name: [name] for name in messages}  # what travels: opened when needed
    line = ObservationPipeline(contract(), open_it, 4)
    one = rosbags_types("sensor_msgs/msg/JointState")()
    one.name, one.position = ["a"], np.zeros(1)
    messages["j"] = one
    joint = ["j"]
    for window in ("ab", "ac", "bc", "ad", "cd"):
        for name in window:
            frame = line.observe({"/points": (0, tickets[name]), "/j": (0, joint)}, 0).frames["cloud"]
            assert (frame == "abcdef".index(name)).all()
    assert sorted(opened) == ["a", "b", "c", "d", "j"], "each once; those that no window has, never"
    line.forget()
    line.observe({"/points": (0, tickets["d"]), "/j": (0, joint)}, 0)
    assert opened[-2:] in (["j", "d"], ["d", "j"])


def test_stages_are_measured_where_asked_and_their_names_are_known() -> None:
    seen = desk(48, 36)
    message = point_cloud2(rosbags_types, seen.xyz, 0.0, CAMERA_FRAME, seen.colour)
    line = ObservationPipeline(contract(transform=TRANSFORM, voxel_m=0.02, color=True))
    with measured() as took:
        with stage("observe"):
            line.decode("cloud", {"/points": message})
        with measured() as apart:
            line.decode("cloud", {"/points": message})
    assert set(took) == {"observe", "point_cloud", "decode", "crop", "voxel", "sample", "colour"} <= set(STAGES)
    assert set(apart) == set(took) - {"observe"}
    assert took["observe"] >= took["point_cloud"] >= took["decode"] + took["crop"] + took["voxel"]
