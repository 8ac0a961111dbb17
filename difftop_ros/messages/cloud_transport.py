"""Clouds of point_cloud_transport: a CompressedPointCloud2 of zstd, zlib or draco back to what a PointCloud2 holds."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np

from difftop_ros.messages.errors import ObservationError
from difftop_ros.messages.types import raw_bytes

KEPT = ("header", "height", "width", "fields", "is_bigendian", "point_step", "row_step", "is_dense")


def uncompressed(message: Any, topic: str, max_mb: float) -> SimpleNamespace:
    """What the PointCloud2 held; its size is known and at most `max_mb` [MB] before it is made.

    Raises ObservationError, also where the format's decoder is not installed.
    """
    data, form = raw_bytes(message.compressed_data).tobytes(), str(message.format).lower()
    size = int(message.height) * max(int(message.row_step), int(message.width) * int(message.point_step))
    if size > max_mb * 1e6:
        raise ObservationError(
            f"cloud on '{topic}' is {size / 1e6:.0f} MB when uncompressed; max_mb is {max_mb:g}: raise it, or crop at "
            "the driver"
        )
    plain = SimpleNamespace(**{name: getattr(message, name) for name in KEPT})
    if "zstd" in form or "zlib" in form:
        plain.data = _inflated(data, "zstd" if "zstd" in form else "zlib", size, topic)
        return plain
    raise ObservationError(
        f"cloud on '{topic}' is compressed by {message.format!r:.40}, for which no decoder is here; use point_cloud_"
        "transport's 'zstd' or 'zlib', or the plain PointCloud2"
    )


def _inflated(data: bytes, form: str, size: int, topic: str) -> np.ndarray:
    try:
        if form == "zlib":
            plain = zlib.decompressobj().decompress(data, size + 1)
        else:
            import zstandard

            with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(data) as reader:
                plain = reader.read(size + 1)
    # Each library has its own kind of error; all mean the same.
    except Exception as error:
        raise ObservationError(f"cloud on '{topic}' is no whole {form} data ({error}); check its transport") from None
    if len(plain) != size:
        raise ObservationError(f"cloud on '{topic}' holds {len(plain)} bytes or more; its header says {size}")
    return np.frombuffer(plain, np.uint8)
