"""What a policy answers to one observation, on its whole way from Policy.act to the SolverStatus message. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# Stages of a plan, each with what is done in it; those of a cloud are parts of 'point_cloud' or 'depth_cloud', these
# and the other kinds of observations parts of 'observe', that and the next two parts of 'work'.
STAGES = {
    "pipe": "messages to the planner's process and its answer back",
    "work": "all that the planner's process does for a plan",
    "observe": "messages to frames",
    "open": "serialised bytes to a message",
    "joint_state": "joint positions",
    "tool_pose": "the tool's pose by the robot's model",
    "image": "a picture: decode, crop, resize",
    "point_cloud": "a cloud, with the following",
    "depth_cloud": "a cloud from a depth picture, with the following",
    "decode": "where each point's numbers lie, or the depth picture to points",
    "crop": "into the contract's frame, and what is inside its crop",
    "voxel": "means of the points in each cell",
    "sample": "outliers, then farthest points",
    "colour": "colours of what is left",
    "encode": "frames to features",
    "solve": "features to the plan",
}


@dataclass(frozen=True)
class WarmStart:
    """Where a solve begins: the plan in force, seen from the new observation's time.

    actions  float64 (H, A) in contract units and joint order; None without a plan in force
    committed  so many first steps will have been executed when the new plan takes over: they are not for it to choose
    """

    actions: np.ndarray | None = None
    committed: int = 0


@dataclass(frozen=True)
class PlanResult:
    """One plan and how it came about. A round of the planner without a solve has only `refusal`; the rest is zero.

    Policy.act fills in:
    actions  float64 (H, A) in contract units and joint order, one row per step at the contract's rate_hz
    status, message  how the solve ended (see trajopt.Status)
    outside  how far the networks' output lay outside the contract's bounds before it was brought to them: largest share
        of a joint's range; 0 for inside
    iterations, initial_cost, final_cost, gradient_norm  of the solve, in scaled actions
    encode_ms, solve_ms  time of each part [ms]
    novelty  distance of the newest observation from what training saw: 1 is the 99 % quantile of held-out frames;
        negative if unknown.  novelty_of  the stream and aspect that is so far off
    term_names, term_costs  costs added at run time and each one's share of final_cost, weight included
    clearance, clearance_between  smallest distance of the plan to an obstacle [m] and where; NaN, '' if not measured
    before_costs  (H, A) the plan before costs were added to it; None if there are none

    The planner adds:
    stamp_ns  the observation's time [ns];  age_ms  age of its oldest stream [ms];  observe_ms  time to decode it [ms]
    stage_ms  time of each stage of it [ms], see STAGES
    sequence  number of the planner's round;  refusal  why the plan is not followed, '' if it is
    in_the_way  float32 (n, 3) points of the surroundings' cloud that must not be touched [m]; None if none is watched
    """

    actions: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    status: str = ""
    message: str = ""
    outside: float = 0.0
    iterations: int = 0
    initial_cost: float = 0.0
    final_cost: float = 0.0
    gradient_norm: float = 0.0
    encode_ms: float = 0.0
    solve_ms: float = 0.0
    novelty: float = -1.0
    novelty_of: str = ""
    term_names: tuple[str, ...] = ()
    term_costs: tuple[float, ...] = ()
    clearance: float = float("nan")
    clearance_between: str = ""
    before_costs: np.ndarray | None = None
    stamp_ns: int = 0
    age_ms: float = 0.0
    observe_ms: float = 0.0
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    sequence: int = 0
    refusal: str = ""
    in_the_way: np.ndarray | None = None
