"""Where the robot's body is and what is near it: numpy and scipy alone, for costs, the gate and drawings."""

from difftop_ros.space.body import Body, body_of
from difftop_ros.space.errors import RobotModelError
from difftop_ros.space.spheres import Spheres

__all__ = ["Body", "RobotModelError", "Spheres", "body_of"]
