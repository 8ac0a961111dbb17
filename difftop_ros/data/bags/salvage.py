"""Reads what is left of recordings that are damaged or cut short: mcap without its footer, sqlite3 with missing pages.

How an mcap file is read round what is wrong in it, is in chunks.py. Whole recordings are read by reader.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from mcap.records import Channel, Message, Schema

from difftop_ros.data.bags.chunks import McapFile
from difftop_ros.data.bags.definitions import message_types
from difftop_ros.data.bags.topics import TopicInfo


class SalvageReader:
    """topics: topic -> TopicInfo of what could be read; empty when nothing could."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._definitions: dict[str, tuple[bool, str]] = {}  # type -> whether .msg, text
        self._types: dict[str, str] = {}
        counts: dict[str, int] = {}
        for topic, _, _ in self._all():
            counts[topic] = counts.get(topic, 0) + 1
        self.topics = {topic: TopicInfo(self._types[topic], count) for topic, count in counts.items()}
        self.types = message_types(tuple((name, *found) for name, found in self._definitions.items()))

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """(topic, receive time [ns], serialised message) in the order written."""
        return (entry for entry in self._all() if entry[0] in topics)

    def close(self) -> None:
        """Nothing stays open between reads."""

    def _all(self) -> Iterator[tuple[str, int, bytes]]:
        for file in self._files:
            yield from self._mcap(file) if file.suffix == ".mcap" else self._sqlite(file)

    def _mcap(self, file: Path) -> Iterator[tuple[str, int, bytes]]:
        schemas: dict[int, Schema] = {}
        topics: dict[int, str] = {}
        for record in McapFile(file).records():
            if isinstance(record, Schema):
                schemas[record.id] = record
                self._define(record.name, record.encoding, record.data.decode("utf-8", "replace"))
            elif isinstance(record, Channel) and record.schema_id in schemas:
                topics[record.id] = record.topic
                self._types[record.topic] = schemas[record.schema_id].name
            elif isinstance(record, Message) and record.channel_id in topics:
                yield topics[record.channel_id], record.log_time, record.data

    def _sqlite(self, file: Path) -> Iterator[tuple[str, int, bytes]]:
        connection = sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)
        try:
            # Lets sqlite open a file shorter than its header says.
            connection.execute("PRAGMA writable_schema=ON")
            rows = connection.execute("SELECT id, name, type FROM topics")
            topics = {row[0]: row[1:] for row in rows if isinstance(row[1], str) and isinstance(row[2], str)}
            self._types.update(topics.values())
            self._define_from_sqlite(connection)
            for topic, stamp, raw in connection.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED"):
                if topic in topics and isinstance(stamp, int) and isinstance(raw, bytes):  # sqlite checks no types
                    yield topics[topic][0], stamp, raw
        except sqlite3.DatabaseError:
            return
        finally:
            connection.close()

    def _define_from_sqlite(self, connection: sqlite3.Connection) -> None:
        try:
            rows = connection.execute(
                "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            ).fetchall()
        except sqlite3.DatabaseError:  # bags older than ROS 2 Iron have no such table
            return
        for name, encoding, text in rows:
            self._define(name, encoding, text)

    def _define(self, name: str, encoding: str, text: str) -> None:
        self._definitions.setdefault(name, (encoding == "ros2msg", text))
