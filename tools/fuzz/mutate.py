"""Changes of bytes and of plain data, drawn from a random generator: what a fuzzer does to something that is right."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = (
    0, 1, -1, 2, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**30, 0.0, -0.0, 0.5, 1e-320, 1e-9, 1e9, 1e308,
    float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
TEXTS = (
    "", " ", "a", "é", "ü/ü", "\x00", "\n", "x" * 300, "../../x", "/", "//x", "null", "1e308", "rgb8", "16UC1", "32FC1",
    "bayer_rggb8", "yuv422_yuy2", "jpeg", "png", "compressedDepth png", "header", "position", "\ud800",
)  # fmt: skip
WORDS = tuple(
    value.to_bytes(size, order, signed=value < 0)
    for value in (0, 1, -1, 4, 127, 128, 255, 256, 65535, 2**31 - 1)
    for size in (4, 8)
    for order in ("little", "big")
)  # fmt: skip
PIECES = (
    b"&a ", b"*a", b"<<: ", b"[", b"]", b"{", b"}", b"- ", b": ", b"? ", b"| ", b"> ", b"'", b'"', b"#", b"\t", b"\n",
    b"\n\n", b"---\n", b"...\n", b"!!int ", b"!!python/object:x ", b"2024-01-01", b"1e308", b".nan", b"-.inf", b"0x",
    b"9" * 50, b"~", b"yes", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"1:59:59", b"0b1", b"%YAML 9.9\n", b"!<x> ",
)  # fmt: skip


def changed_bytes(rng: random.Random, raw: bytes, pieces: tuple[bytes, ...] = WORDS) -> bytes:
    """`raw` with one to six changes: flipped bits, written, inserted, removed, repeated and moved stretches."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place, size = rng.randint(0, len(data)), rng.choice((1, 1, 2, 4, 8, 64, 1000))
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[place % len(data)] = rng.randrange(256)
        elif kind == 2:
            word = rng.choice(pieces)
            data[place : place + len(word)] = word
        elif kind == 3:
            data[place:place] = rng.choice(pieces)
        elif kind == 4:
            del data[place : place + size]
        elif kind == 5:
            data[place:place] = data[place : place + size]
        elif kind == 6:
            data[place:place] = rng.randbytes(size)
        elif rng.random() < 0.3:
            del data[place:]
    return bytes(data)


def changed_data(rng: random.Random, data: Any) -> Any:
    """Plain data with one to three changes anywhere: values, types, keys, lengths."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _changed_once(rng, data)
    return data


def _changed_once(rng: random.Random, data: Any) -> Any:
    if isinstance(data, dict) and data and rng.random() < 0.85:
        found, key = dict(data), rng.choice(list(data))
        kind = rng.random()
        if kind < 0.8:
            found[key] = _changed_once(rng, found[key])
        elif kind < 0.9:
            del found[key]
        else:
            found[rng.choice(TEXTS) if rng.random() < 0.5 else rng.choice(list(data))] = found.pop(key)
        return found
    if isinstance(data, list) and data and rng.random() < 0.8:
        place, kind = rng.randrange(len(data)), rng.random()
        if kind < 0.7:
            return [*data[:place], _changed_once(rng, data[place]), *data[place + 1 :]]
        return data[:place] + data[place + 1 :] if kind < 0.85 else data + data[place:]
    return _value(rng)


def _value(rng: random.Random) -> Any:
    kind = rng.randrange(6)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(TEXTS)
    return (None, True, [], {}, [_value(rng)], {"a": _value(rng)})[rng.randrange(6)] if kind < 5 else rng.gauss(0, 100)
