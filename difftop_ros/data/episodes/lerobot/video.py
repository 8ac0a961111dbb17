"""Pictures into mp4 files and back, one after the other. Which episode lies where is layout.py's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from difftop_ros.data.errors import DatasetError

CODEC, CRF, KEY_FRAMES = "libx264", 18, 2  # every second frame stands alone, so that windows are quick to read


class VideoWriter:
    """Appends uint8 (h, w, 3) RGB frames of one size to a file; use as a context manager."""

    def __init__(self, path: Path, height: int, width: int, fps: int) -> None:
        """Raises DatasetError where imageio-ffmpeg is missing."""
        try:
            import imageio_ffmpeg
        except ImportError as error:
            raise DatasetError(f"videos need imageio-ffmpeg ({error}); pip install 'difftop_ros[lerobot]'") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pixels = "yuv444p" if height % 2 or width % 2 else "yuv420p"  # halved colour wants even sides
        self._writer = imageio_ffmpeg.write_frames(
            str(path), (width, height), fps=fps, codec=CODEC, pix_fmt_out=self.pixels, macro_block_size=1,
            quality=None, ffmpeg_log_level="error", output_params=["-crf", str(CRF), "-g", str(KEY_FRAMES)],
        )  # fmt: skip
        self._writer.send(None)

    def append(self, frame: np.ndarray) -> None:
        """Another picture."""
        self._writer.send(np.ascontiguousarray(frame))

    def close(self) -> None:
        """Completes the file."""
        self._writer.close()


class VideoReader:
    """Frames of one file by number; quick where they are asked for in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture: Any = None
        self._next = 0

    def frames(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """uint8 (h, w, 3) RGB of the frames start .. stop - 1. Raises DatasetError where the file ends before."""
        if self._capture is None or start < self._next:
            self.close()
            self._capture, self._next = cv2.VideoCapture(str(self._path)), 0
        while self._next < stop:
            wanted = self._next >= start
            if not self._capture.grab():
                raise DatasetError(f"'{self._path}' ends after {self._next} frames; {stop} are said to be in it")
            self._next += 1
            if wanted:
                yield cv2.cvtColor(self._capture.retrieve()[1], cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Closes the file; may be called twice."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
