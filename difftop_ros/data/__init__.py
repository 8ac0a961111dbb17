"""Bags, ingest, datasets and windows. Knows the contract and messages; knows no ROS node, policy or torch."""

from __future__ import annotations

import importlib
from typing import Any

# Loaded on first use: a command about bags needs no zarr, one about datasets no rosbags.
_WHERE = {
    "BagError": "errors",
    "DatasetError": "errors",
    "open_bag": "bags.reader",
    "find_bags": "bags.reader",
    "convert": "episodes.convert",
    "ingest": "episodes.ingest",
    "IngestReport": "episodes.report",
    "EpisodeDataset": "episodes.dataset",
    "WindowDataset": "episodes.windows",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
