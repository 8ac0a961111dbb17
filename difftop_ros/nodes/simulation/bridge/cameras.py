"""A thread that draws pictures beside the physics, one moment at a time. What is published: publishers.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from difftop_ros.sim.interface import SimRenderer, SimWorld, Snapshot

Publish = Callable[[str, np.ndarray, np.ndarray, np.ndarray, int], None]


@dataclass(frozen=True)
class _Job:
    world: SimWorld
    snapshot: Snapshot
    cameras: tuple[str, ...]
    time_ns: int


class CameraThread:
    """At most one moment is drawn while the next waits: whoever is faster than the drawing is held up in `submit`.

    So a simulation that draws more than the machine can do runs slower as a whole, and loses no picture.
    """

    def __init__(self, publish: Publish) -> None:
        """publish(camera, colour, depth, world_from_optical, time_ns) is called in this object's thread."""
        self._publish = publish
        self._changed = threading.Condition()
        self._waiting: _Job | None = None
        self._busy = self._stopped = False
        self._failure: BaseException | None = None
        self.frames = 0
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)
        self._thread.start()

    def submit(self, world: SimWorld, cameras: tuple[str, ...], time_ns: int) -> None:
        """Has the world's present moment drawn; waits while an earlier one waits. Raises what drawing raised."""
        job = _Job(world, world.snapshot(), cameras, time_ns)
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None or self._failure or self._stopped)
            self._raise_failure()
            self._waiting = job
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until everything submitted is published. Raises what drawing raised."""
        with self._changed:
            self._changed.wait_for(lambda: (self._waiting is None and not self._busy) or self._failure or self._stopped)
            self._raise_failure()

    def stop(self) -> None:
        """Ends the thread after the moment it is drawing, and frees the renderer."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(5.0)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        renderers: dict[SimWorld, SimRenderer] = {}  # the present world's, or none yet
        try:
            while (job := self._next()) is not None:
                if job.world not in renderers:
                    _close_all(renderers)
                    renderers[job.world] = job.world.make_renderer()
                for camera in job.cameras:
                    colour, depth, pose = renderers[job.world].render(job.snapshot, camera)
                    self._publish(camera, colour, depth, pose, job.time_ns)
                    self.frames += 1
        except BaseException as error:  # handed to whoever submits next; the first one wins
            with self._changed:
                self._failure = error
                self._busy = False
                self._changed.notify_all()
        finally:
            _close_all(renderers)

    def _next(self) -> _Job | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting is not None or self._stopped)
            if self._stopped:
                return None
            job, self._waiting, self._busy = self._waiting, None, True
            self._changed.notify_all()
            return job


def _close_all(renderers: dict[SimWorld, SimRenderer]) -> None:
    for renderer in renderers.values():
        renderer.close()
    renderers.clear()
