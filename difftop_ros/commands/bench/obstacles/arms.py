"""What is done about obstacles: the arms of the comparison, one entry each in ARMS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from difftop_ros.contract.shapes import AnyShape
from difftop_ros.costs.collision import Collision
from difftop_ros.costs.load import make_costs
from difftop_ros.costs.policy import WithCosts
from difftop_ros.costs.shapes import Shapes
from difftop_ros.errors import UserError
from difftop_ros.learning.evaluate import Acting
from difftop_ros.plan_result import PlanResult
from difftop_ros.policies import Policy

COLLISION = "obstacles"
ABOVE_M = 0.07  # the cube on the table, 4 cm high, is no obstacle
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
    return lambda shapes_now: _Told(_with_collision(policy, shapes=shapes_now()), shapes_now)


def costs_from_cloud(policy: Policy) -> Begin:
    """Costs added to the plan, of what the policy's own cloud shows."""
    cloud = next((key for key, obs in policy.contract.observations.items() if obs.modality == "cloud"), None)
    if cloud is None:
        raise UserError(
            f"the arm 'costs, cloud' needs a policy that sees a cloud; it sees {list(policy.contract.observations)}"
        )
    return lambda shapes_now: _with_collision(policy, cloud=cloud, above=ABOVE_M)


def _with_collision(policy: Policy, shapes: Sequence[AnyShape] = (), **figures: Any) -> WithCosts:
    given = [shape.model_dump(mode="json") for shape in shapes]
    terms = {COLLISION: {"kind": "collision", "shapes": given, **figures}}
    return WithCosts(policy, make_costs({"terms": terms}, policy.contract))


class _Told:
    """A policy with costs whose shapes are told anew before every plan, because they may move."""

    def __init__(self, acting: WithCosts, shapes_now: ShapesNow) -> None:
        self._acting, self._shapes_now = acting, shapes_now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._acting, name)

    def act(self, *args: Any, **options: Any) -> PlanResult:
        """As WithCosts.act."""
        term = self._acting.costs.terms[COLLISION]
        assert isinstance(term, Collision)
        term.shapes = Shapes.of(self._shapes_now())
        return self._acting.act(*args, **options)


ARMS: dict[str, Arm] = {"nothing": nothing, "costs, shapes": costs_from_shapes, "costs, cloud": costs_from_cloud}
