"""Costs added to any policy's plan: round a post, unchanged where nothing is near, refused where broken."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from difftop_ros.contract import Contract, load_contract
from difftop_ros.costs.kinds import CostOptions
from difftop_ros.costs.load import CostsError, load_costs, make_costs
from difftop_ros.costs.policy import CostsFailed, WithCosts
from difftop_ros.paths import share_path
from difftop_ros.plan_result import PlanResult

CART = """<robot name="cart"><link name="world"/><link name="x"/><link name="tip"/>
<joint name="x" type="prismatic"><parent link="world"/><child link="x"/><axis xyz="1 0 0"/>
<limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
<joint name="y" type="prismatic"><parent link="x"/><child link="tip"/><axis xyz="0 1 0"/>
<limit lower="-2" upper="2" effort="1" velocity="1"/></joint></robot>"""
STEPS = 12
POST = {"kind": "cylinder", "name": "post", "centre": [0.0, 0.02, 0.0], "radius": 0.05, "length": 1.0}


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    """A ball of 5 cm moved in the plane by two joints; a cloud of 64 points."""
    (tmp_path / "cart.urdf").write_text(CART)
    (tmp_path / "spheres.yaml").write_text("tip: [[0, 0, 0, 0.05]]\n")
    joint = {"unit": "m", "position": [-2, 2], "velocity": 1.0}
    return Contract.model_validate({
        "name": "cart", "rate_hz": 10, "control_rate_hz": 50,
        "robot": {"description": str(tmp_path / "cart.urdf"), "spheres": str(tmp_path / "spheres.yaml"),
                  "tool_frame": "tip"},
        "command": {"topic": "command", "type": "sensor_msgs/msg/JointState",
                    "joints": [{"name": "x", **joint}, {"name": "y", **joint}]},
        "observations": {
            "joints": {"kind": "joint_state", "topic": "joint_states", "joints": ["y", "x"]},
            "cloud": {"kind": "point_cloud", "topic": "points", "frame": "world", "points": 64},
        },
    })  # fmt: skip


class Straight:
    """A policy without a net: from where the cart is straight to (0.5, 0); keeps what it was shown."""

    def __init__(self, contract: Contract) -> None:
        self.contract, self.shown = contract, dict[str, np.ndarray]()
        self.net = None

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, obs: Any, **_: Any) -> PlanResult:
        """A plan of STEPS rows."""
        self.shown = dict(obs)
        start = obs["joints"][-1][[1, 0]].astype(float)
        share = np.linspace(0, 1, STEPS + 1)[1:, None]
        return PlanResult(actions=start + share * (np.array([0.5, 0.0]) - start), status="CONVERGED")


def seen(cloud: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Frames of the cart at (-0.5, 0)."""
    points = np.full((64, 3), 1.5, np.float32) if cloud is None else np.resize(cloud, (64, 3)).astype(np.float32)
    return {"joints": np.array([[0.0, -0.5]], np.float32), "cloud": points[None]}


def with_terms(contract: Contract, **terms: Any) -> WithCosts:
    return WithCosts(Straight(contract), make_costs({"terms": terms}, contract))


def least_distance(plan: np.ndarray, start: tuple[float, float] = (-0.5, 0.0)) -> float:
    """Of the ball's surface from the post's, along the straight ways between the steps [m]."""
    path = np.vstack([start, plan])
    fine = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(path)])
    return float(np.linalg.norm(fine - [0.0, 0.02], axis=1).min()) - 0.10


def test_a_plan_that_nothing_is_near_to_is_returned_as_it_is(contract: Contract) -> None:
    acting = with_terms(contract, post={"kind": "collision", "shapes": [{**POST, "centre": [0.0, 1.0, 0.0]}]})
    plain = Straight(contract).act(seen()).actions
    result = acting.act(seen())
    np.testing.assert_array_equal(result.actions, plain)
    assert result.term_names == ("post",) and result.term_costs == (0.0,)
    assert result.clearance == pytest.approx(1.0 - 0.10, abs=1e-3)


def test_round_a_known_post_and_to_the_same_end(contract: Contract) -> None:
    acting = with_terms(contract, post={"kind": "collision", "shapes": [POST], "margin": 0.03})
    straight = Straight(contract).act(seen()).actions
    result = acting.act(seen())
    assert least_distance(straight) < -0.05
    assert least_distance(result.actions) > 0.01
    np.testing.assert_allclose(result.actions[-1], [0.5, 0.0], atol=0.06)
    assert result.clearance > 0.01 and "tip" in result.clearance_between
    assert (np.abs(result.actions[:, 1]) <= 2.0).all()


def test_round_what_only_the_cloud_shows_and_the_policy_need_not_see_it(contract: Contract) -> None:
    angle = np.linspace(0, 2 * np.pi, 32)
    post = np.stack([0.05 * np.cos(angle), 0.02 + 0.05 * np.sin(angle), 0 * angle], axis=1)
    far = np.full((32, 3), 1.5)
    acting = with_terms(contract, seen={"kind": "collision", "cloud": "cloud", "margin": 0.04, "above": -1.0,
                                        "low": [-1, -1, -0.3], "high": [2, 2, 0.3]})  # fmt: skip
    result = acting.act(seen(np.vstack([post, far])))
    assert least_distance(result.actions) > 0.0
    shown = acting.policy.shown["cloud"][0]
    assert shown.shape == (64, 3) and (np.linalg.norm(shown[:, :2], axis=1) > 0.5).all()


def test_the_robots_own_points_and_what_it_holds_are_no_obstacles(contract: Contract) -> None:
    own = np.array([[-0.5, 0.06, 0.0], [-0.42, 0.0, 0.0]])  # on the ball; beside the tool
    acting = with_terms(contract, seen={"kind": "collision", "cloud": "cloud", "above": -1.0, "tool_margin": 0.1,
                                        "low": [-1, -1, -0.3], "high": [2, 2, 0.3]})  # fmt: skip
    far = np.full((1, 3), 1.5)
    np.testing.assert_array_equal(
        acting.act(seen(np.vstack([own, far]))).actions, Straight(contract).act(seen()).actions
    )


def test_turning_the_tool_weighs_more_than_moving_it() -> None:
    panda = load_contract(share_path("config/panda_table.yaml"))
    wall = {"kind": "collision", "shapes": [{"kind": "half_space", "point": [0, 0, 0]}]}
    for posture, expected in ((0.0, 7), (10.0, 3)):
        solve = WithCosts(Straight(panda), make_costs({"posture": posture, "terms": {"table": wall}}, panda)).second
        solve.stand(torch.tensor([0.0, -0.6, 0.0, -2.4, 0.0, 1.8, 0.8, 0.08]))
        weights = solve._weights.numpy()
        assert (np.abs(weights - 1.0) < 1e-3).sum() == expected and (weights > 0.99).all(), weights


def test_the_way_in_force_is_kept_while_the_other_is_no_better(contract: Contract) -> None:
    centred = {**POST, "centre": [0.0, 0.0, 0.0]}
    for side in (1.0, -1.0):
        acting = with_terms(contract, post={"kind": "collision", "shapes": [centred], "margin": 0.03})
        bent = Straight(contract).act(seen()).actions + np.outer(np.sin(np.linspace(0, np.pi, STEPS)), [0, 0.2 * side])
        plan = acting.act(seen(), warm_start=bent).actions
        assert side * plan[STEPS // 2 - 1, 1] > 0.05


def test_slower_lower_and_upright_are_costs_too(contract: Contract) -> None:
    terms = {"slow": {"kind": "joint_speed", "share": 0.5, "weight": 100.0}}
    slow = WithCosts(Straight(contract), make_costs({"iterations": 60, "terms": terms}, contract))
    speed = 10 * np.abs(np.diff(np.vstack([[-0.5, 0.0], slow.act(seen()).actions]), axis=0)).max()
    plain = 10 * np.abs(np.diff(Straight(contract).act(seen()).actions, axis=0)).max()
    assert speed < 0.55 < plain
    costs = make_costs(
        {"terms": {"low": {"kind": "tool_height", "most": -0.05}, "up": {"kind": "tool_tilt"}}}, contract
    )
    plans = torch.zeros(3, STEPS, 2)
    low, tilt = (term(plans, *(d.expand(3, *d.shape) for d in term.data)) for term in costs.terms.values())
    assert low.shape == tilt.shape == (3,) and float(low[0]) == pytest.approx(STEPS * 25.0, rel=1e-3)
    assert float(tilt[0]) > 1.0  # its z axis points up, and the axis it may lean from points down


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda plans, *data: plans.sum(), "expected (1,)"),
        (lambda plans, *data: plans[:, 0, 0] * torch.nan, "not finite"),
        (lambda plans, *data: 1 / 0, "ZeroDivisionError"),
        (lambda plans, *data: 3.0, "float"),
    ],
)
def test_a_broken_cost_is_named_and_gives_no_plan(contract: Contract, broken: Any, says: str) -> None:
    acting = with_terms(contract, mine={"kind": "smoothness"})
    term = type("Mine", (), {"data": (), "__call__": lambda self, *a: broken(*a)})()
    acting.costs.terms["mine"] = term
    with pytest.raises(CostsFailed, match="'mine'") as caught:
        acting.act(seen())
    assert says in str(caught.value)


def test_a_cost_that_fails_only_in_the_solve_is_a_sentence_too(contract: Contract) -> None:
    asked = []

    def call(self: Any, plans: torch.Tensor) -> torch.Tensor:
        asked.append(plans)
        if len(asked) > 1:
            raise IndexError("out of range")
        return plans[:, :, 1].sum(1)

    acting = with_terms(contract, mine={"kind": "smoothness"})
    acting.costs.terms["mine"] = type("Mine", (), {"data": (), "__call__": call})()
    with pytest.raises(CostsFailed, match="in the solve: IndexError: out of range"):
        acting.act(seen())


def test_a_cost_below_zero_is_heeded(contract: Contract) -> None:
    acting = with_terms(contract, mine={"kind": "smoothness"})
    upwards = type("Up", (), {"data": (), "__call__": lambda self, plans: -plans[:, :, 1].sum(1)})()
    acting.costs.terms["mine"] = upwards
    assert acting.act(seen()).actions[:, 1].mean() > 0.01


@pytest.mark.parametrize("made", [None, ZeroDivisionError("of theirs")])
def test_a_kind_of_another_package_that_makes_nothing_is_named(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    def make(self: Any, making: Any) -> Any:
        if made is not None:
            raise made

    monkeypatch.setattr("difftop_ros.costs.kinds.SmoothnessOptions.make", make)
    with pytest.raises(CostsError, match=r"terms\.a.*(make|of theirs)"):
        make_costs({"terms": {"a": {"kind": "smoothness"}}}, contract)


def test_a_kind_of_another_package_without_make_is_named(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(CostOptions):
        kind = "theirs"

    point = SimpleNamespace(name="theirs", load=lambda: Theirs)
    monkeypatch.setattr("difftop_ros.costs.load.entry_points", lambda group: [point])
    with pytest.raises(CostsError, match="'theirs' of another package makes no cost; give it a method 'make'"):
        make_costs({"terms": {"a": {"kind": "smoothness"}}}, contract)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected 'terms:'"),
        ("terms: {a: {kind: nothing}}", "a.kind is 'nothing'"),
        ("terms: {a: {kind: collision, margin: -1}}", "'margin' is -1"),
        ("terms: {a: {kind: collision, magin: 1}}", "unknown key 'magin'"),
        ("terms: {a: {kind: collision, weight: .nan}}", "'weight' is nan"),
        ("terms: {a: {kind: collision, cloud: camera}}", "'camera', which is no cloud"),
        ("terms: {a: {kind: collision, shapes: [{kind: box, centre: [0, 0, 0], size: [1, 1]}]}}", "size"),
        ("terms: {a: {kind: collision, shapes: [{kind: ball}]}}", "kind"),
        ("tether: 0\nterms: {a: {kind: smoothness}}", "'tether' is 0"),
        ("terms: {a: {kind: tool_tilt, most: 9}}", "'most' is 9"),
        ("terms: [1, 2]", "expected 'terms:'"),
        ("terms: {a: [", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(contract: Contract, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "costs.yaml"
    path.write_text(text)
    with pytest.raises(CostsError) as caught:
        load_costs(path, contract)
    assert says in str(caught.value) and "costs.yaml" in str(caught.value)


def test_a_contract_without_a_robot_says_what_to_add(contract: Contract) -> None:
    bare = Contract.model_validate({**contract.to_dict(), "robot": "words alone"})
    with pytest.raises(CostsError, match=r"robot\.description"):
        make_costs({"terms": {"a": {"kind": "collision"}}}, bare)
    moved = yaml.safe_load(contract.to_yaml())
    moved["robot"]["description"] = "nowhere.urdf"
    with pytest.raises(CostsError, match=r"nowhere\.urdf"):
        make_costs({"terms": {"a": {"kind": "collision"}}}, Contract.model_validate(moved))
