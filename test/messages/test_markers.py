"""Markers: what is drawn lies where it is, and the message can be sent."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.contract.shapes import SHAPES
from difftop_ros.messages.markers import GREEN, Markers
from difftop_ros.messages.types import rosbags_types


def test_bodies_shapes_points_and_ways() -> None:
    stamp = rosbags_types("builtin_interfaces/msg/Time")()
    markers = Markers(rosbags_types, "base", stamp)
    markers.spheres(np.arange(9.0).reshape(3, 3), np.array([0.1, 0.2, 0.1]))
    markers.shapes(SHAPES.validate_python([
        {"kind": "box", "centre": [1, 2, 3], "size": [0.1, 0.2, 0.3]},
        {"kind": "cylinder", "centre": [0, 0, 0], "axis": [1, 0, 0], "radius": 0.1, "length": 0.5},
        {"kind": "half_space", "point": [0, 0, -1], "normal": [0, 0, -1]},
    ]))  # fmt: skip
    markers.points(np.zeros((4, 3)))
    markers.way("plan", np.ones((16, 3)), GREEN)
    markers.words("tip would touch 'wall'", np.array([0.0, 0.0, 1.0]))
    found = {marker.ns: marker for marker in markers.message().markers}
    assert all(marker.header.frame_id == "base" for marker in found.values())
    assert [len(found[f"body {i}"].points) for i in (0, 1)] == [2, 1] and found["body 1"].scale.x == 0.4
    assert (found["shape 0"].pose.position.y, found["shape 0"].scale.z) == (2.0, 0.3)
    turn = found["shape 1"].pose.orientation
    np.testing.assert_allclose(
        Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).apply([0, 0, 1]), [1, 0, 0], atol=1e-9
    )
    assert found["shape 2"].pose.position.z == -1.0
    assert len(found["in the way"].points) == 4 and len(found["plan"].points) == 16
    assert found["words"].text.startswith("tip")
