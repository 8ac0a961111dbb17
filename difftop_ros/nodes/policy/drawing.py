"""What the policy node shows of its plans in RViz or Foxglove, while somebody looks: topic difftop/markers."""

from __future__ import annotations

from typing import Any

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.messages.markers import GREEN, GREY, Markers
from difftop_ros.messages.types import ros_types
from difftop_ros.nodes.policy.report import time_message
from difftop_ros.plan_result import PlanResult
from difftop_ros.runtime.plan import TimedPlan
from difftop_ros.safety.guard import Guard
from difftop_ros.space import Body, body_of


class Drawing:
    """Body, surroundings and plans as markers. A contract without the robot's model has none."""

    def __init__(self, contract: Contract, guard: Guard | None) -> None:
        self._guard, self._tool = guard, contract.robot.tool_frame
        self._body: Body | None = None
        try:
            self._body = guard.body if guard is not None else body_of(contract)
        except UserError:
            return

    def message(self, result: PlanResult, plan: TimedPlan | None, position: np.ndarray | None) -> Any:
        """The markers of one round with the robot at `position` (A,), if known; None where nothing can be drawn.

        Grey: the policy's own plan, green: with costs added and followed. What is held for stands beside the tool.
        """
        body = self._body
        if body is None:
            return None
        markers = Markers(ros_types, body.frames[0], time_message(result.stamp_ns))
        if position is not None and body.spheres is not None:
            markers.spheres(body.centres(position[None])[0], body.radii)
        if self._guard is not None:
            markers.shapes(self._guard.options.shapes)
        if result.in_the_way is not None:
            markers.points(result.in_the_way)
        if self._tool is not None:
            if result.before_costs is not None:
                markers.way("plan before costs", body.pose(result.before_costs, self._tool)[:, :3, 3], GREY)
            if plan is not None:
                markers.way("plan", body.pose(plan.actions, self._tool)[:, :3, 3], GREEN)
            if position is not None:
                place = body.pose(position[None], self._tool)[0, :3, 3] + [0.0, 0.0, 0.15]
                near = "" if np.isnan(result.clearance) else f"{1e3 * result.clearance:.0f} mm: "
                shares = [f"{name} {cost:.3g}" for name, cost in zip(result.term_names, result.term_costs, strict=True)]
                markers.words("\n".join([result.refusal or near + result.clearance_between, *shares]), place)
        return markers.message()
