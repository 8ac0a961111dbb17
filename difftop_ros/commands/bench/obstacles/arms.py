"""What is done about obstacles: the arms of the comparison, one entry each in ARMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from difftop_ros.contract.shapes import AnyShape
from difftop_ros.costs.collision import Collision
from difftop_ros.costs.load import make_costs
from difftop_ros.costs.policy import WithCosts
from difftop_ros.costs.shapes import Shapes
from difftop_ros.errors import UserError
from difftop_ros.learning.evaluate import Acting
from difftop_ros.plan_result import PlanResult
from difftop_ros.policies import Policy
from difftop_ros.safety.guard import Guard, GuardOptions
from difftop_ros.sim.mujoco.obstacles import moved, place
from difftop_ros.space.near import Scene

COLLISION = "obstacles"
ABOVE_M = 0.07  # the cube on the table, 4 cm high, is no obstacle
SLOW = 0.2  # of the joints' top speeds
ROOM = (1, 1, 0)  # boxes, cylinders and half-spaces: a solve that was prepared keeps its shapes
SOON = (4, 4, 0)
AHEAD_S = (0.1, 0.2, 0.3, 0.4)  # where what moves will be counts, too
ShapesNow = Callable[[], Sequence[AnyShape]]
# Who acts in one start, given what tells the true obstacles at any moment, in the robot's base frame.
Begin = Callable[[ShapesNow], Acting]
# Called once for each policy, so that a solve can be prepared; what it returns is called for every start.
Arm = Callable[[Policy], Begin]


def nothing(policy: Policy) -> Begin:
    """The plan as it is."""
    return lambda shapes_now: policy


def costs_from_shapes(policy: Acting) -> Begin:
    """Costs added to the plan, of the true shapes where they are now."""
    acting = _with_collision(policy)
    return lambda shapes_now: _Told(acting, shapes_now)


def costs_from_cloud(policy: Acting) -> Begin:
    """Costs added to the plan, of what the policy's own cloud shows."""
    cloud = next((key for key, obs in policy.contract.observations.items() if obs.modality == "cloud"), None)
    if cloud is None:
        raise UserError(
            f"the arm 'costs, cloud' needs a policy that sees a cloud; it sees {list(policy.contract.observations)}"
        )
    acting = _with_collision(policy, cloud=cloud, above=ABOVE_M)
    return lambda shapes_now: acting


def gate(policy: Policy) -> Begin:
    """The plan as it is, and no step of it whose next moments would touch the true obstacles: then the arm stands."""
    guard = Guard(GuardOptions(), policy.contract)
    return lambda shapes_now: _Gated(policy, guard, shapes_now)


def costs_and_gate(policy: Policy) -> Begin:
    """Costs of the true shapes, and the gate behind them."""
    guard, costs = Guard(GuardOptions(), policy.contract), costs_from_shapes(policy)
    return lambda shapes_now: _Gated(costs(shapes_now), guard, shapes_now)


def base(policy: Policy) -> Begin:
    """The chunk of the policy's own feed-forward base, as it is."""
    return lambda shapes_now: _Base(policy)


def base_with_shapes(policy: Policy) -> Begin:
    """Costs of the true shapes, added to the base's chunk."""
    return costs_from_shapes(_Base(policy))


def base_with_cloud(policy: Policy) -> Begin:
    """Costs of what the policy's own cloud shows, added to the base's chunk."""
    return costs_from_cloud(_Base(policy))


class _Base:
    """A DiffTOP policy whose own solve is left out."""

    def __init__(self, policy: Policy) -> None:
        """Raises UserError for a policy that has no base."""
        if policy.config.policy != "difftop":
            raise UserError(f"'{policy.config.policy}' plans without a base; leave out the arms of the base")
        self._policy = policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def act(self, *args: Any, **options: Any) -> PlanResult:
        """As Policy.act."""
        return self._policy.act(*args, **{**options, "iterations": 0})


def _with_collision(policy: Acting, **figures: Any) -> WithCosts:
    acting = WithCosts(policy, make_costs({"terms": {COLLISION: {"kind": "collision", **figures}}}, policy.contract))
    _collision(acting).shapes, _collision(acting).soon = Shapes.of((), ROOM), Shapes.of((), SOON)
    if (backend := getattr(policy, "prepared", "none")) != "none":
        acting.prepare(backend)
    return acting


def _collision(acting: WithCosts) -> Collision:
    term = acting.costs.terms[COLLISION]
    assert isinstance(term, Collision)
    return term


class _Told:
    """A policy with costs whose shapes are told anew before every plan, and where those that move will be soon."""

    def __init__(self, acting: WithCosts, shapes_now: ShapesNow) -> None:
        self._acting, self._shapes_now = acting, shapes_now
        self._before: Sequence[AnyShape] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._acting, name)

    def act(self, *args: Any, **options: Any) -> PlanResult:
        """As WithCosts.act."""
        now, term = self._shapes_now(), _collision(self._acting)
        steps = [np.subtract(place(shape), place(before)) for before, shape in zip(self._before, now, strict=False)]
        later = [
            moved(shape, step * span * self._acting.contract.rate_hz)
            for shape, step in zip(now, steps, strict=False)
            for span in AHEAD_S
            if step.any()
        ]
        self._before = now
        term.shapes, term.soon = Shapes.of(now, ROOM), Shapes.of(later, SOON)
        return self._acting.act(*args, **options)


class _Gated:
    """A policy behind the gate's guard, as the node has it: a plan that would touch is not followed, the arm stands."""

    def __init__(self, acting: Acting, guard: Guard, shapes_now: ShapesNow) -> None:
        self._acting, self._guard, self._shapes_now = acting, guard, shapes_now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._acting, name)

    def act(self, obs: Mapping[str, np.ndarray], **options: Any) -> PlanResult:
        """As the policy's, or the measured position for all steps."""
        result = self._acting.act(obs, **options)
        contract = self._guard.contract
        position = np.array([float(obs[key][-1][row]) for key, row in contract.measured])
        self._guard.scene = Scene(self._shapes_now())
        ahead = round(self._guard.options.look_ahead_s * contract.rate_hz)
        if not self._guard.along(np.concatenate([position[None], result.actions[:ahead]])):
            return result
        return replace(result, actions=np.repeat(position[None], len(result.actions), axis=0))


def limits_kept(policy: Policy) -> Begin:
    """Each joint's speed within a share of its limit, by `limits:` of a costs file: the way stays, and is slower."""
    acting = WithCosts(policy, make_costs({"limits": {"velocity": SLOW}}, policy.contract))
    return lambda shapes_now: acting


def limits_clamped(policy: Policy) -> Begin:
    """The same limits, each joint of the plan clamped by itself."""
    return lambda shapes_now: _Clamped(policy)


class _Clamped:
    """A policy whose plans go from each step to the next no farther than SLOW of the joints' top speeds."""

    def __init__(self, policy: Policy) -> None:
        contract = policy.contract
        self._policy, self._sent = policy, np.empty(0)
        self._step = SLOW * np.array([joint.velocity for joint in contract.command.joints]) / contract.rate_hz

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def reset(self) -> None:
        """Begin where the robot is."""
        self._policy.reset()
        self._sent = np.empty(0)

    def act(self, obs: Mapping[str, np.ndarray], **options: Any) -> PlanResult:
        """As the policy's, from the last command on, or at first from the measured position."""
        result = self._policy.act(obs, **options)
        measured = np.array([float(obs[key][-1][row]) for key, row in self._policy.contract.measured])
        before, plan = self._sent if self._sent.size else measured, result.actions.copy()
        for step, asked in enumerate(plan):
            plan[step] = before = np.clip(asked, before - self._step, before + self._step)
        self._sent = plan[0]
        return replace(result, actions=plan)


ARMS: dict[str, Arm] = {
    "nothing": nothing,
    "gate": gate,
    "costs, shapes": costs_from_shapes,
    "costs, shapes, gate": costs_and_gate,
    "costs, cloud": costs_from_cloud,
    "base": base,
    "base, costs, shapes": base_with_shapes,
    "base, costs, cloud": base_with_cloud,
    "limits, kept": limits_kept,
    "limits, clamped": limits_clamped,
}
USUAL = tuple(ARMS)[:5]  # those of the base are for policies that have one, those of limits for starts without obstacle
