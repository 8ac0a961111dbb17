"""What the bytes of a bag's messages mean: the definitions that it holds, those of ROS for what it lacks.

Making the classes of a definition takes longer than reading a short bag, so bags of the same definitions share them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

_IDL_RULE = "=" * 80 + "\n"


class MessageTypes:
    """Deserialises messages; made by `message_types`."""

    def __init__(self, definitions: tuple[tuple[str, bool, str], ...]) -> None:
        """definitions: (type, whether .msg or else IDL, text) of each. The first of a type counts."""
        self._store = get_typestore(Stores.EMPTY)
        for name, msg, text in definitions:
            self._define(name, msg, text)

    def _define(self, name: str, msg: bool, text: str) -> None:
        """Learn the type `name` and what it is made of.

        A text that is none (a service's, an empty one) teaches nothing: who needs it learns so when a message is read.
        """
        try:
            if msg:
                found = get_types_from_msg(text, name) if text.strip() else {}
            else:
                parts = [part.split("\n", 1)[1] for part in text.split(_IDL_RULE)[1:]] or [text]
                found = {k: v for part in parts for k, v in get_types_from_idl(part).items()}
            self._store.register({k: v for k, v in found.items() if k not in self._store.fielddefs})
        # The parsers fail in many ways on what is no definition.
        except Exception:
            return

    def _complete(self, name: str) -> None:
        """Take from ROS what `name` is made of and the bag does not define."""
        standard = _of_ros().fielddefs
        lacking: dict[str, Any] = {}
        known: set[str] = set()
        ahead = [name]
        while ahead:
            kind = ahead.pop()
            if kind in known:
                continue
            known.add(kind)
            definition = self._store.fielddefs.get(kind)
            if definition is None and kind in standard:
                definition = lacking[kind] = standard[kind]
            ahead += [used for _, detail in (definition[1] if definition else ()) for used in _named(detail)]
        if lacking:
            self._store.register(lacking)

    def deserialize(self, raw: bytes, kind: str) -> Any:
        """The message object. Raises whatever rosbags does for bytes or types that are none."""
        if kind not in self._store.cache:
            self._complete(kind)
        return self._store.deserialize_cdr(raw, kind)

    def first_field(self, kind: str) -> str:
        """The type of the first field of `kind` if that is a message, else ''. Raises KeyError for an unknown type."""
        self._complete(kind)
        fields = self._store.fielddefs[kind][1]
        return next(iter(_named(fields[0][1])), "") if fields else ""


def _named(detail: Any) -> list[str]:
    """The message type in a field's description: itself, or that of an array's items."""
    node, inside = detail
    if node == Nodetype.NAME:
        return [inside]
    return _named(inside[0]) if node in (Nodetype.ARRAY, Nodetype.SEQUENCE) else []


@lru_cache(maxsize=1)
def _of_ros() -> Any:
    return get_typestore(Stores.ROS2_JAZZY)


@lru_cache(maxsize=32)
def message_types(definitions: tuple[tuple[str, bool, str], ...]) -> MessageTypes:
    """The types of a bag with these definitions; see MessageTypes."""
    return MessageTypes(definitions)
