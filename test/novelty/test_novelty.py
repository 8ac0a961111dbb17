"""Novelty: what is like the demonstrations passes, what is wrong with a sensor does not; files that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from difftop_ros.novelty import PLAN, Novelty, NoveltyError, aspects

KINDS = {"joints": "vector", "cloud": "cloud", "camera": "image"}
Frame = dict[str, np.ndarray]


def scene(angle: float, heap: float, random: np.random.Generator) -> Frame:
    """An arm of one visible joint over a heap, seen as a cloud (96, 6) and as a picture (32, 40, 3)."""
    along = random.uniform(0, 0.5, 64)
    arm = np.stack([along * np.cos(angle), along * np.sin(angle), 0.3 + 0.2 * along], axis=1)
    lump = np.array([0.4, heap, 0.02]) + 0.02 * random.uniform(-1, 1, (32, 3))
    colour = np.repeat([[0.8, 0.8, 0.7], [0.9, 0.1, 0.1]], [64, 32], axis=0) + 0.02 * random.normal(size=(96, 3))
    rows, columns = np.mgrid[:32, :40]
    picture = np.full((32, 40, 3), 90.0)
    picture[np.abs(columns - 20 - 20 * angle * rows / 32) < 4] = 200.0
    picture[(np.abs(columns - 20 - 60 * heap) < 3) & (rows > 26)] = [230.0, 30.0, 30.0]
    return {
        "joints": np.array([angle, 0.5 + 0.1 * angle], np.float32),
        "cloud": np.concatenate([np.concatenate([arm, lump]), colour], axis=1).astype(np.float32),
        "camera": (picture + random.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8),
    }


def demonstrations(count: int, seed: int) -> tuple[list[Frame], np.ndarray]:
    random = np.random.default_rng(seed)
    frames, owner = [], []
    for number in range(count):
        heap = random.uniform(-0.2, 0.2)
        for share in np.linspace(0, 1, 20):
            frames.append(scene(0.6 * (heap / 0.2) * share + 0.02 * random.normal(), heap, random))
            owner.append(number)
    return frames, np.array(owner)


@pytest.fixture(scope="module")
def novelty() -> Novelty:
    return Novelty.fit(KINDS, *demonstrations(40, 0))


@pytest.fixture(scope="module")
def unseen() -> list[Frame]:
    return demonstrations(10, 1)[0]


def changed(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Frame], Frame]:
    return lambda frame: {**frame, key: change(frame[key].copy())}


def shuffled(cloud: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([random.permutation(cloud[:, axis]) for axis in range(cloud.shape[1])], axis=1)


def moved(offset: tuple[float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda cloud: cloud + np.float32([*offset, 0, 0, 0])


WRONG: dict[str, Callable[[Frame], Frame]] = {
    "shuffled cloud": changed("cloud", shuffled),
    "black cloud": changed("cloud", lambda cloud: cloud * np.float32([1, 1, 1, 0, 0, 0])),
    "one point": changed("cloud", lambda cloud: np.repeat(cloud[:1], len(cloud), axis=0)),
    "camera 10 cm up": changed("cloud", moved((0, 0, -0.1))),
    "camera 10 cm ahead": changed("cloud", moved((-0.1, 0, 0))),
    "joints off": changed("joints", lambda joints: joints + np.float32(0.3)),
}
WRONG_PICTURE: dict[str, Callable[[Frame], Frame]] = {
    "black": changed("camera", lambda picture: picture * 0),
    "white": changed("camera", lambda picture: picture * 0 + 255),
    "noise": changed("camera", lambda picture: np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)),
    "half covered": changed("camera", lambda picture: np.where(np.arange(40)[:, None] < 20, 0, picture)),
    "colours exchanged": changed("camera", lambda picture: picture[..., ::-1]),
}


def test_demonstrations_that_were_held_out_are_usual(novelty: Novelty, unseen: list[Frame]) -> None:
    assert np.mean([novelty.score(frame).value < 1 for frame in unseen]) >= 0.97


@pytest.mark.parametrize("what", [*WRONG, *WRONG_PICTURE])
def test_what_is_wrong_with_one_sensor_is_novel(what: str, novelty: Novelty, unseen: list[Frame]) -> None:
    scores = [novelty.score({**WRONG, **WRONG_PICTURE}[what](frame)) for frame in unseen[::5]]
    assert min(score.value for score in scores) > 1.2
    assert np.median([score.value for score in scores]) > 2
    if what != "joints off":  # of which cameras cannot say whose fault it is
        assert {score.of.split()[0] for score in scores} == {"camera" if what in WRONG_PICTURE else "cloud"}


def test_a_folder_keeps_it(novelty: Novelty, unseen: list[Frame], tmp_path: Path) -> None:
    novelty.save(tmp_path / "novelty.safetensors")
    other = Novelty.load(tmp_path / "novelty.safetensors", KINDS, unseen[0])
    for frame in [*unseen[:5], WRONG["black cloud"](unseen[0])]:
        assert other.score(frame).value == pytest.approx(novelty.score(frame).value, rel=1e-3)
        assert other.score(frame).of == novelty.score(frame).of


def lacks_a_part(tensors: dict[str, np.ndarray]) -> None:
    del tensors["cloud colours.scale"]


def lacks_an_aspect(tensors: dict[str, np.ndarray]) -> None:
    for name in [name for name in tensors if name.startswith("cloud colours.")]:
        del tensors[name]


def has_other_sizes(tensors: dict[str, np.ndarray]) -> None:
    tensors["joints values.mean"] = np.zeros(5, np.float32)


def is_not_finite(tensors: dict[str, np.ndarray]) -> None:
    tensors["joints values.frames"][3] = np.nan


@pytest.mark.parametrize("damage", [lacks_a_part, lacks_an_aspect, has_other_sizes, is_not_finite])
def test_a_file_that_does_not_fit_is_refused(
    damage: Callable[[dict[str, np.ndarray]], None], novelty: Novelty, unseen: list[Frame], tmp_path: Path
) -> None:
    path = tmp_path / "novelty.safetensors"
    novelty.save(path)
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path)
    with pytest.raises(NoveltyError, match="difftop model calibrate"):
        Novelty.load(path, KINDS, unseen[0])


def test_what_is_no_file_of_ours_is_refused(unseen: list[Frame], tmp_path: Path) -> None:
    (tmp_path / "novelty.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(NoveltyError, match="cannot be read"):
        Novelty.load(tmp_path / "novelty.safetensors", KINDS, unseen[0])


def test_one_episode_is_not_enough() -> None:
    with pytest.raises(NoveltyError, match="two or more"):
        Novelty.fit(KINDS, *demonstrations(1, 0))


def test_what_a_plan_costs_counts_where_it_is_known(unseen: list[Frame], tmp_path: Path) -> None:
    frames, owner = demonstrations(40, 0)
    costs = np.random.default_rng(2).gamma(4.0, 0.01, (len(frames), 1))
    kinds = {**KINDS, PLAN: PLAN}
    fitted = Novelty.fit(kinds, ({**frame, PLAN: cost} for frame, cost in zip(frames, costs, strict=True)), owner)
    fitted.save(tmp_path / "novelty.safetensors")
    read = Novelty.load(tmp_path / "novelty.safetensors", KINDS, unseen[0])
    for novelty in (fitted, read):
        usual = [novelty.score(frame).value for frame in unseen]
        assert [novelty.score({**frame, PLAN: costs[7]}).value for frame in unseen] == usual
        dear = novelty.score({**unseen[0], PLAN: np.array([1.0])})
        assert dear.of == "plan cost" and dear.value > 4


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("cloud", np.zeros((1, 3), np.float32)),
        ("cloud", np.zeros((7, 6), np.float32)),
        ("cloud", np.random.default_rng(0).uniform(-1, 1, (5000, 3)).astype(np.float32)),
        ("image", np.zeros((2, 3, 3), np.uint8)),
        ("image", np.zeros((481, 641, 1), np.uint8)),
        ("vector", np.zeros(1, np.float32)),
    ],
)
def test_statistics_are_finite_at_any_size(kind: str, frame: np.ndarray) -> None:
    assert all(np.isfinite(values).all() and values.ndim == 1 for values in aspects(kind, frame).values())


@pytest.fixture(scope="module")
def panda() -> Iterator[tuple[Any, list[Frame]]]:
    """The shipped policy and what it sees in an episode of its own making."""
    from difftop_ros.paths import share_path
    from difftop_ros.policies import load_policy
    from difftop_ros.sim.robot import SimulatedRobot

    policy = load_policy(share_path("models/panda_lift"))
    robot = SimulatedRobot(policy.contract)
    robot.reset(1_000_000)
    frames, warm = [], None
    for _ in range(24):
        frames.append(robot.observe())
        warm = policy.act({key: frame[None] for key, frame in frames[-1].items()}, warm_start=warm).actions
        robot.apply(warm[0], 1 / policy.contract.rate_hz)
    robot.close()
    yield policy, frames


def test_the_shipped_policy_is_used_to_its_own_scene(panda: tuple[Any, list[Frame]]) -> None:
    policy, frames = panda
    found = [policy.act({key: part[None] for key, part in frame.items()}).novelty for frame in frames]
    assert min(found) >= 0 and np.mean(np.array(found) < 1) >= 0.9 and max(found) < 3


@pytest.mark.parametrize("what", WRONG)
def test_the_shipped_policy_tells_what_is_wrong(what: str, panda: tuple[Any, list[Frame]]) -> None:
    policy, frames = panda
    wrong = [{key: part[None] for key, part in WRONG[what](frame).items()} for frame in frames[::4]]
    results = [policy.act(frame) for frame in wrong]
    assert min(result.novelty for result in results) > 1.2, [(r.novelty, r.novelty_of) for r in results]
