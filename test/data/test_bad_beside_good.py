"""`difftop train` over ten good bags and one of every bad kind: it ends well, uses the ten, names the rest.

Each kind of bad bag is made as it happens; what must be said of it stands beside it: topic, time and remedy.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from difftop_ros.cli import main
from difftop_ros.data import EpisodeDataset
from difftop_ros.messages.images import camera_info

Entries = list[tuple[str, str, int, Any]]
ARRAY, IMAGE = "std_msgs/msg/Float64MultiArray", "sensor_msgs/msg/Image"
CONTRACT = """
name: looking_arm
rate_hz: 10
control_rate_hz: 50
command:
  topic: /command
  type: std_msgs/msg/Float64MultiArray
  joints:
    - {name: a, position: [-3.2, 3.2], velocity: 2}
    - {name: b, position: [-3.2, 3.2], velocity: 2}
observations:
  joints: {kind: joint_state, topic: /joint_states, joints: [a, b], max_age_ms: 100}
  picture: {kind: image, topic: /picture, resize: [12, 16], max_age_ms: 250}
  depth: {kind: depth_cloud, topic: /depth, camera_info: /camera_info, frame: camera, points: 16, max_age_ms: 250}
episode: {success_topic: /success}
"""
BEGIN_S = 1000.0


def looking(kit: Any, seed: int = 0) -> Entries:
    """Two seconds: joints and commands at 50 Hz, picture and depth at 10 Hz, a CameraInfo once."""
    types, rng, entries = kit.types, np.random.default_rng(seed), []
    info = camera_info(types, np.array([[16, 0, 8], [0, 16, 6], [0, 0, 1]]), 16, 12, BEGIN_S, "camera")
    entries.append(("/camera_info", "sensor_msgs/msg/CameraInfo", round(BEGIN_S * 1e9), info))
    for i in range(100):
        t = BEGIN_S + i / 50
        now = round(t * 1e9)
        at = np.array([0.3 * i / 50, 0.5])
        entries.append(("/joint_states", "sensor_msgs/msg/JointState", now, kit.joint_state(types, ["a", "b"], t, at)))
        order = types(ARRAY)()
        order.data = at + 0.03
        entries.append(("/command", ARRAY, now + 1000, order))
        if i % 5 == 0:
            colours = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            entries.append(("/picture", IMAGE, now + 2000, kit.image(types, colours, t, "camera")))
            depth = rng.uniform(0.5, 2.0, (12, 16)).astype(np.float32)
            entries.append(("/depth", IMAGE, now + 3000, kit.depth_image(types, depth, t, "camera")))
    mark = types("std_msgs/msg/Bool")()
    mark.data = True
    return [*entries, ("/success", "std_msgs/msg/Bool", now + 4000, mark)]


def on(entries: Entries, topic: str) -> list[Any]:
    return [message for name, _, _, message in entries if name == topic]


def shifted(message: Any, seconds: float) -> None:
    stamp = message.header.stamp
    stamp.sec, stamp.nanosec = divmod(stamp.sec * 10**9 + stamp.nanosec + round(seconds * 1e9), 10**9)


def two_clocks(entries: Entries) -> Entries:
    for message in on(entries, "/joint_states"):
        shifted(message, -0.7)
    return entries


def degrees(entries: Entries) -> Entries:
    for message in on(entries, "/joint_states"):
        message.position = np.degrees(message.position) + 30
    return entries


def wrap_around(entries: Entries) -> Entries:
    for message in on(entries, "/joint_states"):
        message.position = np.array([(2.9 + message.position[0] + np.pi) % (2 * np.pi) - np.pi, 0.5])
    return entries


def no_stamps(entries: Entries) -> Entries:
    for message in on(entries, "/joint_states"):
        shifted(message, -message.header.stamp.sec - message.header.stamp.nanosec / 1e9)
    return entries


def back_in_time(entries: Entries) -> Entries:
    for message in on(entries, "/joint_states")[60:]:
        shifted(message, -600)
    return entries


def no_picture(entries: Entries) -> Entries:
    return [entry for entry in entries if entry[0] != "/picture"]


def other_joints(entries: Entries) -> Entries:
    for message in on(entries, "/joint_states"):
        message.name = ["a", "c"]
    return entries


def too_few_values(entries: Entries) -> Entries:
    for message in on(entries, "/command"):
        message.data = np.zeros(3)
    return entries


def bayer(entries: Entries) -> Entries:
    for message in on(entries, "/picture"):
        message.encoding = "64FC7"
    return entries


def millimetres(entries: Entries) -> Entries:
    for message in on(entries, "/depth"):
        message.data = np.full(12 * 16, 1000.0, np.float32).view(np.uint8)
    return entries


def other_frame(entries: Entries) -> Entries:
    for message in on(entries, "/depth"):
        message.header.frame_id = "odom"
    return entries


def no_overlap(entries: Entries) -> Entries:
    return [(t, k, stamp + (10**11 if t == "/command" else 0), m) for t, k, stamp, m in entries]


def pause(entries: Entries) -> Entries:
    moved = []
    for topic, kind, stamp, message in entries:
        late = stamp > (BEGIN_S + 1) * 1e9
        if late and hasattr(message, "header"):
            shifted(message, 30)
        moved.append((topic, kind, stamp + (30 * 10**9 if late else 0), message))
    return moved


def old_info(entries: Entries) -> Entries:
    shifted(on(entries, "/camera_info")[0], -3600)
    return entries


def bad_middle(entries: Entries) -> Entries:
    on(entries, "/joint_states")[50].position[0] = np.nan
    on(entries, "/picture")[9].height = 5000
    on(entries, "/command")[70].data = np.array([np.inf, 0.0])
    return entries


# what spoils a good recording -> what must be said: topic, time, remedy. Bags that give no step:
USELESS: dict[Callable[[Entries], Entries], str] = {
    two_clocks: r"'/joint_states' are 0\.70 s behind those on '/command' from 0\.0 s on.*set the contract's clock",
    degrees: r"'/joint_states' reads .* from 0\.0 s on.*degrees\? Correct",
    wrap_around: r"'/joint_states' jumps by a whole turn .*first at 0\.8 s.*go on counting",
    no_stamps: r"all 100 header stamps on '/joint_states' are 0.*set the contract's clock",
    back_in_time: r"time on '/joint_states' jumps back by 60\d\.\d s after 1\.2 s.*record one bag",
    no_picture: r"'/picture' is missing; .*there are.*record it too",
    other_joints: r"JointState on '/joint_states' lacks 'b'.*start the driver.*at 0\.0 s",
    too_few_values: r"on '/command' has 3 values.*correct one.*at 0\.0 s",
    bayer: r"'/picture' has encoding '64FC7'.*at 0\.0 s",
    millimetres: r"'/depth' .*at 0\.0 s",
    other_frame: r"'/depth' is in frame 'odom'.*transform.*at 0\.0 s",
    no_overlap: r"do not overlap.*'/joint_states' 1000\.00\.\..*clock",
}
# Bags of which the rest is used, with a word about it:
USED: dict[Callable[[Entries], Entries], str] = {
    pause: r"silent, or a clock stepped, for 29\.\d s at 1\.\d s; the episode is split",
    old_info: r"",
    bad_middle: r"'/picture' is 16 x 5000 .*header is wrong.*at 0\.9 s",
}


def files_that_are_none(folder: Path, good: Path) -> dict[str, str]:
    """Bags spoilt as files, and what must be said of each."""
    (folder / "pointer.mcap").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    (folder / "noise.mcap").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "nothing.db3").write_bytes(b"")
    shutil.copytree(good, folder / "gone")
    next((folder / "gone").glob("*.mcap")).unlink()
    nothing = "nothing could be recovered .*record it again"
    gone = "storage files are missing: copy the whole folder"
    return {"pointer.mcap": "git lfs pull", "noise.mcap": nothing, "nothing.db3": nothing, "gone": gone}


def test_training_uses_the_good_and_names_the_bad(
    tmp_path: Path, kit: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = tmp_path / "bags"
    bags.mkdir()
    for number in range(10):
        kit.write_bag(bags / f"good_{number}", looking(kit, number))
    for spoil in (*USELESS, *USED):
        kit.write_bag(bags / spoil.__name__, spoil(looking(kit)))
    said = {spoil.__name__: text for spoil, text in {**USELESS, **USED}.items()}
    said |= files_that_are_none(bags, bags / "good_0")
    contract = tmp_path / "contract.yaml"
    contract.write_text(CONTRACT)
    words = ["train", "--bags", str(bags), "--contract", str(contract), "--out", str(tmp_path / "model"),
             "--dataset", str(tmp_path / "data"), "--policy", "bc", "--steps", "3", "--batch", "4", "--horizon", "4",
             "--device", "cpu", "--threads", "1"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["difftop", *words])
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, text in said.items():
        told = " ".join(line for line in lines if re.search(rf" {re.escape(name)}: ", line))
        assert re.search(text, told), f"{name}: {told}"
        assert ("skipped" in told) == (name not in {spoil.__name__ for spoil in USED}), told
    data = EpisodeDataset(tmp_path / "data")
    used = {Path(episode.attributes["bag"]).name for episode in data}
    assert used == {f"good_{number}" for number in range(10)} | {spoil.__name__ for spoil in USED}
    assert all(e.steps >= 19 for e in data if Path(e.attributes["bag"]).name.startswith("good"))
