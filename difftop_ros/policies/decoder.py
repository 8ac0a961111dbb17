"""What a decoder is: from an encoded observation to a chunk of scaled actions. Each policy has a file of its own.

Here: the interface, what is handed around, the source of random numbers. Not here: encoders, units, the optimiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Added = tuple[Callable[..., Tensor], tuple[Tensor, ...]]  # cost(scaled actions (B, H, A), *data) and its data (B, ...)
Box = tuple[Tensor, Tensor]  # lowest and highest scaled action, (B, H, A) each


@dataclass(frozen=True)
class Sizes:
    """What a decoder reads and makes: features of the window, features of one frame; steps and joints of a chunk."""

    features: int
    frame: int
    horizon: int
    actions: int

    @property
    def chunk(self) -> tuple[int, int]:
        """Shape of a chunk, (H, A)."""
        return self.horizon, self.actions


@dataclass(frozen=True)
class TrainingLoss:
    """Total loss (scalar, with graph) and its parts as plain tensors for the log."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class Encoding:
    """An encoded observation window: features (B, features) of all frames; frames (B, obs_steps, F) one by one."""

    features: Tensor
    frames: Tensor

    def repeat(self, times: int) -> Encoding:
        """Each sample `times` times in a row."""
        return Encoding(self.features.repeat_interleave(times, 0), self.frames.repeat_interleave(times, 0))


class Noise:
    """Random numbers: fresh for every sample in training; in acting the same for every sample, from a seed.

    With a seed a policy is a function of its observation: a sample alone is answered as in a batch, and tests repeat.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def normal(self, batch: int, *shape: int, like: Tensor) -> Tensor:
        """Standard normal (batch, *shape) with the dtype and device of `like`."""
        if self._generator is None:
            return torch.randn(batch, *shape, dtype=like.dtype, device=like.device)
        return torch.randn(1, *shape, generator=self._generator).to(like).expand(batch, *shape)

    def uniform(self, batch: int, *shape: int, like: Tensor) -> Tensor:
        """Uniform in [0, 1), as `normal`."""
        if self._generator is None:
            return torch.rand(batch, *shape, dtype=like.dtype, device=like.device)
        return torch.rand(1, *shape, generator=self._generator).to(like).expand(batch, *shape)


class Decoder(nn.Module, ABC):
    """One policy class: how it learns from an expert's chunk, and how it makes one. Made of (sizes, own options)."""

    several = 1  # how many chunks `propose` draws: more than one where the draws may differ in kind
    fuses = False  # whether it fuses the frames (Encoding.frames) in its own way, and needs no features of the window

    @abstractmethod
    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """expert (B, H, A) scaled; weight (B, H, 1), mean 1, 0 where a step is padding that must not count."""

    @abstractmethod
    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """A scaled chunk (B, H, A), not necessarily inside the box."""

    def continued(self, chunk: Tensor, before: Tensor) -> Tensor:
        """The chunk (B, H, A) where a plan is in force, `before` (B, H, A), seen from now: the chunk, usually."""
        return chunk

    def propose(self, encoding: Encoding, expert: Tensor, box: Box) -> Tensor:
        """A chunk (B, H, A) as `sample` makes it, nearest to the expert's of `several`.

        What refines a base learns from it how to improve one way of doing it, not how to jump to another.
        """
        times = self.several
        if times == 1:
            return self.sample(encoding, box, Noise())
        low, high = (bound.repeat_interleave(times, 0) for bound in box)
        chunks = self.sample(encoding.repeat(times), (low, high), Noise()).unflatten(0, (-1, times))
        nearest = (chunks - expert[:, None]).square().sum((2, 3)).argmin(1)
        return chunks[torch.arange(len(chunks), device=chunks.device), nearest]


def parameters(module: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in module.parameters())


def squared_error(chunk: Tensor, expert: Tensor, weight: Tensor) -> Tensor:
    """Mean weighted squared error, a scalar."""
    return (weight * (chunk - expert).square()).mean()


def clamped(chunk: Tensor, box: Box) -> Tensor:
    """The nearest chunk inside the box; what is not a number stays so, to be seen."""
    return torch.maximum(torch.minimum(chunk, box[1]), box[0])
