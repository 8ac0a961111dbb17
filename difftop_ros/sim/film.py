"""Films, animations and contact sheets of episodes, drawn from recorded states. No ROS; recording is others' job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difftop_ros.errors import UserError
from difftop_ros.sim.interface import SimWorld, Snapshot

GREEN, RED, WHITE = (110, 220, 120), (245, 110, 100), (255, 255, 255)


@dataclass(frozen=True)
class Take:
    """One episode to show: its caption, whether it succeeded, and its states in order of time."""

    caption: str
    success: bool
    states: Sequence[Snapshot]


class Film:
    """Draws takes of one task's world from one camera. `close` frees the renderer.

    Raises SimError where nothing can draw, or for a camera that the model lacks.
    """

    def __init__(self, world: SimWorld, camera: str) -> None:
        """The world may be closed afterwards."""
        self.camera = camera
        self._renderer = world.make_renderer()

    def picture(self, state: Snapshot) -> np.ndarray:
        """One state, uint8 (height, width, 3) RGB."""
        return self._renderer.render(state, self.camera)[0]

    def frames(self, takes: Iterable[Take], stay: int) -> Iterator[np.ndarray]:
        """Captioned pictures of all takes; each take's last picture, with its result, `stay` times more."""
        for take in takes:
            picture = None
            for state in take.states:
                picture = self.picture(state)
                yield captioned(picture, take.caption)
            if picture is not None:
                yield from [captioned(picture, take.caption, take.success)] * stay

    def sheet(self, takes: Sequence[Take], moments: int = 6, width: int = 240) -> np.ndarray:
        """A contact sheet: one row for each take, `moments` pictures evenly over its time, framed in the result's
        colour, the last one captioned with it."""
        rows = []
        for take in takes:
            if not take.states:
                continue
            picks = np.linspace(0, len(take.states) - 1, moments).round().astype(int)
            cells = [_resized(self.picture(take.states[i]), width) for i in picks]
            cells[0] = captioned(cells[0], take.caption)
            cells[-1] = captioned(cells[-1], "", take.success)
            rows.append(_framed(np.concatenate(cells, axis=1), GREEN if take.success else RED))
        if not rows:
            raise UserError("no states were recorded, so there is nothing to draw")
        return np.concatenate(rows, axis=0)

    def close(self) -> None:
        """Frees the renderer; may be called twice."""
        self._renderer.close()


def captioned(picture: np.ndarray, text: str, success: bool | None = None) -> np.ndarray:
    """A copy with `text` at the top left and, unless None, the result at the bottom left."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(12, picture.shape[0] // 22)
    shown = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(shown), ImageFont.load_default(size)
    result = () if success is None else (("success", GREEN) if success else ("failed", RED),)
    for (words, ink), top in ((((text, WHITE)), 5), *((r, picture.shape[0] - size - 9) for r in result)):
        draw.text((7, top), words, ink, font, stroke_width=2, stroke_fill=(25, 25, 25))
    return np.asarray(shown)


def write_video(path: Path, make_frames: Callable[[], Iterable[np.ndarray]], fps: float) -> str:
    """H.264 that browsers play; 'mp4v' by OpenCV where ffmpeg is missing or fails. Returns the codec that was used.

    make_frames() begins the frames anew: uint8 (h, w, 3) RGB, all of one even size. Raises UserError when neither can
    write the file.
    """
    try:
        _write_h264(path, make_frames(), fps)
        return "h264"
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if not _write_mp4v(path, make_frames(), fps):
        raise UserError(f"'{path}' cannot be written: ffmpeg says {reason}, and OpenCV cannot either; check the folder")
    return "mp4v"


def _write_mp4v(path: Path, frames: Iterable[np.ndarray], fps: float) -> bool:
    import cv2

    writer = None
    for frame in frames:
        if writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(path), code, fps, (frame.shape[1], frame.shape[0]))
            if not writer.isOpened():
                return False
        writer.write(frame[..., ::-1])
    if writer is not None:
        writer.release()
    return writer is not None


def _write_h264(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    import imageio_ffmpeg

    writer = None
    try:
        for frame in frames:
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = imageio_ffmpeg.write_frames(
                    str(path), size, fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2,
                    output_params=["-crf", "24", "-preset", "veryfast", "-movflags", "+faststart", "-threads", "2"],
                )  # fmt: skip
                writer.send(None)
            writer.send(np.ascontiguousarray(frame))
    finally:
        if writer is not None:
            writer.close()


def write_gif(path: Path, frames: Sequence[np.ndarray], fps: float, width: int, most_bytes: int) -> int:
    """A looping GIF at most `most_bytes` large: smaller and with fewer colours until it is. Returns its size [B]."""
    from PIL import Image

    for scale, colours in ((1.0, 96), (1.0, 48), (0.8, 48), (0.6, 32), (0.4, 24)):
        small = [Image.fromarray(_resized(f, round(width * scale))) for f in frames]
        palette = small[len(small) // 2].quantize(colours, method=Image.Quantize.MEDIANCUT)
        # One palette and no dithering: what does not move then costs nothing.
        indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in small]
        period_ms = round(1000 / fps)
        indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=period_ms, loop=0, optimize=True)
        if path.stat().st_size <= most_bytes:
            break
    return path.stat().st_size


def write_png(path: Path, picture: np.ndarray) -> None:
    """A picture uint8 (h, w, 3) RGB as PNG."""
    from PIL import Image

    Image.fromarray(picture).save(path, optimize=True)


def _resized(picture: np.ndarray, width: int) -> np.ndarray:
    import cv2

    height = round(picture.shape[0] * width / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _framed(picture: np.ndarray, colour: tuple[int, int, int], width: int = 3) -> np.ndarray:
    framed = np.full((picture.shape[0] + 2 * width, picture.shape[1] + 2 * width, 3), colour, np.uint8)
    framed[width:-width, width:-width] = picture
    return framed
