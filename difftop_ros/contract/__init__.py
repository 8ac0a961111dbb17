"""The robot contract: what the robot offers and what the policy may command. No ROS, no torch here."""

from difftop_ros.contract.base import Observation
from difftop_ros.contract.clouds import CloudObs, DepthCloudObs, PointCloudObs, Transform
from difftop_ros.contract.load import ContractError, load_contract, parse_contract
from difftop_ros.contract.model import Command, Contract, Episode, JointLimits, SimSection
from difftop_ros.contract.observations import ImageObs, JointStateObs, ToolPoseObs

__all__ = [
    "CloudObs",
    "Command",
    "Contract",
    "ContractError",
    "DepthCloudObs",
    "Episode",
    "ImageObs",
    "JointLimits",
    "JointStateObs",
    "Observation",
    "PointCloudObs",
    "SimSection",
    "ToolPoseObs",
    "Transform",
    "load_contract",
    "parse_contract",
]
