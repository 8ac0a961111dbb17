"""Clouds made of a depth picture and the colour picture that is registered to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from difftop_ros.contract import DepthCloudObs
from difftop_ros.contract.clouds import CloudSource
from difftop_ros.messages import ObservationError, images
from difftop_ros.messages.clouds import cloud_frame
from difftop_ros.messages.types import rosbags_types


def coloured_depth(**changes: Any) -> Any:
    fields = {
        "kind": "depth_cloud", "topic": "depth", "camera_info": "info", "color_image": "colour", "color": True,
        "frame": "camera", "points": 8,
    }  # fmt: skip
    return DepthCloudObs(**{**fields, **changes})


def test_a_depth_picture_takes_its_colours_from_the_registered_picture() -> None:
    depth = np.full((3, 4), 2.0, np.float32)
    depth[0] = np.nan
    picture = np.zeros((3, 4, 3), np.uint8)
    picture[1, 2], picture[2, 0] = (255, 0, 51), (0, 102, 0)
    K = np.array([[2.0, 0, 1.5], [0, 2.0, 1.0], [0, 0, 1]])
    messages = {
        "depth": images.depth_image(rosbags_types, depth, 0.0, "camera"),
        "info": images.camera_info(rosbags_types, K, 4, 3, 0.0, "camera"),
        "colour": images.image(rosbags_types, picture, 0.0, "camera", "bgr8"),
    }
    obs = coloured_depth()
    assert tuple(obs.topics) == ("depth", "info", "colour") and obs.streams == ("depth", "colour")
    cloud = cloud_frame(obs, messages)
    at = {(round(float(x), 3), round(float(y), 3)): rgb for x, y, _, *rgb in cloud}
    np.testing.assert_allclose(at[(0.5, 0.0)], [1, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(at[(-1.5, 1.0)], [0, 0.4, 0], atol=1e-6)
    np.testing.assert_allclose(at[(0.5, 1.0)], [0, 0, 0])
    messages["colour"] = images.compressed_image(rosbags_types, picture, 0.0, "camera", "png")
    again = cloud_frame(coloured_depth(color_type="sensor_msgs/msg/CompressedImage"), messages)
    np.testing.assert_array_equal(again, cloud)
    messages["colour"] = images.image(rosbags_types, picture[:2], 0.0, "camera")
    with pytest.raises(ObservationError, match=r"4 x 2, the depth on 'depth' 4 x 3.*must be registered"):
        cloud_frame(obs, messages)


def test_colour_of_depth_is_asked_for_where_it_lacks() -> None:
    with pytest.raises(ValueError, match="have no colour: give each the color_image"):
        coloured_depth(color_image=None)
    with pytest.raises(ValueError, match="color_image goes with a depth picture"):
        CloudSource(topic="points", color_image="colour")
    assert coloured_depth(color=False).topics.keys() == {"depth", "info"}
