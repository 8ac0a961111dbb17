"""Observation pipeline, bags, ingest, datasets and windows. Knows the contract; knows no ROS node, policy or torch."""

from __future__ import annotations

import importlib
from typing import Any

# Loaded on first use: a policy node needs the pipeline alone, not zarr or rosbags.
_WHERE = {
    "BagError": "errors",
    "DatasetError": "errors",
    "ObservationError": "errors",
    "StaleObservation": "errors",
    "Observation": "pipeline",
    "ObservationPipeline": "pipeline",
    "message_stamp": "pipeline",
    "command_to_array": "joints",
    "open_bag": "bags",
    "find_bags": "bags",
    "convert": "convert",
    "ingest": "ingestion",
    "IngestReport": "report",
    "EpisodeDataset": "dataset",
    "WindowDataset": "windows",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
