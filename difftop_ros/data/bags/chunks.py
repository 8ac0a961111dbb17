"""The records of an mcap file, whatever is wrong in it: chunks are held against their checksums, and read round damage.

The mcap package reads a file as one stream and stops at the first wrong byte. Here a damaged chunk costs itself;
where not even the length of a record can be believed, reading goes on at the next chunk that the summary names.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel, Chunk, DataEnd, Message, Schema
from mcap.stream_reader import CRCValidationError, breakup_chunk, get_chunk_data_stream
from mcap.summary import Summary

KNOWN = {int(opcode) for opcode in Opcode} | set(range(0x80, 0x100))  # those above are anybody's own
HEAD = 9  # bytes before a record's content: its opcode and length


@dataclass(frozen=True)
class Damage:
    """A stretch that is not used: where it begins [byte], when its messages were received [ns], (0, 0) for unknown."""

    at: int
    begin_ns: int
    end_ns: int
    why: str


class McapFile:
    """An mcap file, read from begin to end; `damages` and `cut` (its end is missing) are those of the last reading.

    altered: no chunk is damaged, but the file as a whole does not have the checksum that it was written with.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.damages: list[Damage] = []
        self.cut = self.altered = False

    def records(self) -> Iterator[Schema | Channel | Message]:
        """Schemas, channels and messages in the order written; schemas and channels may come twice."""
        summary = self._summary()
        if summary is not None:  # the chunk that introduces a topic may be the damaged one
            yield from summary.schemas.values()
            yield from summary.channels.values()
        for at, opcode, content in self._pass(summary):
            if opcode == Opcode.CHUNK:
                yield from self._opened(at, content, lambda chunk: breakup_chunk(chunk, validate_crc=True))
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
                yield from self._guarded(at, lambda: [_parsed(opcode, content)])  # noqa: B023 - used at once

    def verify(self) -> McapFile:
        """Itself, after every chunk was decompressed and held against its checksum; messages are not looked at."""
        for at, opcode, content in self._pass(self._summary()):
            if opcode == Opcode.CHUNK:
                self._opened(at, content, lambda chunk: [get_chunk_data_stream(chunk, validate_crc=True)])
        return self

    def _opened(self, at: int, content: bytes, use: Callable[[Chunk], list[Any]]) -> list[Any]:
        chunks = self._guarded(at, lambda: [Chunk.read(ReadDataStream(BytesIO(content)))])
        return [part for chunk in chunks for part in self._guarded(at, lambda: use(chunk), chunk)]  # noqa: B023

    def _guarded(self, at: int, read: Callable[[], list[Any]], chunk: Chunk | None = None) -> list[Any]:
        try:
            return read()
        except CRCValidationError:
            why = "its checksum does not fit"
        except Exception as error:  # decompressors and parsers stumble over nonsense in many ways
            why = f"{error or type(error).__name__}"
        times = (chunk.message_start_time, chunk.message_end_time) if chunk else (0, 0)
        self.damages.append(Damage(at, *times, why))
        return []

    def _pass(self, summary: Summary | None) -> Iterator[tuple[int, int, bytes]]:
        """(offset, opcode, content) of each record."""
        self.damages, self.cut, self.altered = [], False, False
        ahead = {index.chunk_start_offset: index for index in summary.chunk_indexes} if summary else {}
        with self._file.open("rb") as stream:
            size, checksum = self._file.stat().st_size, zlib.crc32(stream.read(8))
            while True:
                at, head = stream.tell(), stream.read(HEAD)
                length = int.from_bytes(head[1:], "little")
                if len(head) < HEAD or head[0] not in KNOWN or length > size - at - HEAD:
                    rest = [offset for offset in ahead if offset > at]
                    self._lose(ahead, min(rest, default=size), "what stands there is no record")
                    if not rest:
                        self.cut = True
                        return
                    stream.seek(min(rest))
                    continue
                content = stream.read(length)
                if head[0] == Opcode.FOOTER:
                    self._lose(ahead, size, "it is no chunk")
                    return
                if head[0] == Opcode.DATA_END:
                    self._end(content, checksum)
                if head[0] == Opcode.CHUNK:
                    ahead.pop(at, None)
                yield at, head[0], content
                checksum = zlib.crc32(content, zlib.crc32(head, checksum))

    def _lose(self, ahead: dict[int, Any], until: int, why: str) -> None:
        """Chunks that the summary names before `until` and that were not met."""
        for offset in sorted(offset for offset in ahead if offset < until):
            index = ahead.pop(offset)
            self.damages.append(Damage(offset, index.message_start_time, index.message_end_time, why))

    def _end(self, content: bytes, checksum: int) -> None:
        for end in self._guarded(0, lambda: [DataEnd.read(ReadDataStream(BytesIO(content)))]):
            self.altered = end.data_section_crc not in (0, checksum) and not self.damages

    def _summary(self) -> Summary | None:
        try:
            with self._file.open("rb") as stream:
                return _read_summary(stream)
        except Exception:  # a footer that is cut off or damaged in any way: without it then
            return None


def _read_summary(stream: IO[bytes]) -> Summary | None:
    return make_reader(stream).get_summary()


def _parsed(opcode: int, content: bytes) -> Schema | Channel | Message:
    stream = ReadDataStream(BytesIO(content))
    if opcode == Opcode.MESSAGE:
        return Message.read(stream, len(content))
    return Schema.read(stream) if opcode == Opcode.SCHEMA else Channel.read(stream)


@lru_cache(maxsize=4096)
def _verified(file: Path, size: int, modified_ns: int) -> McapFile:
    return McapFile(file).verify()


def verified(file: Path) -> McapFile:
    """The file after one reading that held it against its checksums; once for each state of it in a process."""
    status = file.stat()
    return _verified(file, status.st_size, status.st_mtime_ns)


def told(damages: list[Damage]) -> str:
    """Damages as a clause: how many, and the first with its place, time and reason."""
    first = damages[0]
    when = f", received from {first.begin_ns / 1e9:.2f} to {first.end_ns / 1e9:.2f} s" if first.end_ns else ""
    more = f"; {len(damages) - 1} more like it" if len(damages) > 1 else ""
    return f"the messages of a chunk at byte {first.at}{when} are left out: {first.why}{more}"
