"""A graph is used once: what a second backward pass through a solve is told."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError


def saved_for_backward(ctx: Any) -> tuple[Tensor, ...]:
    """ctx.saved_tensors, or TrajoptError if an earlier backward pass has freed them."""
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        raise TrajoptError(
            "backward went through this solve already and its graph is freed: solve again, or pass retain_graph=True "
            "to the first backward"
        ) from error


class Once(torch.autograd.Function):
    """The actions unchanged; a second backward pass through them raises a sentence instead of torch's paragraph."""

    @staticmethod
    def forward(ctx: Any, actions: Tensor) -> Tensor:
        """`actions` (B, H, A)."""
        ctx.save_for_backward(actions)
        return actions.view_as(actions)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Pass on."""
        saved_for_backward(ctx)
        return grads[0]
