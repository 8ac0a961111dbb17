"""Closed-loop evaluation in a real simulated world: what acts, what counts as success, what is told and written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from difftop_ros.contract import Contract, load_contract
from difftop_ros.errors import UserError
from difftop_ros.learning.evaluate import Evaluation, Outcome, evaluate, shifted
from difftop_ros.learning.progress import Progress, Stopped
from difftop_ros.learning.run import evaluate_model
from difftop_ros.paths import share_path
from difftop_ros.plan_result import PlanResult
from difftop_ros.policies import DifftopNet, Policy
from difftop_ros.sim import make_expert
from difftop_ros.sim.robot import SimulatedRobot


def panda(seconds: float, joints_only: bool = True) -> Contract:
    """The demo's contract with small pictures and short episodes."""
    contract = load_contract(share_path("config/panda_table.yaml"))
    sim = contract.sim.model_copy(update={"task": "reach", "width": 64, "height": 48, "cameras": {}})
    changes: dict[str, Any] = {"episode": contract.episode.model_copy(update={"max_seconds": seconds}), "sim": sim}
    if joints_only:
        changes["observations"] = {"joints": contract.observations["joints"]}
    return contract.model_copy(update=changes)


@pytest.fixture
def policy(small: Any) -> Policy:
    torch.manual_seed(0)
    contract = panda(0.4)
    net = DifftopNet(contract, small(policy={"obs_steps": 2}).policy)
    net.scaler.fit(np.full(net.shape, -0.1), np.full(net.shape, 0.1))
    return Policy(net, contract, torch.device("cpu"))


class ExpertPolicy:
    """Acts as the scripted expert does: a policy that is known to succeed."""

    obs_steps, horizon = 1, 1
    config = SimpleNamespace(policy="expert")

    def __init__(self, robot: SimulatedRobot) -> None:
        self.contract, self._world = robot.contract, robot.world

    def reset(self) -> None:
        self._expert = make_expert(self._world)

    def act(self, obs: dict[str, np.ndarray], **_: Any) -> PlanResult:
        return PlanResult(np.asarray(self._expert.act())[None], "CONVERGED", encode_ms=1.0, solve_ms=2.0)


def test_an_expert_succeeds_and_an_idle_policy_does_not(policy: Policy) -> None:
    robot = SimulatedRobot(panda(8.0), "reach")
    try:
        watched: list[int] = []
        done: list[Outcome] = []
        expert = ExpertPolicy(robot)
        found = evaluate(expert, robot, [5, 6], watch=lambda i, r: watched.append(i), done=done.append)  # type: ignore[arg-type]
        assert found.successes == 2 and found.outcomes == done and found.label == "expert" and found.task == "reach"
        assert [watched.count(index) for index in (0, 1)] == [outcome.steps for outcome in done]
        assert found.plan_ms(0.5) == 3.0 and "2 of 2" in found.summary()
        again = evaluate(expert, robot, [5])  # type: ignore[arg-type]
        assert again.outcomes[0].steps == done[0].steps, "the same start gives the same episode"
    finally:
        robot.close()


def test_an_untrained_policy_runs_to_the_limit_and_replans_as_asked(policy: Policy) -> None:
    robot = SimulatedRobot(policy.contract, "reach")
    try:
        found = evaluate(policy, robot, [0, 1])
        assert [o.steps for o in found.outcomes] == [8, 8] and found.successes == 0  # 0.4 s at 20 Hz
        assert all(len(o.plan_ms) == 8 and not o.note for o in found.outcomes)
        sparse = evaluate(policy, robot, [0], replan_every=3, iterations=0)
        assert len(sparse.outcomes[0].plan_ms) == 3 and sparse.label == "its own base"
    finally:
        robot.close()


def test_the_model_folder_gets_results_video_and_sheet(policy: Policy, tmp_path: Path) -> None:
    told: list[Progress] = []
    found = evaluate_model(policy, tmp_path, episodes=2, report=told.append)
    assert [f.label for f in found] == ["difftop", "its own base"]
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert [w["label"] for w in written] == ["difftop", "its own base"]
    assert written[0]["failed_seeds"] == [10**6, 10**6 + 1]
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("rollout.mp4", "rollout.png"))
    assert [(p.stage, p.step, p.total_steps) for p in told] == [("evaluate", n, 2) for n in (1, 2, 2, 1, 2, 2)]
    assert told[0].message.startswith("seed 1000000: failure after 8 steps, 0 so far")
    assert "reach, its own base: 0 of 2" in told[-1].message


def test_an_evaluation_can_be_stopped(policy: Policy, tmp_path: Path) -> None:
    calls = iter([False] * 3)
    with pytest.raises(Stopped, match="stopped in the evaluation"):
        evaluate_model(policy, tmp_path, episodes=2, stop=lambda: next(calls, True))
    assert not (tmp_path / "evaluation.json").exists()


def test_a_camera_that_the_world_lacks_is_named() -> None:
    robot = SimulatedRobot(panda(1.0, joints_only=False), "reach")
    try:
        with pytest.raises(UserError, match=r"sim\.cameras does not say which camera observation 'cloud'"):
            robot.observe()
    finally:
        robot.close()


def test_velocity_and_increments_move_the_arm_alike() -> None:
    moved = {}
    for mode, action in (("position", None), ("velocity", 0.2), ("delta_position", 0.02)):
        contract = panda(1.0)
        contract = contract.model_copy(update={"command": contract.command.model_copy(update={"mode": mode})})
        robot = SimulatedRobot(contract, "reach")
        try:
            robot.reset(0)
            start = robot.world.joint_state()[0].copy()
            target = start.copy()
            for _ in range(5):
                target[0] += 0.02
                command = target if action is None else np.eye(8)[0] * action
                robot.apply(command, 0.1)
            moved[mode] = robot.world.joint_state()[0][0] - start[0]
        finally:
            robot.close()
    assert moved["velocity"] == pytest.approx(moved["delta_position"], abs=1e-6)
    assert 0.05 < moved["velocity"] <= moved["position"] + 0.01


def test_intervals_are_wilsons() -> None:
    outcomes = [Outcome(seed, seed < 8, 10, [1.0]) for seed in range(10)]
    low, high = Evaluation("reach", "difftop", outcomes).interval()
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert Evaluation("reach", "difftop").interval() == (0.0, 1.0)


def test_a_shifted_plan_repeats_its_last_knot() -> None:
    plan = np.arange(8.0).reshape(4, 2)
    assert shifted(plan, 1).tolist() == [[2, 3], [4, 5], [6, 7], [6, 7]]
    assert (shifted(plan, 9) == plan[-1]).all()
