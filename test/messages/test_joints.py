"""Joint states by joint name."""

from __future__ import annotations

import numpy as np
import pytest

from difftop_ros.contract import Contract
from difftop_ros.messages import ObservationError, ObservationPipeline
from difftop_ros.messages.joints import joint_state
from difftop_ros.messages.types import rosbags_types


def test_joints_by_name_and_missing_ones(contract: Contract) -> None:
    pipeline = ObservationPipeline(contract)
    state = joint_state(rosbags_types, ["x", "b", "a"], 0.0, np.array([9.0, 2.0, 1.0]))
    np.testing.assert_array_equal(pipeline.decode("joints", {"/joint_states": state}), np.array([1, 2], np.float32))
    state.name = ["x", "b", "c"]
    with pytest.raises(ObservationError, match=r"'/joint_states' lacks 'a'; the contract expects 2 joints"):
        pipeline.decode("joints", {"/joint_states": state})
    state.name = ["x", "b", "a"]
    state.position = np.array([0.0, np.nan, 1.0])
    with pytest.raises(ObservationError, match=r"not finite for \['b'\]"):
        pipeline.decode("joints", {"/joint_states": state})
