"""Flow policy: from noise to a chunk in few long steps of a net that knows mean velocities.

After mean flows (Geng et al. 2025, arXiv 2505.13447). Between a chunk x at time 0 and noise e at time 1 lies
z_t = (1 - t) x + t e with velocity v = e - x. The mean velocity over [r, t] is u(z_t, r, t) = 1 / (t - r) int_r^t v,
for which u = v - (t - r) du/dt along the way (equation 6). So one step z_r = z_t - (t - r) u could take all noise
out, where a diffusion policy takes ten. The net estimates the chunk z_t - t u that this velocity leads to from t, which
few optimisation steps learn sooner than the velocity itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from difftop_ros.nets import ConditionalUnet
from difftop_ros.policies.builtin import FlowOptions
from difftop_ros.policies.decoder import Box, Decoder, Encoding, Noise, Sizes, TrainingLoss, squared_error

EARLIEST = 0.05  # time below which the velocity to the estimated chunk is not divided by less
SCALE = 100.0  # times in [0, 1] are told to the net as levels of 0 to 100, as its waves are made for


class FlowDecoder(Decoder):
    """Its net estimates where the mean velocity between two times leads to."""

    several = 4

    def __init__(self, sizes: Sizes, options: FlowOptions) -> None:
        super().__init__()
        self.shape, self.steps, self.instant = sizes.chunk, options.flow_steps, options.flow_instant
        self.net = ConditionalUnet(sizes.actions, sizes.features, options.flow_width, levels=2)

    def velocity(self, chunk: Tensor, since: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """Mean velocity u (B, H, A) over [since, time], (B,) each in [0, 1]."""
        target = self.net(chunk, SCALE * torch.stack([time, time - since], dim=1), features)
        return (chunk - target) / time.clamp(min=EARLIEST)[:, None, None]

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """Squared error to the mean flow's identity, its target without gradient, in the chunk's own units."""
        count, features = len(expert), encoding.features
        noise = torch.randn_like(expert)
        times = torch.rand(2, count, dtype=expert.dtype, device=expert.device)
        time, since = times.amax(0), times.amin(0)
        since = torch.where(torch.rand_like(time) < self.instant, time, since)
        share = time[:, None, None]
        between, velocity = (1 - share) * expert + share * noise, noise - expert

        def mean_velocity(chunk: Tensor, since: Tensor, time: Tensor) -> Tensor:
            return self.velocity(chunk, since, time, features)

        along = (velocity, torch.zeros_like(since), torch.ones_like(time))
        jvp: Any = torch.func.jvp  # its stub knows of no tuple
        found, change = jvp(mean_velocity, (between, since, time), along)
        target = (velocity - (time - since)[:, None, None] * change).detach()
        total = squared_error(share * found, share * target, weight)
        return TrainingLoss(total, {"flow_mse": total.detach()})

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """`steps` equal steps from noise to the chunk."""
        features = encoding.features
        chunk = noise.normal(len(features), *self.shape, like=features)
        for step in range(self.steps, 0, -1):
            time = features.new_full((len(features),), step / self.steps)
            since = time - 1 / self.steps
            chunk = chunk - self.velocity(chunk, since, time, features) / self.steps
        return chunk
