"""What a cost term is, and how one that is written in commands is laid over a plan in scaled actions."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class CostTerm(Protocol):
    """An addend of the optimised cost, in commands: low where a plan is good, differentiable in torch.

    What may change from plan to plan (a weight, a place) is in `data`, tensors whose shapes stay: a solve that was
    compiled or captured reads them anew each time. What stays for good (a rate, a chain of links) is in the object.
    """

    @property
    def data(self) -> tuple[Tensor, ...]:
        """Tensors without a batch, float32; the call gets each with the batch in front."""
        ...

    def __call__(self, commands: Tensor, /, *data: Any, **_: Any) -> Tensor:  # Any: each term has data of its own
        """commands (B, H, A) in the contract's units and joint order, data (B, ...) -> cost (B,)."""
        ...


class InUnits:
    """A term over scaled actions a (B, H, A), of which a * scale + offset are the commands."""

    def __init__(self, term: CostTerm) -> None:
        self.term = term

    def __call__(self, actions: Tensor, scale: Tensor, offset: Tensor, *data: Tensor) -> Tensor:
        """actions, scale and offset (B, H, A), data (B, ...) -> cost (B,)."""
        return self.term(actions * scale + offset, *data)
