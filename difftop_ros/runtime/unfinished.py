"""A note on disk that a robot is being commanded, taken away when the run ends: one that is left tells of a kill.

A process that ends by kill -9 or a power cut sends no safe command, and whatever started it may start it again. The
note is a file with a lock that the kernel drops however the process ends. Which file, and what is done about it, is
the node's to say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path


class UnfinishedRun:
    """The note for one robot at `path`: `begin` and `end` go round a run, `left` tells of one that did not end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def left(self) -> str:
        """When and by which process the run began that did not end, '' if there is none or it still goes on."""
        try:
            found = os.open(self._path, os.O_RDWR)
        except OSError:
            return ""
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.read(found, 200).decode(errors="replace").strip() or "at an unknown time"
        except OSError:  # its process lives
            return ""
        finally:
            os.close(found)

    def begin(self) -> str:
        """Leave the note; a sentence to warn with if that cannot be, else ''. Another's that still goes on stays."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                text = f"at {time.strftime('%Y-%m-%d %H:%M:%S')} by process {os.getpid()}\n"
                os.ftruncate(held, 0)
                os.write(held, text.encode())
            except OSError:
                os.close(held)
                raise
        except OSError as error:
            return (
                f"'{self._path}' cannot be written ({error.strerror}), so that a start after kill -9 would move the "
                "robot without being asked; make its folder writable, or set ROS_HOME"
            )
        self._held = held
        return ""

    def end(self) -> None:
        """Take the note away; without one of ours, nothing."""
        if self._held is None:
            return
        with contextlib.suppress(OSError):  # a folder that has gone, or is read-only now: nothing is left to say
            self._path.unlink()
        os.close(self._held)
        self._held = None
