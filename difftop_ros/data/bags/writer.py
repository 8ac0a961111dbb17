"""Writes one episode's raw serialised messages to an mcap bag, in a thread of its own. No rclpy here.

Messages are stored as they came from DDS, with their definitions, so that a bag can be read where the package is not
installed. What reaches the writer is on disk within FLUSH_S even if the process is killed. Subscribing is
nodes/recorder/recorder.py's job.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from difftop_ros.data.bags.reader import EPISODE_FILE
from difftop_ros.errors import UserError
from difftop_ros.files import write_json

FLUSH_S = 0.5
CHECKSUM_AT = 9 + 24  # bytes into a chunk's record: opcode and length, two times, the uncompressed size
QUEUE_LENGTH = 4096  # messages; a full queue makes the subscriber wait instead of losing what DDS still holds


class RecorderError(UserError):
    """A recording cannot be made or continued."""


class Definitions:
    """Message definitions by type name: the common ones built in, others from the ROS installation's share folders."""

    def __init__(self, prefixes: Sequence[str | Path] = ()) -> None:
        """prefixes: installation prefixes to search, default AMENT_PREFIX_PATH."""
        given = list(prefixes) or [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
        self._prefixes = [Path(p) for p in given]
        self._store = get_typestore(Stores.ROS2_JAZZY)

    def of(self, kind: str) -> tuple[str, str]:
        """(definition text with everything it uses, RIHS01 hash) of a type. Raises RecorderError."""
        self._learn(kind)
        text, _ = self._store.generate_msgdef(kind, ros_version=2)
        return text, self._store.hash_rihs01(kind)

    def _learn(self, kind: str) -> None:
        if kind in self._store.fielddefs:
            return
        package, _, name = kind.split("/")
        files = [prefix / "share" / package / "msg" / f"{name}.msg" for prefix in self._prefixes]
        file = next((f for f in files if f.is_file()), None)
        if file is None:
            raise RecorderError(
                f"the definition of {kind} was not found in {[str(f) for f in files]}; source the workspace that has it"
            )
        found = get_types_from_msg(file.read_text(encoding="utf-8"), kind)
        for used in _types_used(found):
            if used not in found:
                self._learn(used)
        self._store.register(found)


def _types_used(definitions: Any) -> set[str]:
    used: set[str] = set()

    def walk(part: Any) -> None:
        if isinstance(part, str) and part.count("/") == 2:
            used.add(part)
        elif isinstance(part, (tuple, list)):
            for inner in part:
                walk(inner)

    for _, fields in definitions.values():
        walk([detail for _, detail in fields])
    return used


class EpisodeBag:
    """One bag folder being written. Not to be shared between threads, except that writing happens in its own."""

    def __init__(self, folder: Path, attributes: dict[str, Any], definitions: Definitions, *, compress: bool = True):
        """Create `folder` with episode.json (success null until closed). Raises RecorderError if it exists."""
        if folder.exists():
            raise RecorderError(f"'{folder}' exists already and is not overwritten; give another name or folder")
        self.folder = folder
        self.counts: dict[str, int] = {}
        self.attributes = {**attributes, "success": None, "complete": False}
        self._definitions = definitions
        self._connections: dict[str, Connection] = {}
        self._failure: Exception | None = None
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._writer.open()
            _write_checksums(self._writer.storage)
            self._save_attributes()
        except OSError as error:
            raise RecorderError(f"cannot record into '{folder}': {error.strerror}; give a writable folder") from error
        self._queue: queue.Queue[Any] = queue.Queue(QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._work, name="bag_writer", daemon=True)
        self._thread.start()

    def add_topic(self, topic: str, kind: str, qos: Sequence[Qos] = ()) -> None:
        """Announce a topic before its first message; again is allowed. Raises RecorderError for an unknown type."""
        if topic not in self.counts:
            text, digest = self._definitions.of(kind)
            self.counts[topic] = 0
            self._queue.put(("topic", topic, kind, text, digest, list(qos)))

    def write(self, topic: str, stamp_ns: int, raw: bytes) -> None:
        """Queue one serialised message received at `stamp_ns`. Raises RecorderError when writing has failed."""
        self._check()
        self._queue.put(("message", topic, stamp_ns, raw))
        self.counts[topic] += 1

    def close(self, success: bool | None, **more: Any) -> None:
        """Write everything, metadata.yaml and the mark; `more` is added to it, and may say that it is not complete.

        Raises RecorderError when something was not written.
        """
        self._queue.put(None)
        self._thread.join()
        if self._failure is None:
            try:
                self._writer.close()
                self.attributes.update({"complete": True, **more}, success=success, counts=self.counts)
                self._save_attributes()
            except OSError as error:
                self._failure = error
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise RecorderError(f"writing '{self.folder}' failed: {self._failure}; what was written before is kept")

    def _work(self) -> None:
        flushed = time.monotonic()
        while True:
            try:
                job = self._queue.get(timeout=FLUSH_S)
            except queue.Empty:
                job = ()
            if job is None:
                return
            # After a failure (a full disk) the queue is still drained, so that no subscriber waits for ever.
            if self._failure is None:
                try:
                    self._do(job)
                    if time.monotonic() - flushed > FLUSH_S:
                        self._flush()
                        flushed = time.monotonic()
                except Exception as error:
                    self._failure = error

    def _do(self, job: tuple[Any, ...]) -> None:
        if job and job[0] == "topic":
            _, topic, kind, text, digest, qos = job
            self._connections[topic] = self._writer.add_connection(
                topic, kind, msgdef=text, rihs01=digest, offered_qos_profiles=qos
            )
        elif job:
            _, topic, stamp, raw = job
            self._writer.write(self._connections[topic], stamp, raw)

    def _flush(self) -> None:
        """Close the pending chunk and hand it to the kernel; rosbags does so by itself only every megabyte."""
        storage: Any = self._writer.storage
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()

    def _save_attributes(self) -> None:
        write_json(self.folder / EPISODE_FILE, self.attributes)


def _write_checksums(storage: Any) -> None:
    """Let each chunk of an mcap storage have its checksum, which rosbags leaves at 0: damage is noticed by it."""
    close_chunk = storage.close_chunk

    def close_with_checksum() -> None:
        begin, checksum = storage.bio.tell(), zlib.crc32(storage.chunk.bio.getbuffer())
        close_chunk()
        end = storage.bio.seek(0, os.SEEK_CUR)
        storage.bio.seek(begin + CHECKSUM_AT)
        storage.bio.write(checksum.to_bytes(4, "little"))
        storage.bio.seek(end)

    storage.close_chunk = close_with_checksum


def next_folder(out: Path, name: str) -> Path:
    """The first of <out>/<name>_000, _001, … after all that exist."""
    numbers = [p.name.removeprefix(f"{name}_") for p in out.glob(f"{name}_*")] if out.is_dir() else []
    return out / f"{name}_{max([int(n) for n in numbers if n.isdigit()], default=-1) + 1:03d}"
