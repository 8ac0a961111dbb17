"""Costs that are added to a plan's optimisation at run time. torch alone: no networks, no robot, no ROS here."""

from difftop_ros.costs.smoothness import Smoothness
from difftop_ros.costs.term import CostTerm, InUnits

__all__ = ["CostTerm", "InUnits", "Smoothness"]
