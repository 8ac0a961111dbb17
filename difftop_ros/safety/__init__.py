"""Between a plan and the robot: motion limits, motion shaper, command gate and hold. No ROS, no torch."""

from difftop_ros.safety.gate import CommandGate, Proposal, Verdict
from difftop_ros.safety.hold import HoldSupervisor
from difftop_ros.safety.limits import MotionLimits
from difftop_ros.safety.shaper import MotionShaper

__all__ = ["CommandGate", "HoldSupervisor", "MotionLimits", "MotionShaper", "Proposal", "Verdict"]
