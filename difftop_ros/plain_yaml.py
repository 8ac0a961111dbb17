"""YAML from files that anybody may have written: bounded before it is built, plain data alone, every refusal by line.

A file of a few hundred bytes can ask for gigabytes (aliases of aliases) or end the interpreter (a million brackets), so
what is parsed is counted first. Not here: what the data must be; that is for the models that get them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from difftop_ros.errors import UserError

MOST_BYTES = 256 * 1024
MOST_NODES = 20_000  # values and keys, those behind an alias counted wherever it stands
MOST_NESTED = 32
LONGEST_NUMBER = 40  # characters
LONGEST_KEY = 200
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where it is built in
_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "merge", "map", "seq")}
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Document:
    """data: plain Python of it; root: the same as nodes, which know their lines (None for an empty document)."""

    data: Any
    root: yaml.Node | None

    def line(self, key: str) -> int:
        """The 1-based line of a key of the outermost mapping; 1 where there is no such key."""
        pairs = self.root.value if isinstance(self.root, yaml.MappingNode) else ()
        return next((name.start_mark.line + 1 for name, _ in pairs if name.value == key), 1)


class _Refused(Exception):
    """What is wrong, and the 1-based line."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def read_yaml(path: str | Path, what: str, error: type[UserError] = UserError) -> Document:
    """The YAML file at `path`. Raises `error`, which names `what` it is, the file and the line."""
    path = Path(path)
    try:
        if not path.is_file():  # a pipe or a device has no end
            kind = "is not a file" if path.exists() else "does not exist"
            raise error(f"{what} {str(path)!r} {kind}; give the path of a YAML file")
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as why:
        raise error(f"{what} {str(path)!r} cannot be read: {why}") from None
    try:
        return parse_yaml(raw.decode("utf-8"), str(path), error)
    except UnicodeDecodeError as why:
        if len(raw) > MOST_BYTES:
            raise error(_too_large(str(path))) from None
        line = raw.count(b"\n", 0, why.start) + 1
        raise error(f"{path}:{line}: byte {raw[why.start]:#04x} is no UTF-8; save the file as UTF-8") from None


def parse_yaml(text: str, source: str, error: type[UserError] = UserError) -> Document:
    """The same of `text`; `source` is named in errors."""
    if len(text) > MOST_BYTES:
        raise error(_too_large(source))
    try:
        _count(text)
        root = yaml.compose(text, Loader=_LOADER)
        if root is None:
            return Document(None, None)
        twice = list(_check(root))
        if twice:
            raise error("\n".join(f"{source}:{line}: {why}" for line, why in twice[:10]))
        return Document(SafeConstructor().construct_document(root), root)
    except _Refused as refused:
        raise error(f"{source}:{refused.line}: {refused}") from None
    except yaml.reader.ReaderError as why:
        line = text.encode(errors="replace").count(b"\n", 0, why.position) + 1
        raise error(f"{source}:{line}: not valid YAML: {why.reason}; remove the character") from None
    except yaml.YAMLError as why:
        mark = getattr(why, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise error(f"{where}: not valid YAML: {getattr(why, 'problem', why)}") from None
    # Of a text that no file can hold, a number that no type can, or a tag ('!!int' of nothing) that does not suit.
    except (ValueError, OverflowError, LookupError, AttributeError, TypeError) as why:
        raise error(f"{source}: not valid YAML: {' '.join(str(why).split())[:200]}") from None


def _too_large(source: str) -> str:
    return f"{source}: longer than {MOST_BYTES} bytes; that is no file of settings: check the path"


def _count(text: str) -> None:
    """Raise _Refused for a document too large, once its aliases are followed, or too deep."""
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []  # anchors of the collections around, and the count when they began
    count = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in opened]:
                raise _Refused(line, f"*{event.anchor:.40} contains itself; write out what is meant")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, began = opened.pop()
            if anchor:
                sizes[anchor] = count - began
        if len(opened) > MOST_NESTED:
            raise _Refused(line, f"nested deeper than {MOST_NESTED} levels; that is no file of settings")
        if count > MOST_NODES:
            raise _Refused(line, f"more than {MOST_NODES} values, aliases followed; that is no file of settings")


def _check(root: yaml.Node) -> Iterator[tuple[int, str]]:
    """(line, sentence) for each key that stands twice. Raises _Refused for what plain data do not have."""
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        line = node.start_mark.line + 1
        if node.tag not in _PLAIN:
            kind = "a date" if node.tag.endswith(":timestamp") else f"a value of tag {node.tag:.60}"
            raise _Refused(line, f"{kind}, which nothing here can be; put text in quotes, remove the tag")
        if isinstance(node, yaml.ScalarNode) and node.tag[-3:] in ("int", "oat") and len(node.value) > LONGEST_NUMBER:
            raise _Refused(line, f"a number of {len(node.value)} digits; write it with at most {LONGEST_NUMBER}")
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, _ in node.value:
                if key.tag != _MERGE and (not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str")):
                    raise _Refused(key.start_mark.line + 1, f"key {key.value!r:.40} is no text; put it in quotes")
                if len(key.value) > LONGEST_KEY:
                    raise _Refused(key.start_mark.line + 1, f"key {key.value!r:.40} is too long to be one")
                if key.value in keys:
                    yield key.start_mark.line + 1, f"key {key.value!r} stands twice; keep one"
                keys.add(key.value)
        below = [] if isinstance(node, yaml.ScalarNode) else node.value
        for child in [part for pair in below for part in (pair if isinstance(pair, tuple) else (pair,))]:
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)
