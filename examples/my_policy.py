"""A policy of one's own: options and network in one file. Alone it is --policy nearest, for difftop it is a base.

The command line finds it if a package says in its pyproject.toml that this module is to be imported:

    [project.entry-points."difftop_ros.policies"]
    nearest = "my_package.my_policy"
"""

import torch
from pydantic import Field
from torch import Tensor

from difftop_ros.policies import Box, Decoder, DecoderOptions, Encoding, Noise, Sizes, TrainingLoss, register


class Nearest(Decoder):
    """Blends learned chunks, each with a place among the features, by how near the observation is to their places."""

    def __init__(self, sizes: Sizes, options: "NearestOptions") -> None:
        super().__init__()
        self.sharpness = options.nearest_sharpness
        self.places = torch.nn.Parameter(torch.randn(options.nearest_chunks, sizes.features))
        self.chunks = torch.nn.Parameter(0.1 * torch.randn(options.nearest_chunks, *sizes.chunk))

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """Squared error, where it counts."""
        error = (weight * (self.sample(encoding, box, Noise()) - expert).square()).mean()
        return TrainingLoss(error, {"base_mse": error.detach()})

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """The blend (B, H, A)."""
        distance = torch.cdist(encoding.features, self.places).square() / self.places.shape[1]
        return torch.einsum("bn,nha->bha", (-self.sharpness * distance).softmax(1), self.chunks)


@register
class NearestOptions(DecoderOptions):
    """Become --nearest-chunks and --nearest-sharpness, with these bounds and this help."""

    name = "nearest"
    network = Nearest

    nearest_chunks: int = Field(64, ge=1, description="chunks that nearest blends")
    nearest_sharpness: float = Field(5.0, gt=0, description="how much less a chunk counts that is further away")


if __name__ == "__main__":
    from difftop_ros.contract import load_contract
    from difftop_ros.paths import share_path
    from difftop_ros.policies import Policy, PolicyConfig, make_net

    contract = load_contract(share_path("config/panda_table.yaml"))
    for config in (PolicyConfig(policy="nearest", nearest_chunks=32), PolicyConfig(base="nearest")):
        print(Policy(make_net(contract, config), contract, torch.device("cpu")).card())
