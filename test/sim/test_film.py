"""Films, animations and contact sheets from recorded states; the state's way through its message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from difftop_ros.errors import UserError
from difftop_ros.sim import make_world
from difftop_ros.sim.film import Film, Take, write_gif, write_png, write_video


@pytest.fixture(scope="module")
def takes() -> list[Take]:
    """Two short takes: the arm goes to one side, and to the other."""
    world = make_world("lift")
    made = []
    for sign, success in ((1, True), (-1, False)):
        world.reset(7)
        start, states = world.joint_state()[0], []
        for step in range(12):
            world.step(start + np.array([0.05 * sign * step, *[0] * 7]), 0.05)
            states.append(world.snapshot())
        made.append(Take(f"take {sign}", success, states))
    world.close()
    return made


@pytest.fixture
def film() -> Iterator[Film]:
    world = make_world("lift", width=160, height=120)
    shown = Film(world, "overview")
    yield shown
    shown.close()
    world.close()


def test_contact_sheet_has_a_row_for_each_take(film: Film, takes: list[Take]) -> None:
    sheet = film.sheet(takes, moments=4, width=120)
    assert sheet.shape == (2 * (90 + 6), 4 * 120 + 6, 3)
    green, red = sheet[0, 0].astype(int), sheet[-1, -1].astype(int)
    assert green[1] > green[0] and red[0] > red[1]
    first, last = sheet[3:93, 3:123].astype(int), sheet[3:93, 363:483].astype(int)
    assert np.abs(first - last).mean() > 1  # the arm has moved
    with pytest.raises(UserError, match="nothing to draw"):
        film.sheet([Take("empty", False, [])])


@pytest.mark.parametrize("ffmpeg", [True, False])
def test_video_is_written_with_and_without_ffmpeg(
    film: Film, takes: list[Take], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ffmpeg: bool
) -> None:
    import cv2

    if not ffmpeg:
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no_ffmpeg"))
    path = tmp_path / "film.mp4"
    assert write_video(path, lambda: film.frames(takes, stay=3), 10.0) == ("h264" if ffmpeg else "mp4v")
    video = cv2.VideoCapture(str(path))
    assert round(video.get(cv2.CAP_PROP_FPS)) == 10
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 2 * (12 + 3)
    good, picture = video.read()
    assert good and picture.shape == (120, 160, 3)
    drawn = next(iter(film.frames(takes, 0)))[..., ::-1]
    assert np.abs(picture[40:].astype(int) - drawn[40:]).mean() < 12  # lossy, but the same picture


def test_a_video_that_cannot_be_written_is_one_sentence(film: Film, takes: list[Take], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_video(tmp_path / "no" / "folder.mp4", lambda: film.frames(takes, 0), 10.0)


def test_gif_keeps_its_limit(film: Film, takes: list[Take], tmp_path: Path) -> None:
    frames = list(film.frames(takes, 2))
    large = write_gif(tmp_path / "large.gif", frames, 10.0, 160, 10_000_000)
    small = write_gif(tmp_path / "small.gif", frames, 10.0, 160, large // 2)
    assert small <= large // 2
    write_png(tmp_path / "one.png", frames[0])
    from PIL import Image

    assert getattr(Image.open(tmp_path / "small.gif"), "n_frames", 1) > 5
    assert np.array_equal(np.asarray(Image.open(tmp_path / "one.png")), frames[0])
