"""Behaviour cloning: a feed-forward chunk, trained on the squared error. Its answer to two good ways is their mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difftop_ros.nets import mlp
from difftop_ros.policies.builtin import BcOptions, ZeroOptions
from difftop_ros.policies.decoder import Box, Decoder, Encoding, Noise, Sizes, TrainingLoss, squared_error


class BcDecoder(Decoder, nn.Sequential):
    """Perceptron from the features to the chunk."""

    def __init__(self, sizes: Sizes, options: BcOptions) -> None:
        width = options.bc_width
        layers = mlp([sizes.features, width, width, sizes.horizon * sizes.actions], final_gain=0.1)
        nn.Sequential.__init__(self, *layers)
        self.shape = sizes.chunk

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """Squared error."""
        total = squared_error(self(encoding.features).view(-1, *self.shape), expert, weight)
        return TrainingLoss(total, {"base_mse": total.detach()})

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """The one chunk it knows."""
        return self(encoding.features).view(-1, *self.shape)


class ZeroDecoder(Decoder):
    """The middle of the box, always: a base that knows nothing, for the ablation of the base."""

    def __init__(self, sizes: Sizes, options: ZeroOptions) -> None:
        super().__init__()
        self.shape = sizes.chunk

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """Nothing to learn: a total of 0."""
        error = squared_error(torch.zeros_like(expert), expert, weight)
        return TrainingLoss(torch.zeros_like(error), {"base_mse": error.detach()})

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """Zeros."""
        return encoding.features.new_zeros(len(encoding.features), *self.shape)
