"""Finding and reading rosbag2 recordings (mcap, sqlite3, zstd) with their own message definitions.

One `Bag` for whole and for broken recordings; how broken ones are read is salvage.py's job. What a message means is the
pipeline's job, what a recording becomes is episodes/'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader

from difftop_ros.data.bags.chunks import McapFile, told, verified
from difftop_ros.data.bags.definitions import MessageTypes, message_types
from difftop_ros.data.bags.salvage import SalvageReader
from difftop_ros.data.bags.topics import TopicInfo, topic_finding
from difftop_ros.data.errors import BagError
from difftop_ros.errors import UserError
from difftop_ros.plain_yaml import read_yaml

STORAGE_SUFFIXES = (".mcap", ".db3")
EPISODE_FILE = "episode.json"
COMPRESSED = tuple(f"{suffix}.zstd" for suffix in STORAGE_SUFFIXES)
LFS_POINTER = b"version https://git-lfs"


class _Reader(Protocol):
    topics: dict[str, TopicInfo]
    types: MessageTypes

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]: ...
    def close(self) -> None: ...


class _WholeReader:
    """A recording in good order, read by rosbags."""

    def __init__(self, paths: list[Path]) -> None:
        with contextlib.ExitStack() as opened:
            readers = [opened.enter_context(Reader(path)) for path in paths]
            self._close = opened.pop_all().close
        self._connections = [c for reader in readers for c in reader.connections]
        self.topics: dict[str, TopicInfo] = {}
        definitions = []
        for connection in self._connections:
            known = self.topics.get(connection.topic, TopicInfo(connection.msgtype, 0))
            self.topics[connection.topic] = TopicInfo(connection.msgtype, known.count + connection.msgcount)
            form, text = connection.msgdef
            if form != MessageDefinitionFormat.NONE:
                definitions.append((connection.msgtype, form == MessageDefinitionFormat.MSG, text))
        self.types = message_types(tuple(definitions))

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        by_owner: dict[int, list[Any]] = {}
        for connection in self._connections:
            if connection.topic in topics:
                by_owner.setdefault(id(connection.owner), []).append(connection)
        streams = [found[0].owner.messages(found) for found in by_owner.values()]
        for connection, stamp, raw in heapq.merge(*streams, key=lambda entry: entry[1]):
            yield connection.topic, stamp, raw

    def close(self) -> None:
        self._close()


class Bag:
    """An open recording. topics: topic -> TopicInfo; salvaged: '' or a sentence on what is used of a broken one.

    cut: its end is missing, as opposed to damage within it. Use as a context manager, through `open_bag`.
    """

    def __init__(self, path: Path, reader: _Reader, salvaged: str = "", cut: bool = False) -> None:
        self.path = path
        self.name = path.name if path.is_dir() else path.stem
        self.topics = reader.topics
        self.salvaged, self.cut = salvaged, cut
        self._reader = reader

    @property
    def message_count(self) -> int:
        """Messages over all topics."""
        return sum(info.count for info in self.topics.values())

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, bytes]]:
        """(topic, receive time [ns], serialised message) in the order recorded; nothing is kept in memory."""
        entries = self._reader.messages(self.topics if topics is None else topics)
        for count in itertools.count():
            try:
                entry = next(entries, None)
            # Damage inside a file shows as whatever the decompressor or the parser stumbles over.
            except Exception as error:
                sentence = f"bag '{self.path}' is damaged after {count} messages ({error}); record it again"
                raise BagError(sentence) from error
            if entry is None:
                return
            yield entry

    def deserialize(self, raw: bytes, topic: str) -> Any:
        """The message object of `raw` from `topic`. Raises BagError when the bytes are not one."""
        try:
            return self._reader.types.deserialize(raw, self.topics[topic].type)
        # Each broken field makes rosbags fail in its own way; all mean the same to the user.
        except Exception as error:
            raise BagError(
                f"bag '{self.path}' holds a message on '{topic}' that is not a {self.topics[topic].type} ({error}); "
                "record it again"
            ) from error

    def lacks_header(self, topic: str) -> bool:
        """Whether, by the definitions in the bag, the topic's messages do not begin with a std_msgs/Header."""
        try:
            return self._reader.types.first_field(self.topics[topic].type) != "std_msgs/msg/Header"
        except KeyError:
            return False

    def require_headers(self, topics: Iterable[str]) -> None:
        """Raises BagError naming a topic whose messages have no header, and so no time of their own."""
        for topic in topics:
            if self.lacks_header(topic):
                raise BagError(
                    f"messages on '{topic}' ({self.topics[topic].type}) have no header to take their time from; let "
                    "their kind of observation say header = False, or set the contract's clock to 'receive'"
                )

    def require(self, wanted: Mapping[str, str]) -> None:
        """Check that every topic -> type of `wanted` is there with messages. Raises BagError naming the first lack."""
        for topic, kind in wanted.items():
            sentence = topic_finding(topic, kind, {t: info.type for t, info in self.topics.items()})
            if sentence:
                remedy = "" if topic in self.topics else ": record it too, or correct the contract"
                raise BagError(f"bag '{self.path}': {sentence}{remedy}")
            if not self.topics[topic].count:
                raise BagError(f"bag '{self.path}' has no message on '{topic}'; was its publisher running?")

    def mark(self) -> dict[str, Any]:
        """What the recorder wrote beside the bag (success, seed, …), or an empty dictionary."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return read_mark(folder)

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._reader.close()


def read_mark(folder: Path) -> dict[str, Any]:
    """The recorder's episode.json in `folder`; {} when there is none. Raises BagError when it is not a JSON object."""
    path = folder / EPISODE_FILE
    if not path.is_file():
        return {}
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BagError(f"'{path}' cannot be read ({error}); correct or delete it") from None
    if not isinstance(mark, dict):
        raise BagError(f"'{path}' holds {mark!r:.60}; expected a JSON object such as {{\"success\": true}}")
    return mark


def storage_files(path: Path) -> list[Path]:
    """The .mcap / .db3 files of a bag folder, or the file itself."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.iterdir() if p.is_file() and p.suffix in STORAGE_SUFFIXES)


def _compressed_files(path: Path) -> list[Path]:
    """The .mcap.zstd / .db3.zstd files of a bag folder, or the file itself."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    return [file for file in files if file.name.endswith(COMPRESSED)]


def open_bag(path: str | Path) -> Bag:
    """Open a bag folder or a single .mcap / .db3 file; of a broken one what is readable. Raises BagError."""
    path = Path(path)
    if not path.exists():
        raise BagError(f"bag '{path}' does not exist; give a rosbag2 folder or a .mcap or .db3 file")
    described = path.is_dir() and (path / "metadata.yaml").is_file()
    packed = [] if described else _compressed_files(path)
    if packed and not (path.is_dir() and storage_files(path)):
        raise BagError(
            f"'{packed[0]}' is compressed and has no metadata.yaml beside it to say so: copy the whole folder, or "
            f"unpack it with 'zstd -d {packed[0].name}'"
        )
    if path.is_file() and path.suffix not in STORAGE_SUFFIXES:
        raise BagError(f"'{path}' is not a bag; expected a rosbag2 folder or a file ending in .mcap or .db3")
    files = storage_files(path)
    for file in files:
        with file.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise BagError(f"'{file}' is a git-lfs pointer and not the recording: run 'git lfs pull'")
    if not files and not described:
        raise BagError(f"'{path}' is not a bag: it has no metadata.yaml, .mcap or .db3; give a rosbag2 folder")
    bag = _open(path, files, described)
    if not bag.message_count:
        raise BagError(f"bag '{path}' is empty: no message on any of its {len(bag.topics)} topics; record it again")
    return bag


def _open(path: Path, files: list[Path], described: bool) -> Bag:
    attempts = ([[path]] if described else []) + ([files] if files else [])
    if described and files and not _compressed(path):
        attempts.reverse()  # a metadata.yaml that differs from the files in QoS would hide their messages
    cause: Exception | None = None
    for paths in attempts:
        try:
            bag = Bag(path, _WholeReader(paths))
            checked = [(file, verified(file)) for file in files if file.suffix == ".mcap"]
            if any(found.damages or found.cut for _, found in checked):
                return _around_damage(path, files, checked)
            altered = [file.name for file, found in checked if found.altered]
            if altered:
                bag.salvaged = f"bag '{path}' is not as it was written: the checksum of {altered} does not fit"
            if described and (lacking := _lacking(path, bag.message_count)):
                bag.salvaged, bag.cut = "; ".join(filter(None, [bag.salvaged, lacking])), True
            if bag.message_count or not files:
                return bag
            # A summary may leave its channels out; they are in the file all the same.
            inside = SalvageReader(files)
            return Bag(path, inside) if inside.topics else bag
        # Broken files make rosbags, its sqlite and its YAML fail in many ways; each is a reason to salvage.
        except Exception as error:
            cause = cause or error
    if not files:
        raise BagError(f"bag '{path}' cannot be read: {cause}; its storage files are missing: copy the whole folder")
    reader = SalvageReader(files)
    if not reader.topics:
        raise BagError(
            f"bag '{path}' is broken ({cause}) and nothing could be recovered from {[f.name for f in files]}; "
            "record it again"
        )
    return Bag(path, reader, f"bag '{path}' was cut short ({cause}); {_recovered(reader)}", cut=True)


def _around_damage(path: Path, files: list[Path], checked: list[tuple[Path, McapFile]]) -> Bag:
    """What is left of a bag whose files are whole but for damage within them."""
    where = "; ".join(f"in {file.name} {told(found.damages)}" for file, found in checked if found.damages)
    reader = SalvageReader(files)
    cut = any(found.cut for _, found in checked)
    ends = "" if not cut else " and cut short"
    return Bag(path, reader, f"bag '{path}' is damaged{ends}: {where}; {_recovered(reader)}", cut)


def _recovered(reader: SalvageReader) -> str:
    count = sum(info.count for info in reader.topics.values())
    return f"{count} messages on {len(reader.topics)} topics were recovered"


def _lacking(path: Path, count: int) -> str:
    """What metadata.yaml names and the folder does not have, as a sentence; '' where it is as told or tells nothing."""
    try:
        data = read_yaml(path / "metadata.yaml", "metadata", BagError).data
        told = data["rosbag2_bagfile_information"]
        missing = [name for name in told["relative_file_paths"] if not (path / Path(name).name).is_file()]
        more = int(told["message_count"]) - count
    except (UserError, LookupError, TypeError, ValueError, OSError):
        return ""
    if missing:
        return f"bag '{path}' lacks {missing}, which its metadata.yaml names: copy the whole folder"
    return f"bag '{path}' lacks {more} of the messages that its metadata.yaml counts" if more > 0 else ""


def _compressed(path: Path) -> bool:
    """Whether metadata.yaml speaks of a compression of files or messages, which the files themselves do not tell."""
    text = (path / "metadata.yaml").read_text(encoding="utf-8", errors="replace").lower()
    return re.search(r"^\s*compression_mode:\s*[\"']?(file|message)", text, re.MULTILINE) is not None


def find_bags(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """All bags at or below `paths`, sorted within each, none twice. Raises BagError when a path holds none."""
    found: list[Path] = []
    # one path alone counts as itself: taken letter by letter, a text would have the whole disk searched
    for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        below = _bags_below(path) if path.is_dir() else [path]
        if not below:
            raise BagError(f"no bag in '{path}'; expected rosbag2 folders or .mcap or .db3 files in it")
        found += below
    return list(dict.fromkeys(p.absolute() for p in found))


def _bags_below(folder: Path) -> list[Path]:
    if (folder / "metadata.yaml").is_file() or (folder / EPISODE_FILE).is_file():
        return [folder]
    files = [*storage_files(folder), *_compressed_files(folder)]
    # What a killed recorder left has no metadata.yaml: its files are named after the folder.
    if files and all(f.name.startswith(folder.name) for f in files):
        return [folder]
    below = [bag for child in sorted(folder.iterdir()) if child.is_dir() for bag in _bags_below(child)]
    return sorted(files + below)


def fingerprint(path: Path) -> str:
    """Changes when the recording does: names, sizes and times of its files, and the text of its small ones."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    for file in files:
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        if file.name in ("metadata.yaml", EPISODE_FILE):
            digest.update(file.read_bytes())
    return digest.hexdigest()
