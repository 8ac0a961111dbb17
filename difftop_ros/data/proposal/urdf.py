"""Limits of joints out of a robot description (URDF). What is done with them: write.py."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Literal

from difftop_ros.errors import UserError


@dataclass(frozen=True)
class UrdfJoint:
    """Limits [rad | m], per s, None where none stand; follows: the joint it moves with by <mimic>, '' for none."""

    unit: Literal["rad", "m"]
    position: tuple[float, float] | None
    velocity: float | None
    continuous: bool
    follows: str


def urdf_joints(text: str) -> dict[str, UrdfJoint]:
    """The joints that move. Raises UserError for a text that is no URDF."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise UserError(f"the robot description is no URDF: {error}; correct what publishes it") from error
    found = {}
    for joint in root.findall("joint"):
        kind = joint.get("type")
        if kind not in ("revolute", "continuous", "prismatic"):
            continue
        limit, mimic = joint.find("limit"), joint.find("mimic")
        ends = None if limit is None else (_number(limit, "lower"), _number(limit, "upper"))
        found[str(joint.get("name"))] = UrdfJoint(
            "m" if kind == "prismatic" else "rad",
            (ends[0], ends[1]) if kind != "continuous" and ends and ends[0] < ends[1] else None,
            None if limit is None or not _number(limit, "velocity") > 0 else _number(limit, "velocity"),
            kind == "continuous",
            "" if mimic is None else str(mimic.get("joint")),
        )
    return found


def _number(element: ET.Element, name: str) -> float:
    try:
        return float(element.get(name, "0"))
    except ValueError:
        return 0.0
