"""What is planned and what is in the way, as visualization_msgs markers. What to show is the node's matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from difftop_ros.contract.shapes import AnyShape, Box, Cylinder
from difftop_ros.messages.types import Types

MARKER, ARRAY = "visualization_msgs/msg/Marker", "visualization_msgs/msg/MarkerArray"
CUBE, SPHERE_LIST, CYLINDER, LINE_STRIP, POINTS, TEXT = 1, 7, 3, 4, 8, 9  # Marker's own numbers
Colour = tuple[float, float, float, float]
BLUE, GREY, ORANGE, GREEN, RED = (0.1, 0.4, 0.9, 0.35), (0.5, 0.5, 0.5, 0.9), (0.93, 0.55, 0.1, 0.6), (
    0.1, 0.75, 0.3, 1.0), (0.9, 0.15, 0.1, 1.0)  # fmt: skip


class Markers:
    """Collects the markers of one message, all in `frame`. Lengths in metres."""

    def __init__(self, types: Types, frame: str, stamp: Any) -> None:
        self._types, self._frame, self._stamp = types, frame, stamp
        self._found: list[Any] = []

    def message(self) -> Any:
        """A MarkerArray; each marker replaces the one of its name in the message before."""
        array = self._types(ARRAY)()
        array.markers = self._found
        return array

    def _marker(self, name: str, kind: int, scale: Sequence[float], colour: Colour) -> Any:
        marker = self._types(MARKER)()
        marker.header.frame_id, marker.header.stamp = self._frame, self._stamp
        marker.ns, marker.id, marker.type, marker.action = name, 0, kind, 0
        marker.pose.orientation.w = 1.0
        self._put(marker.scale, scale)
        marker.color.r, marker.color.g, marker.color.b, marker.color.a = colour
        self._found.append(marker)
        return marker

    def _points(self, places: np.ndarray) -> list[Any]:
        return [self._put(self._types("geometry_msgs/msg/Point")(), place) for place in places]

    @staticmethod
    def _put(point: Any, place: Sequence[float] | np.ndarray) -> Any:
        point.x, point.y, point.z = (float(value) for value in place)
        return point

    def spheres(self, centres: np.ndarray, radii: np.ndarray) -> None:
        """Of the robot's body: centres (S, 3), radii (S,). One marker for each size."""
        for index, radius in enumerate(np.unique(radii)):
            marker = self._marker(f"body {index}", SPHERE_LIST, [2 * radius] * 3, BLUE)
            marker.points = self._points(centres[radii == radius])

    def shapes(self, shapes: Sequence[AnyShape]) -> None:
        """What must not be touched. Half-spaces are drawn as plates of 2 m."""
        for index, shape in enumerate(shapes):
            name = f"shape {index}"
            if isinstance(shape, Box):
                marker, place, turn = self._marker(name, CUBE, shape.size, ORANGE), shape.centre, shape.quat_xyzw
            elif isinstance(shape, Cylinder):
                wide = 2 * shape.radius
                marker = self._marker(name, CYLINDER, [wide, wide, shape.length], ORANGE)
                place, turn = shape.centre, _towards(shape.axis)
            else:
                marker = self._marker(name, CUBE, [2.0, 2.0, 0.002], ORANGE)
                place, turn = shape.point, _towards(shape.normal)
            self._put(marker.pose.position, place)
            self._put(marker.pose.orientation, turn[:3])
            marker.pose.orientation.w = float(turn[3])

    def points(self, places: np.ndarray) -> None:
        """Seen points (n, 3) that are in the way."""
        self._marker("in the way", POINTS, [0.01, 0.01, 0.01], ORANGE).points = self._points(places)

    def way(self, name: str, places: np.ndarray, colour: Colour) -> None:
        """A way of the tool (K, 3)."""
        self._marker(name, LINE_STRIP, [0.005, 0.0, 0.0], colour).points = self._points(places)

    def words(self, text: str, place: np.ndarray) -> None:
        """Text at a place (3,)."""
        marker = self._marker("words", TEXT, [0.0, 0.0, 0.04], RED if text else GREY)
        marker.text = text or " "
        self._put(marker.pose.position, place)


def _towards(axis: Sequence[float]) -> tuple[float, float, float, float]:
    """Quaternion x y z w that turns z to `axis`."""
    x, y, z, w = Rotation.align_vectors([axis], [(0.0, 0.0, 1.0)])[0].as_quat().tolist()
    return x, y, z, w
