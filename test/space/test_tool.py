"""Limits of the tool: what is outside, the way back inside, and what may not go farther out."""

from __future__ import annotations

import numpy as np
import pytest

from difftop_ros.contract import Contract, load_contract
from difftop_ros.contract.run_limits import RunLimits, ToolLimits
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path
from difftop_ros.sim.tasks import PANDA_HOME
from difftop_ros.space import body_of
from difftop_ros.space.tool import tool_region

HOME = np.array([*PANDA_HOME.values(), 0.08])
FIXED = np.array([False] * 7 + [True])
LIMITS = [
    {"least": 0.32},
    {"most": 0.28},
    {"least": 0.25, "most": 0.31, "tilt": 0.2},
    {"keep_in": {"kind": "box", "centre": [0.4, 0.0, 0.3], "size": [0.1, 0.1, 0.1]}},
    {"keep_out": [{"kind": "cylinder", "name": "post", "centre": [0.40, 0.02, 0.3], "radius": 0.05, "length": 1.0}]},
]


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(share_path("config/panda_table.yaml"))


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: "+".join(limits))
def test_what_is_outside_is_brought_inside_and_the_rest_stays(limits: dict[str, object], contract: Contract) -> None:
    region = tool_region(ToolLimits.model_validate(limits), body_of(contract), contract)
    wanted = HOME + np.random.default_rng(0).normal(0, 0.1, (60, 8)) * ~FIXED
    out = (region.outside(wanted) > 0).any(1)
    assert out.any()
    found = region.inside(wanted, FIXED)
    assert (region.outside(found) <= 0).all()
    np.testing.assert_array_equal(found[~out], wanted[~out])
    np.testing.assert_array_equal(found[:, FIXED], wanted[:, FIXED])
    moved = np.abs(found - wanted)[out].max(1)
    assert np.median(moved) < 0.25, "about the nearest"


def test_a_way_may_come_back_from_outside_and_not_go_farther_out(contract: Contract) -> None:
    region = tool_region(ToolLimits(most=0.25), body_of(contract), contract)
    lower = region.inside(HOME[None], FIXED)[0]
    assert region.sentence(np.array([HOME, lower])) == ""
    higher = 2 * HOME - lower
    assert region.sentence(np.array([HOME, HOME])) == ""
    assert "mm above most 0.25" in region.sentence(np.array([HOME, lower, higher]))
    tilted = tool_region(ToolLimits(tilt=0.1), body_of(contract), contract)
    leaning = HOME.copy()
    leaning[5] += 0.3
    assert "rad leaning beyond tilt 0.1" in tilted.sentence(np.array([HOME, leaning]))


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, "names no limit"),
        ({"least": 0.3, "most": 0.2}, "expected the first below the second"),
        ({"tilt": 0.0}, "tilt"),
        ({"axis": [0, 0, 2], "tilt": 0.3}, "length 2"),
        ({"most": float("nan")}, "finite"),
    ],
)
def test_limits_that_are_none_are_refused(limits: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RunLimits.model_validate({"tool": limits})


def test_a_contract_without_a_tool_says_so(contract: Contract) -> None:
    robot = contract.to_dict()["robot"]
    del robot["tool_frame"]
    bare = Contract.model_validate({**contract.to_dict(), "robot": robot})
    with pytest.raises(UserError, match=r"robot\.tool_frame"):
        tool_region(ToolLimits(most=1.0), body_of(bare), bare)
