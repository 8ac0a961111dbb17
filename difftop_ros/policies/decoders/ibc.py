"""Implicit behaviour cloning: an energy of observation and chunk, learned by contrast, minimised by sampling.

After Florence et al. 2021 (arXiv 2109.00137): InfoNCE against counter-examples (uniform in the box, and made by
Langevin dynamics on the energy itself, with a gradient penalty), derivative-free or Langevin inference. As everywhere
in this package, low is good.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difftop_ros.nets import mlp
from difftop_ros.policies.builtin import IbcOptions
from difftop_ros.policies.decoder import Box, Decoder, Encoding, Noise, Sizes, TrainingLoss, clamped

DFO_ITERATIONS, DFO_STD, DFO_SHRINK = 3, 0.33, 0.5  # their appendix: derivative-free inference
LANGEVIN_STEPS, LANGEVIN_TRAINING_STEPS = 50, 10
LANGEVIN_STEP, LANGEVIN_LAST_STEP, LANGEVIN_NOISE, LANGEVIN_LONGEST = 0.1, 1e-4, 0.1, 0.1
MARGIN = 30.0  # of the gradient penalty: largest entry of dE/da that goes unpunished


class Energy(nn.Module):
    """E(a | z), lower is better. What depends on z alone, most of the network, is computed once for all candidates."""

    def __init__(self, features: int, variables: int, width: int) -> None:
        super().__init__()
        self.from_actions = nn.Linear(variables, width, bias=False)
        self.from_features = mlp([features, 3 * width, width])
        self.rest = mlp([width, width, 1])

    def forward(self, chunks: Tensor, features: Tensor) -> Tensor:
        """chunks (B, N, H*A), features (B, F) -> energies (B, N)."""
        hidden = nn.functional.silu(self.from_actions(chunks) + self.from_features(features)[:, None])
        return self.rest(hidden).squeeze(2)


class IbcDecoder(Decoder):
    """With the sampler 'langevin' half of the counter-examples in training are made by it too."""

    several = 4

    def __init__(self, sizes: Sizes, options: IbcOptions) -> None:
        super().__init__()
        self.shape, self.sampler = sizes.chunk, options.ibc_sampler
        self.negatives, self.candidates = options.ibc_negatives, options.ibc_candidates
        self.energy = Energy(sizes.features, sizes.horizon * sizes.actions, options.ibc_width)

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """InfoNCE: the expert's chunk among counter-examples. A sample with padding that must not count is left out."""
        low, high = box[0].flatten(1)[:, None], box[1].flatten(1)[:, None]
        features, fresh = encoding.features, Noise()
        size = (len(features), self.negatives, low.shape[2])
        false = low + (high - low) * fresh.uniform(*size, like=low)
        penalty = features.new_zeros(())
        if self.sampler == "langevin":
            half = self.negatives // 2
            found = self._langevin(false[:, :half], features.detach(), (low, high), fresh, LANGEVIN_TRAINING_STEPS)
            false = torch.cat([found, false[:, half:]], dim=1)
            steep = self._gradient(found[:, :1], features, graph=True).abs().amax((1, 2))
            penalty = (steep - MARGIN).clamp_min(0).square().mean()
        chunks = torch.cat([expert.flatten(1)[:, None], false], dim=1)
        energies = self.energy(chunks, features)
        counts = (weight.amin((1, 2)) > 0).to(energies.dtype)
        counts = counts if bool(counts.any()) else torch.ones_like(counts)
        contrast = -(-energies).log_softmax(1)[:, 0]
        info_nce = (counts * contrast).sum() / counts.sum()
        best = (energies.argmin(1) == 0).to(energies.dtype).mean()
        total = info_nce + penalty + 1e-4 * energies.square().mean()  # the last: energies have no zero of their own
        return TrainingLoss(total, {"info_nce": info_nce.detach(), "expert_is_best": best})

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """The candidate of lowest energy in the end."""
        low, high = box[0].flatten(1)[:, None], box[1].flatten(1)[:, None]
        features = encoding.features.detach()
        start = low + (high - low) * noise.uniform(len(features), self.candidates, low.shape[2], like=low)
        if self.sampler == "langevin":
            found = self._langevin(start, features, (low, high), noise, LANGEVIN_STEPS)
        else:
            found = self._derivative_free(start, features, (low, high), noise)
        best = self.energy(found, features).argmin(1)
        return found[torch.arange(len(found), device=found.device), best].view(-1, *self.shape)

    def _derivative_free(self, chunks: Tensor, features: Tensor, box: Box, noise: Noise) -> Tensor:
        """Resample candidates by their weight, disturb them, ever less."""
        batch, count, size = chunks.shape
        std = DFO_STD
        for _ in range(DFO_ITERATIONS):
            steps = (-self.energy(chunks, features)).double().softmax(1).cumsum(1)
            drawn = noise.uniform(batch, count, like=chunks).double().contiguous()
            index = torch.searchsorted(steps, drawn).clamp_max(count - 1)
            chunks = chunks.gather(1, index[:, :, None].expand(-1, -1, size))
            chunks = clamped(chunks + std * noise.normal(batch, count, size, like=chunks), box)
            std *= DFO_SHRINK
        return chunks

    def _langevin(self, chunks: Tensor, features: Tensor, box: Box, noise: Noise, steps: int) -> Tensor:
        """Gradient steps with noise, their size falling by a quadratic schedule; no step is longer than a tenth."""
        for index in range(steps):
            left = 1 - index / max(steps - 1, 1)
            rate = LANGEVIN_LAST_STEP + (LANGEVIN_STEP - LANGEVIN_LAST_STEP) * left**2
            slope = self._gradient(chunks, features)
            shake = LANGEVIN_NOISE * rate**0.5 * noise.normal(*chunks.shape, like=chunks)
            step = (shake - 0.5 * rate * slope).clamp(-LANGEVIN_LONGEST, LANGEVIN_LONGEST)
            chunks = clamped(chunks + step, box)
        return chunks

    def _gradient(self, chunks: Tensor, features: Tensor, graph: bool = False) -> Tensor:
        """dE/da of each candidate, (B, N, H*A)."""
        with torch.enable_grad():
            leaf = chunks.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(leaf, features).sum(), leaf, create_graph=graph)
        return slope
