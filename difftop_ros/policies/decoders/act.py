"""Action chunking with transformers: the steps of a chunk attend to each other and to the frames that were seen.

After Zhao et al. 2023 (arXiv 2304.13705): a conditional VAE whose encoder reads the expert's chunk and whose decoder is
a transformer; absolute error, a standard normal prior, and at run time the latent in its middle. Different: layers are
normalised first, the encoders are this package's, whose frames are the tokens, and the temporal ensemble goes on from
the plan in force instead of keeping every chunk.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from difftop_ros.policies.builtin import ActOptions
from difftop_ros.policies.decoder import Box, Decoder, Encoding, Noise, Sizes, TrainingLoss, squared_error


class ActDecoder(Decoder):
    """Queries, one per step, attend to a token per frame, one of the whole window and one of the latent."""

    def __init__(self, sizes: Sizes, options: ActOptions) -> None:
        super().__init__()
        width, self.latent = options.act_width, options.act_latent
        self.kl_weight, self.ensemble = options.act_kl_weight, options.act_ensemble
        layer: dict[str, Any] = {
            "d_model": width,
            "nhead": options.act_heads,
            "dim_feedforward": 4 * width,
            "dropout": options.act_dropout,
            "activation": "gelu",
            "batch_first": True,
            "norm_first": True,
        }
        self.from_frame = nn.Linear(sizes.frame, width)
        self.from_window = nn.Linear(sizes.features, width)
        self.from_latent = nn.Linear(self.latent, width)
        self.queries = nn.Parameter(0.02 * torch.randn(sizes.horizon, width))
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**layer), options.act_layers, norm=nn.LayerNorm(width)
        )
        self.out = nn.Linear(width, sizes.actions)
        self.from_action = nn.Linear(sizes.actions, width)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**layer),
            options.act_layers,
            norm=nn.LayerNorm(width),
            enable_nested_tensor=False,
        )
        self.to_latent = nn.Linear(width, 2 * self.latent)

    def chunk(self, encoding: Encoding, latent: Tensor) -> Tensor:
        """latent (B, latent) -> scaled chunk (B, H, A)."""
        frames = self.from_frame(encoding.frames)
        frames = frames + waves(frames.shape[1], frames.shape[2]).to(frames).flip(0)  # counted from the newest
        seen = [self.from_latent(latent)[:, None], self.from_window(encoding.features)[:, None], frames]
        queries = self.queries.expand(len(latent), -1, -1)
        return self.out(self.decoder(queries, torch.cat(seen, dim=1)))

    def posterior(self, encoding: Encoding, expert: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, latent) of the latent, given the expert's chunk (B, H, A)."""
        steps = self.from_action(expert)
        steps = steps + waves(steps.shape[1], steps.shape[2]).to(steps)
        tokens = torch.cat([self.from_window(encoding.features)[:, None], steps], dim=1)
        mean, log_variance = self.to_latent(self.encoder(tokens)[:, 0]).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """Absolute error of the chunk with a latent of the posterior, and the posterior's KL to the standard normal."""
        mean, log_variance = self.posterior(encoding, expert)
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        chunk = self.chunk(encoding, latent)
        error = (weight * (chunk - expert).abs()).mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        parts = {"l1": error, "kl": kl, "base_mse": squared_error(chunk, expert, weight)}
        return TrainingLoss(error + self.kl_weight * kl, {name: part.detach() for name, part in parts.items()})

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """The chunk of the latent in the middle of its prior."""
        return self.chunk(encoding, encoding.features.new_zeros(len(encoding.features), self.latent))

    def continued(self, chunk: Tensor, before: Tensor) -> Tensor:
        """The mean of both, in which the plan in force weighs less from step to step: it reaches less far."""
        horizon = chunk.shape[1]
        share = self.ensemble * (1 - torch.arange(horizon).to(chunk) / horizon)[:, None]
        return chunk + share * (before - chunk)


def waves(count: int, size: int) -> Tensor:
    """Sines and cosines that tell places 0 .. count - 1 apart, (count, size); size is even."""
    rates = torch.exp(-math.log(1e4) * torch.arange(0, size, 2) / size)
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
