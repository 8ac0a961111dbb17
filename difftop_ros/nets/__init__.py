"""Networks: observation encoders, heads, the learned cost. No losses, no solver, no ROS here."""

from difftop_ros.nets.encoders import ImageEncoder, JointEncoder, ObservationEncoder, PointCloudEncoder
from difftop_ros.nets.heads import ChunkCost, GaussianHead, MixtureHead, RolloutCost, mlp
from difftop_ros.nets.point_tokens import PointTokenEncoder
from difftop_ros.nets.resnet import ResNet18Encoder
from difftop_ros.nets.unet import ConditionalUnet

__all__ = [
    "ChunkCost",
    "ConditionalUnet",
    "GaussianHead",
    "ImageEncoder",
    "JointEncoder",
    "MixtureHead",
    "ObservationEncoder",
    "PointCloudEncoder",
    "PointTokenEncoder",
    "ResNet18Encoder",
    "RolloutCost",
    "mlp",
]
