"""Closed-loop evaluation in simulation, in lock step and in one process. Reports are made in report.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.learning.intervals import wilson_interval
from difftop_ros.messages import ObservationError
from difftop_ros.plan_result import PlanResult
from difftop_ros.policies import PolicyConfig
from difftop_ros.sim.robot import SimulatedRobot

EVALUATION_SEED = 1_000_000  # first start of an evaluation; recordings use seeds far below


@dataclass(frozen=True)
class Outcome:
    """One episode: its seed, success by physics, policy steps, milliseconds per plan, and why it was cut short."""

    seed: int
    success: bool
    steps: int
    plan_ms: list[float]
    note: str = ""


@dataclass
class Evaluation:
    """Outcomes of one policy on one task; `label` says which variant acted (the plan, or its own base)."""

    task: str
    label: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def successes(self) -> int:
        """Episodes that succeeded."""
        return sum(o.success for o in self.outcomes)

    @property
    def signs(self) -> str:
        """'1' for each episode that succeeded, else '0', in the order of the starts: for comparisons in pairs."""
        return "".join(str(int(o.success)) for o in self.outcomes)

    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the success rate."""
        return wilson_interval(self.successes, len(self.outcomes))

    def plan_ms(self, quantile: float) -> float:
        """Quantile of the time of one plan [ms], encoding included."""
        times = [ms for outcome in self.outcomes for ms in outcome.plan_ms]
        return float(np.quantile(times, quantile)) if times else math.nan

    def summary(self) -> str:
        """One line for a person."""
        low, high = self.interval()
        steps = [o.steps for o in self.outcomes if o.success]
        median = f", median {int(np.median(steps))} steps" if steps else ""
        return (
            f"{self.task}, {self.label}: {self.successes} of {len(self.outcomes)} (95 % interval {low:.0%} to "
            f"{high:.0%}){median}, plan p50 {self.plan_ms(0.5):.1f} ms, p99 {self.plan_ms(0.99):.1f} ms"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        low, high = self.interval()
        return {
            "task": self.task,
            "label": self.label,
            "episodes": len(self.outcomes),
            "successes": self.successes,
            "interval_95": [round(low, 3), round(high, 3)],
            "plan_ms_p50": round(self.plan_ms(0.5), 2),
            "plan_ms_p99": round(self.plan_ms(0.99), 2),
            "failed_seeds": [o.seed for o in self.outcomes if not o.success],
        }


Watch = Callable[[int, SimulatedRobot], None]
Stop = Callable[[SimulatedRobot], str]


class Acting(Protocol):
    """What an evaluation needs of a policy; `Policy` is one. `act` is as there."""

    obs_steps: int

    @property
    def contract(self) -> Contract:
        """What it observes and commands."""
        ...

    @property
    def config(self) -> PolicyConfig:
        """Of which `policy` names the class."""
        ...

    def act(
        self, obs: Mapping[str, np.ndarray], *, warm_start: np.ndarray | None = None, iterations: int | None = None
    ) -> PlanResult:
        """A plan from frames (obs_steps, ...)."""
        ...

    def reset(self) -> None:
        """Begins an episode."""
        ...


def evaluate(
    policy: Acting,
    robot: SimulatedRobot,
    seeds: Sequence[int],
    *,
    iterations: int | None = None,
    replan_every: int = 1,
    watch: Watch | None = None,
    stop: Stop | None = None,
    done: Callable[[Outcome], None] | None = None,
) -> Evaluation:
    """Run `policy` closed loop from each of `seeds`; a plan every `replan_every` policy steps.

    iterations=0 lets the base policy's chunk act unrefined. `watch` is called before every step with the episode's
    index (for videos), `stop` after every step: a reason ends the episode as a failure. `done` is called after every
    episode. An observation that cannot be made ends it as a failure too.
    """
    label = "its own base" if iterations == 0 else policy.config.policy
    result = Evaluation(robot.task, label)
    for index, seed in enumerate(seeds):
        outcome = _episode(policy, robot, seed, iterations, replan_every, watch, stop, index)
        result.outcomes.append(outcome)
        if done:
            done(outcome)
    return result


def _episode(
    policy: Acting,
    robot: SimulatedRobot,
    seed: int,
    iterations: int | None,
    replan_every: int,
    watch: Watch | None,
    stop: Stop | None,
    index: int,
) -> Outcome:
    robot.reset(seed)
    policy.reset()
    period = 1 / policy.contract.rate_hz
    limit = robot.max_steps
    history: list[dict[str, np.ndarray]] = []
    times: list[float] = []
    plan, age = None, 0
    for step in range(limit):
        if plan is None or replan_every - age < policy.obs_steps:  # frames that no plan will see are not drawn
            try:
                frames = robot.observe()
            except ObservationError as error:
                return Outcome(seed, False, step, times, str(error))
            history = (history or [frames] * policy.obs_steps)[1 - policy.obs_steps :] if policy.obs_steps > 1 else []
            history.append(frames)
        if watch:
            watch(index, robot)
        if plan is None or age >= replan_every:
            obs = {key: np.stack([past[key] for past in history]) for key in policy.contract.observations}
            warm = None if plan is None else shifted(plan, age)
            output = policy.act(obs, warm_start=warm, iterations=iterations)
            times.append(output.encode_ms + output.solve_ms)
            plan, age = output.actions, 0
        robot.apply(plan[age], period)
        age += 1
        if stop and (why := stop(robot)):
            return Outcome(seed, False, step + 1, times, why)
        if robot.success():
            return Outcome(seed, True, step + 1, times)
    return Outcome(seed, False, limit, times)


def shifted(plan: np.ndarray, steps: int) -> np.ndarray:
    """The plan (H, A) seen `steps` later, its last step repeated."""
    index = np.minimum(np.arange(len(plan)) + steps, len(plan) - 1)
    return plan[index]
