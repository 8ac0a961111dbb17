"""ROS messages to arrays and back, one file per kind, the same for bags and live. Imports no ROS and no torch."""

from __future__ import annotations

import importlib
from typing import Any

# Loaded on first use: OpenCV and Open3D are needed only where pictures and clouds are.
_WHERE = {
    "ObservationError": "errors",
    "StaleObservation": "errors",
    "Observation": "pipeline",
    "ObservationPipeline": "pipeline",
    "register": "pipeline",
    "message_stamp": "types",
    "array_to_command": "commands",
    "command_to_array": "commands",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
