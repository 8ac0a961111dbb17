"""Costs that are added to a plan's optimisation at run time. torch alone: no networks, no ROS here.

A cost of one's own is an object like those here (examples/my_cost.py).
"""

from difftop_ros.costs.collision import Clearance, Collision
from difftop_ros.costs.field import Grid
from difftop_ros.costs.kinematics import RobotModel
from difftop_ros.costs.shapes import Shapes
from difftop_ros.costs.smoothness import Smoothness
from difftop_ros.costs.term import CostTerm, InUnits
from difftop_ros.space import RobotModelError, Spheres

__all__ = [
    "Clearance",
    "Collision",
    "CostTerm",
    "Grid",
    "InUnits",
    "RobotModel",
    "RobotModelError",
    "Shapes",
    "Smoothness",
    "Spheres",
]
