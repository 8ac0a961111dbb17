"""Limits of a run: plans keep them whatever the policy wants, along their way, and commands do between plans too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from difftop_ros.contract import Contract, load_contract
from difftop_ros.contract.run_limits import RunLimits
from difftop_ros.costs.keep import Kept, slowed
from difftop_ros.costs.load import CostsError, make_costs
from difftop_ros.costs.policy import WithCosts
from difftop_ros.paths import share_path
from difftop_ros.plan_result import PlanResult
from difftop_ros.safety import CommandGate, GateSettings, MotionLimits, MotionShaper, Proposal, make_checks
from difftop_ros.safety.guard import make_guard
from difftop_ros.sim.tasks import PANDA_HOME

HOME = np.array([*PANDA_HOME.values(), 0.08])
LIMITS = {"velocity": 0.3, "acceleration": 0.8, "tool": {"least": 0.15, "most": 0.35}}


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(share_path("config/panda_table.yaml"))


class Wild:
    """A policy that wants elsewhere at every plan, fast."""

    net = None

    def __init__(self, contract: Contract, seed: int) -> None:
        self.contract, self._rng = contract, np.random.default_rng(seed)
        self.wanted = np.empty(0)

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, obs: dict[str, np.ndarray], **_: object) -> PlanResult:
        """16 steps towards a pose about home."""
        low, high = np.array(self.contract.command.bounds())
        goal = np.clip(HOME + self._rng.normal(0, 0.4, 8), low, high)
        share = np.linspace(0, 1, 17)[1:, None]
        start = obs["joints"][-1]
        self.wanted = start + share * (goal - start)
        return PlanResult(actions=self.wanted, status="CONVERGED")


def test_a_way_is_slowed_and_not_changed() -> None:
    rng = np.random.default_rng(0)
    step = np.array([0.1, 0.05])
    for _ in range(50):
        path = np.cumsum(rng.normal(0, 0.1, (9, 2)), axis=0)
        found = slowed(path, step)
        assert (np.abs(np.diff(np.vstack([path[:1], found]), axis=0)) <= step + 1e-12).all()
        fine = np.concatenate([np.linspace(a, b, 200) for a, b in itertools.pairwise(path)])
        assert np.linalg.norm(found[:, None] - fine, axis=2).min(1).max() < 2e-3
    gentle = np.cumsum(np.full((5, 2), 0.04), axis=0)
    np.testing.assert_array_equal(slowed(gentle, step), gentle[1:])


@pytest.mark.parametrize("seed", range(3))
def test_every_step_of_every_plan_keeps_them(contract: Contract, seed: int) -> None:
    acting = WithCosts(Wild(contract, seed), make_costs({"limits": LIMITS}, contract))
    robot = Kept(RunLimits.model_validate(LIMITS), contract)._tool
    top = 0.3 * np.array([joint.velocity for joint in contract.command.joints]) / contract.rate_hz
    acting.reset()
    last, measured, plan = HOME, HOME, None
    changed = 0
    for _ in range(40):
        result = acting.act({"joints": measured[None]}, warm_start=plan)
        plan, wanted = result.actions, result.before_costs
        assert (np.abs(np.diff(np.vstack([last, plan]), axis=0)) <= top).all()
        assert (robot.outside(plan) <= 0).all()
        changed += not np.allclose(plan, wanted)
        last = plan[0]
        measured = measured + 0.6 * (last - measured)  # it lags behind its commands
    assert changed > 20


def test_every_command_keeps_them_between_plans_and_in_holds(contract: Contract) -> None:
    acting = WithCosts(Wild(contract, 7), make_costs({"limits": LIMITS}, contract))
    limits = RunLimits.model_validate(LIMITS)
    guard = make_guard("", limits, contract)
    motion = MotionLimits.of(contract.command, contract.control_rate_hz).within(limits)
    names = ("finite", "joint names", "velocity", "acceleration", "clearance")
    gate, shaper = (
        CommandGate(motion, make_checks(GateSettings(500.0, 100.0, 60.0, guard), names)),
        MotionShaper(motion),
    )
    gate.reset(HOME)
    shaper.reset(HOME)
    last = HOME
    sent = []
    for tick in range(300):
        if tick % 25 == 0:
            plan = np.vstack([last, acting.act({"joints": last[None]}).actions])
        at = (tick % 25) / 2.5
        target, previous = (
            plan[int(t)] + (t - int(t)) * (plan[int(t) + 1] - plan[int(t)]) for t in (at, max(at - 0.4, 0.0))
        )
        values = shaper.propose(previous, target, last)
        if not gate.check(Proposal(motion.names, values, 0.0, last, 0.0)).ok:
            values = shaper.stop()
        gate.commit(values)
        shaper.commit(values)
        last = values
        sent.append(values)
    path = np.array(sent)
    tool = Kept(limits, contract)._tool
    assert (tool.outside(path) <= 0).all()
    full = MotionLimits.of(contract.command, contract.control_rate_hz)
    assert (np.abs(np.diff(path, axis=0)) * 50 <= 0.3 * full.velocity * (1 + 1e-6)).all()
    assert np.abs(np.diff(path, axis=0)).max() > 1e-3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"limits": {"velocity": 0}}, "limits: 'velocity' is 0"),
        ({"limits": {"speed": 1}}, "unknown key 'speed'"),
        ({"limits": {"tool": {"least": 1, "most": 0}}}, "expected the first below the second"),
        ({"limits": 3}, "limits: '' is 3"),
        ({"terms": {}}, "expected 'terms:'"),
    ],
)
def test_bad_limits_are_a_sentence(contract: Contract, data: dict[str, object], says: str) -> None:
    with pytest.raises(CostsError) as caught:
        make_costs(data, contract)
    assert says in str(caught.value)
