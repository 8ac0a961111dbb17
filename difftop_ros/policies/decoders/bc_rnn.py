"""BC-RNN: an LSTM over the window's frames and a mixture of Gaussians over the chunk.

After robomimic (Mandlekar et al. 2021, arXiv 2108.03298), BC-RNN-GMM: two LSTM layers, 5 modes, acting with almost no
noise. Different: the mixture is over the whole chunk, so that its steps agree on the mode, unless `gmm_over` 'step'
asks for robomimic's density of each step; the recurrence runs over the window and carries no state from plan to plan;
the means need no tanh, as scaled actions are within [-1, 1] already.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from difftop_ros.nets import mlp
from difftop_ros.policies.builtin import BcRnnOptions
from difftop_ros.policies.decoder import Box, Decoder, Encoding, Noise, Sizes, TrainingLoss, squared_error

ACTING_STD = 1e-4  # robomimic's low noise
# Of the spread in training; robomimic's 1e-4 makes a chunk's density so steep that under clipped gradients the weights
# of the modes are not learned: squared error .036 after 400 steps on three episodes, against .002 with this.
SMALLEST_STD = 0.1
LAYERS = 2


class BcRnnDecoder(Decoder):
    """Acts by the likeliest mode's mean, or draws the mode by its weight, with low noise."""

    fuses = True

    def __init__(self, sizes: Sizes, options: BcRnnOptions) -> None:
        super().__init__()
        self.shape, self.modes, self.act = sizes.chunk, options.gmm_modes, options.gmm_act
        self.choices = (self.modes, sizes.horizon) if options.gmm_over == "step" else (self.modes,)
        width = options.gmm_width
        self.recurrent = nn.LSTM(sizes.frame, width, LAYERS, batch_first=True)
        self.head = mlp([width, width, 2 * self.modes * math.prod(self.shape) + math.prod(self.choices)])

    def mixture(self, encoding: Encoding) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, M), or (B, M, H) of each step, means (B, M, H, A) and standard deviations (B, M, H, A)."""
        hidden, _ = self.recurrent(encoding.frames)
        logits, means, spreads = self.head(hidden[:, -1]).split(
            [math.prod(self.choices), *[self.modes * math.prod(self.shape)] * 2], dim=1
        )
        size = (-1, self.modes, *self.shape)
        return logits.view(-1, *self.choices), means.view(size), functional.softplus(spreads).view(size) + SMALLEST_STD

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """Negative log likelihood per number of the chunk."""
        logits, means, spreads = self.mixture(encoding)
        per_mode = _log_densities(logits, means, spreads, expert, weight[:, None])
        nll = -torch.logsumexp(per_mode, dim=1).sum() / expert.numel()
        chunk = _picked(means, logits.argmax(1))
        return TrainingLoss(nll, {"nll": nll.detach(), "base_mse": squared_error(chunk, expert, weight).detach()})

    def propose(self, encoding: Encoding, expert: Tensor, box: Box) -> Tensor:
        """The mean of the mode that the expert's chunk, or each step of it, belongs to."""
        logits, means, spreads = self.mixture(encoding)
        return _picked(means, _log_densities(logits, means, spreads, expert, 1.0).argmax(1))

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """The mean of one mode, and on 'sample' a little noise."""
        logits, means, _ = self.mixture(encoding)
        if self.act == "mode":
            chosen = logits.argmax(1)
        else:
            steps = logits.softmax(1).cumsum(1)
            drawn = noise.uniform(len(logits), 1, *self.choices[1:], like=logits)
            chosen = (drawn > steps).sum(1).clamp_max(self.modes - 1)
        chunk = _picked(means, chosen)
        if self.act == "sample":
            chunk = chunk + ACTING_STD * noise.normal(*chunk.shape, like=chunk)
        return chunk


def _log_densities(logits: Tensor, means: Tensor, spreads: Tensor, expert: Tensor, weight: Tensor | float) -> Tensor:
    """Log of each mode's weight times its density at the expert's chunk, (B, M), or of each step, (B, M, H)."""
    density = torch.distributions.Normal(means, spreads).log_prob(expert[:, None])
    density = (weight * density).sum(3)
    return logits.log_softmax(1) + (density if logits.ndim == 3 else density.sum(2))


def _picked(means: Tensor, mode: Tensor) -> Tensor:
    """means (B, M, H, A), mode (B,), or (B, H) of each step -> (B, H, A)."""
    batch, _, horizon, actions = means.shape
    index = mode.view(batch, 1, -1, 1).expand(batch, 1, horizon, actions)
    return means.gather(1, index).squeeze(1)
