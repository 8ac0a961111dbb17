"""Between a plan and the robot: motion limits, motion shaper, command gate and hold. No ROS, no torch."""

from difftop_ros.safety.belief import Belief
from difftop_ros.safety.checks import Check, GateSettings, LastCommand, Proposal, make_checks
from difftop_ros.safety.gate import CommandGate, Verdict
from difftop_ros.safety.hold import HoldSupervisor
from difftop_ros.safety.limits import MotionLimits
from difftop_ros.safety.shaper import MotionShaper

__all__ = [
    "Belief",
    "Check",
    "CommandGate",
    "GateSettings",
    "HoldSupervisor",
    "LastCommand",
    "MotionLimits",
    "MotionShaper",
    "Proposal",
    "Verdict",
    "make_checks",
]
