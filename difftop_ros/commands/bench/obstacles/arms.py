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
from difftop_ros.space.near import Scene

COLLISION = "obstacles"
ABOVE_M = 0.07  # the cube on the table, 4 cm high, is no obstacle
SEEN_MARGIN_M = 0.03  # a camera sees the front of things alone
ROOM = (1, 1, 0)  # boxes, cylinders and half-spaces: a solve that was prepared keeps its shapes
ShapesNow = Callable[[], Sequence[AnyShape]]
# Who acts in one start, given what tells the true obstacles at any moment, in the robot's base frame.
Begin = Callable[[ShapesNow], Acting]
# Called once for each policy, so that a solve can be prepared; what it returns is called for every start.
Arm = Callable[[Policy], Begin]


def nothing(policy: Policy) -> Begin:
    """The plan as it is."""
    return lambda shapes_now: policy


def costs_from_shapes(policy: Policy) -> Begin:
    """Costs added to the plan, of the true shapes where they are now."""
    acting = _with_collision(policy)
    return lambda shapes_now: _Told(acting, shapes_now)


def costs_from_cloud(policy: Policy) -> Begin:
    """Costs added to the plan, of what the policy's own cloud shows."""
    cloud = next((key for key, obs in policy.contract.observations.items() if obs.modality == "cloud"), None)
    if cloud is None:
        raise UserError(
            f"the arm 'costs, cloud' needs a policy that sees a cloud; it sees {list(policy.contract.observations)}"
        )
    acting = _with_collision(policy, cloud=cloud, above=ABOVE_M, margin=SEEN_MARGIN_M)
    return lambda shapes_now: acting


def gate(policy: Policy) -> Begin:
    """The plan as it is, and no step of it whose next moments would touch the true obstacles: then the arm stands."""
    guard = Guard(GuardOptions(), policy.contract)
    return lambda shapes_now: _Gated(policy, guard, shapes_now)


def costs_and_gate(policy: Policy) -> Begin:
    """Costs of the true shapes, and the gate behind them."""
    guard, costs = Guard(GuardOptions(), policy.contract), costs_from_shapes(policy)
    return lambda shapes_now: _Gated(costs(shapes_now), guard, shapes_now)


def _with_collision(policy: Policy, **figures: Any) -> WithCosts:
    acting = WithCosts(policy, make_costs({"terms": {COLLISION: {"kind": "collision", **figures}}}, policy.contract))
    _collision(acting).shapes = Shapes.of((), ROOM)
    if policy.prepared != "none":
        acting.prepare(policy.prepared)
    return acting


def _collision(acting: WithCosts) -> Collision:
    term = acting.costs.terms[COLLISION]
    assert isinstance(term, Collision)
    return term


class _Told:
    """A policy with costs whose shapes are told anew before every plan, because they may move."""

    def __init__(self, acting: WithCosts, shapes_now: ShapesNow) -> None:
        self._acting, self._shapes_now = acting, shapes_now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._acting, name)

    def act(self, *args: Any, **options: Any) -> PlanResult:
        """As WithCosts.act."""
        _collision(self._acting).shapes = Shapes.of(self._shapes_now(), ROOM)
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


ARMS: dict[str, Arm] = {
    "nothing": nothing,
    "gate": gate,
    "costs, shapes": costs_from_shapes,
    "costs, shapes, gate": costs_and_gate,
    "costs, cloud": costs_from_cloud,
}
