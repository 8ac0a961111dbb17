"""What is done about obstacles: the arms of the comparison, one entry each in ARMS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from difftop_ros.contract.shapes import AnyShape
from difftop_ros.learning.evaluate import Acting
from difftop_ros.policies import Policy

ShapesNow = Callable[[], Sequence[AnyShape]]
# Who acts in one start, given what tells the true obstacles at any moment, in the robot's base frame.
Begin = Callable[[ShapesNow], Acting]
# Called once for each policy, so that a solve can be prepared; what it returns is called for every start.
Arm = Callable[[Policy], Begin]


def nothing(policy: Policy) -> Begin:
    """The plan as it is."""
    return lambda shapes_now: policy


ARMS: dict[str, Arm] = {"nothing": nothing}
