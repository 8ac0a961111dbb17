"""Base plus learned correction: the ablation that an optimiser as decoder must beat at equal capacity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from difftop_ros.contract import Contract
from difftop_ros.nets import mlp
from difftop_ros.policies.builtin import ResidualOptions
from difftop_ros.policies.config import PolicyConfig
from difftop_ros.policies.decoder import Added, Box, Encoding, Noise, TrainingLoss, clamped, squared_error
from difftop_ros.policies.net import PolicyNet, chosen
from difftop_ros.trajopt import Solution


class ResidualNet(PolicyNet):
    """a = base + f(features, base)."""

    def __init__(self, contract: Contract, config: PolicyConfig) -> None:
        super().__init__(contract, config)
        assert isinstance(config.own, ResidualOptions)
        variables, width = self.shape[0] * self.shape[1], config.own.residual_width
        self.correction = mlp([config.features + variables, width, width, variables], final_gain=0.1)

    def corrected(self, encoding: Encoding, base: Tensor) -> Tensor:
        """base (B, H, A) with its correction."""
        change = self.correction(torch.cat([encoding.features, base.flatten(1)], dim=1))
        return base + change.view_as(base)

    def plan(
        self,
        encoding: Encoding,
        origin: Tensor,
        warm_start: Tensor | None = None,
        iterations: int | None = None,
        deadline_ms: float | None = None,
        noise: Noise | None = None,
        terms: Sequence[Added] = (),
    ) -> Solution:
        """As PolicyNet.plan; the correction is one step, there is nothing to warm-start or cut short."""
        box = self.scaler.bounds(origin)
        base = self.base_chunk(encoding, box, noise)
        chunk = base if iterations == 0 else self.corrected(encoding, base)
        self.asked = chunk.detach()
        return chosen(clamped(chunk, box))

    def learn(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """The base's own loss and the squared error of the corrected chunk, which does not reach the base."""
        of_base = self.base.loss(encoding, expert, weight, box)
        with torch.no_grad():
            base = self.base.propose(encoding, expert, box)
        plan_loss = squared_error(self.corrected(encoding, base), expert, weight)
        total = of_base.total + plan_loss
        parts = {**of_base.parts, "plan_mse": plan_loss.detach(), "loss": total.detach()}
        return TrainingLoss(total, parts)
