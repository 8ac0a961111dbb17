"""Every kind of cost: its derivative, its figures, what it does to a plan, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from difftop_ros.contract import Contract, load_contract
from difftop_ros.costs.kinds import OURS
from difftop_ros.costs.load import CostsError, make_costs
from difftop_ros.costs.policy import WithCosts
from difftop_ros.paths import share_path
from difftop_ros.plan_result import PlanResult
from difftop_ros.sim.tasks import PANDA_HOME
from difftop_ros.space import body_of

HOME = np.array([*PANDA_HOME.values(), 0.08])
BALL = {"kind": "cylinder", "centre": [0.45, 0.0, 0.3], "radius": 0.2, "length": 0.4}
ROOM = {"kind": "box", "centre": [0.5, 0.1, 0.3], "size": [0.2, 0.1, 0.1]}
# kind -> figures under which nearly every plan of the tests costs something
FIGURES: dict[str, dict[str, Any]] = {
    "collision": {"shapes": [BALL], "margin": 0.1},
    "self_collision": {"margin": 0.2, "rest": HOME.tolist()},
    "tool_height": {"least": 0.6, "most": 0.7},
    "tool_tilt": {"most": 0.05},
    "tool_speed": {"most": 0.05},
    "tool_region": {"keep_in": ROOM, "keep_out": [BALL], "margin": 0.02},
    "joint_speed": {"share": 0.05},
    "joint_acceleration": {"share": 0.02},
    "smoothness": {},
    "jerk": {},
    "near_plan": {},
}


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(share_path("config/panda_table.yaml"))


def made(contract: Contract, kind: str, **figures: Any) -> Any:
    return make_costs({"terms": {"it": {"kind": kind, **FIGURES[kind], **figures}}}, contract).terms["it"]


def test_every_kind_is_looked_at() -> None:
    assert set(FIGURES) == set(OURS)


@pytest.mark.parametrize("kind", FIGURES)
def test_derivatives_are_those_of_finite_differences(kind: str, contract: Contract) -> None:
    torch.manual_seed(3)
    term = made(contract, kind)
    if hasattr(term, "robot"):
        term.robot.to("cpu", torch.float64)
    if kind == "near_plan":
        term.take(torch.from_numpy(HOME).float() + 0.1 * torch.randn(5, 8))
    if hasattr(term, "position"):
        term.position = torch.from_numpy(HOME).float()
    data = [tensor.double().expand(2, *tensor.shape) for tensor in term.data]
    plans = (torch.from_numpy(HOME) + 0.15 * torch.randn(2, 5, 8, dtype=torch.float64)).requires_grad_()
    assert (term(plans, *data) > 0).all()
    assert torch.autograd.gradcheck(lambda a: term(a, *data), (plans,), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", FIGURES)
def test_weights_change_between_plans_and_are_in_proportion(kind: str, contract: Contract) -> None:
    term = made(contract, kind, weight=1.0)
    if kind == "near_plan":
        term.take(torch.from_numpy(HOME).float().expand(5, 8))
    torch.manual_seed(0)
    plans = torch.from_numpy(HOME).float() + 0.2 * torch.randn(1, 5, 8)
    first = term(plans, *(tensor[None] for tensor in term.data))
    term.weight = 2.5
    torch.testing.assert_close(term(plans, *(tensor[None] for tensor in term.data)), 2.5 * first)


def test_a_pose_that_touches_itself_costs_and_home_does_not(contract: Contract) -> None:
    term, body = made(contract, "self_collision", margin=0.01), body_of(contract)
    links = body.spheres.links
    pairs = {frozenset((links[i], links[j])) for i, j in term.pairs.tolist()}
    assert frozenset(("panda_hand", "panda_link1")) in pairs
    assert not any(len(pair) == 1 for pair in pairs)
    for two in (("panda_link3", "panda_link4"), ("panda_leftfinger", "panda_rightfinger")):
        assert frozenset(two) not in pairs, "neighbours"
    term.position = torch.from_numpy(HOME).float()
    data = [tensor[None] for tensor in term.data]
    assert float(term(torch.from_numpy(HOME).float().expand(1, 4, 8), *data)) == 0.0
    folded = HOME.copy()
    folded[[1, 3, 5]] = [-1.7, -3.0, 0.5]
    plan = torch.from_numpy(folded).float().expand(1, 4, 8).clone().requires_grad_()
    cost = term(plan, *data)
    assert float(cost.detach()) > 0.0
    (slope,) = torch.autograd.grad(cost.sum(), plan)
    away = plan.detach() - 0.02 * slope / slope.norm()
    assert float(term(away, *data)) < float(cost.detach())


def test_the_tools_speed_and_place_are_those_of_the_model(contract: Contract) -> None:
    body, rng = body_of(contract), np.random.default_rng(1)
    path = HOME + np.cumsum(rng.normal(0, 0.03, (6, 8)), axis=0)
    places = body.pose(path, "tcp")[:, :3, 3]
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1) * contract.rate_hz
    term = made(contract, "tool_speed", most=0.1)
    term.position = torch.from_numpy(path[0]).float()
    cost = term(torch.from_numpy(path[1:]).float()[None], *(tensor[None] for tensor in term.data))
    assert float(cost) == pytest.approx(np.square(np.maximum(speed / 0.1 - 1, 0)).sum(), rel=1e-3)
    room = made(contract, "tool_region", keep_out=[], margin=0.0)
    local = np.abs(places - ROOM["centre"]) - np.array(ROOM["size"]) / 2
    outside = np.linalg.norm(np.maximum(local, 0), axis=1)
    cost = room(torch.from_numpy(path).float()[None], *(tensor[None] for tensor in room.data))
    assert float(cost) == pytest.approx(np.square(outside / 0.01).sum(), rel=1e-3)


def test_jerk_is_the_mean_square_of_third_differences(contract: Contract) -> None:
    time = torch.arange(8) / contract.rate_hz
    plan = torch.zeros(1, 8, 8)
    plan[0, :, 2] = 2.0 * time**3  # 12 rad/s^3 in one of eight joints
    term = made(contract, "jerk", weight=1.0)
    assert float(term(plan, torch.ones(1))) == pytest.approx(0.5 * 144 / 8, rel=1e-2)
    assert float(term(plan[:, :3], torch.ones(1))) == 0.0


class Jumping:
    """A policy that wants another place at every plan."""

    net, horizon = None, 12

    def __init__(self, contract: Contract) -> None:
        self.contract, self.offset = contract, 0.2

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, obs: Any, **_: Any) -> PlanResult:
        """A straight way there."""
        share = np.linspace(0, 1, self.horizon)[:, None]
        goal = HOME + self.offset * np.array([1, 1, 1, 1, 1, 1, 1, 0])
        return PlanResult(actions=HOME + share * (goal - HOME), status="CONVERGED")


@pytest.mark.parametrize("backend", ["none", "eager"])
def test_a_plan_stays_near_the_one_in_force(contract: Contract, backend: str) -> None:
    policy = Jumping(contract)
    acting = WithCosts(policy, make_costs({"terms": {"near": {"kind": "near_plan", "weight": 20.0}}}, contract))
    if backend != "none":
        acting.second.prepare(backend, policy.horizon)
    obs = {"joints": HOME[None].astype(np.float32), "cloud": np.zeros((1, 256, 6), np.float32)}
    first = acting.act(obs)
    np.testing.assert_allclose(first.actions, policy.act(obs).actions, atol=1e-6)
    assert first.term_names == ("near",) and first.term_costs == (0.0,)
    policy.offset = -0.2
    second = acting.act(obs, warm_start=first.actions)
    wanted = policy.act(obs).actions
    apart = [np.abs(second.actions[:, :7] - plan[:, :7]).mean() for plan in (first.actions, wanted)]
    assert apart[0] < 0.5 * np.abs(first.actions - wanted)[:, :7].mean() and second.term_costs[0] > 0
    np.testing.assert_allclose(acting.act(obs).actions, wanted, atol=1e-6)  # none is in force after a hold


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"kind": "self_collision", "rest": [0.0, 1.0]}, r"terms.it: rest has 2 numbers; expected 8, one for each of"),
        ({"kind": "self_collision", "margin": 0}, r"terms.it: 'margin' is 0; input should be greater"),
        ({"kind": "tool_region"}, r"terms.it: neither keep_in nor keep_out is given; give a box to stay in"),
        ({"kind": "tool_region", "keep_in": BALL}, r"terms.it: 'keep_in.kind' is 'cylinder'; input should be 'box'"),
        ({"kind": "tool_speed", "most": -1}, r"terms.it: 'most' is -1; input should be greater"),
        ({"kind": "jerk", "weight": float("nan")}, r"terms.it: 'weight' is nan; input should be"),
        ({"kind": "near_plan", "share": 0.3}, r"terms.it: unknown key 'share'; expected some of \['weight'\]"),
    ],
)
def test_bad_figures_are_a_sentence(terms: dict[str, Any], sentence: str, contract: Contract) -> None:
    with pytest.raises(CostsError, match=sentence):
        make_costs({"terms": {"it": terms}}, contract)


def test_what_the_contract_lacks_is_a_sentence(contract: Contract) -> None:
    def without(robot: dict[str, Any], **joint: Any) -> Contract:
        data = contract.to_dict()
        data["robot"] = robot
        data["command"]["joints"] = [{**each, **joint} for each in data["command"]["joints"]]
        return Contract.model_validate(data)

    bare = {key: value for key, value in contract.to_dict()["robot"].items() if key != "spheres"}
    for kind, lacking, sentence in (
        ("self_collision", without(bare), "it: .* has no collision spheres; write them with"),
        ("tool_speed", without({**bare, "tool_frame": None}), "it: this cost needs robot.tool_frame"),
        ("joint_acceleration", without(bare, acceleration=None), "it: no joint of the contract has an acceleration"),
    ):
        with pytest.raises(CostsError, match=sentence):
            make_costs({"terms": {"it": {"kind": kind}}}, lacking)
