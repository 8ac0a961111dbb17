"""Policies: from observations to a plan. No ROS, no training loop here."""

from difftop_ros.plan_result import PlanResult
from difftop_ros.policies.config import PolicyConfig, PolicyError
from difftop_ros.policies.decoders import Encoding, Noise, TrainingLoss
from difftop_ros.policies.difftop import DifftopNet
from difftop_ros.policies.make import make_net
from difftop_ros.policies.net import PolicyNet
from difftop_ros.policies.policy import Policy, load_policy, resolve_device
from difftop_ros.policies.pretrained_base import take_base
from difftop_ros.policies.residual import ResidualNet

__all__ = [
    "DifftopNet",
    "Encoding",
    "Noise",
    "PlanResult",
    "Policy",
    "PolicyConfig",
    "PolicyError",
    "PolicyNet",
    "ResidualNet",
    "TrainingLoss",
    "load_policy",
    "make_net",
    "resolve_device",
    "take_base",
]
