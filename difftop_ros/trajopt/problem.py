"""A batch of independent bounded trajectory optimisation problems. Solving them is the solvers' job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError


@dataclass(frozen=True)
class Term:
    """An addend of the cost: cost(actions (B, H, A), *data) -> (B,), differentiable, low where it is good.

    tensors: how many tensors (B, ...) `data` has. They stand in the problem's context behind the objective's own, so
    that they are selected, repeated, prepared and captured with it, and may change from solve to solve.
    """

    cost: Callable[..., Tensor]
    tensors: int = 0


@dataclass(frozen=True)
class Problem:
    """min over a in [lower, upper] of J(a) = -G(a, *context) + rho/2 ||a - reference||^2 + sum of terms, per sample.

    objective: (actions (B, H, A), *context) -> return G (B,), differentiable; sample b may depend on row b alone.
    context: tensors (B, ...) the return depends on (features, latent code, initial state), then those of each term.
    lower, upper: tensors broadcastable to (B, H, A); bounds live here and never as a clamp in the objective.
    reference: (B, H, A) centre of the proximal term with weight `proximal` = rho >= 0.
    terms: what is added to the cost, see Term and `adding`.
    Raises TrajoptError on crossed bounds, an empty batch, or shapes and dtypes that do not fit.
    """

    objective: Callable[..., Tensor]
    context: tuple[Tensor, ...]
    lower: Tensor
    upper: Tensor
    reference: Tensor | None = None
    proximal: float = 0.0
    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "reference"):
            got = getattr(self, name)
            if not isinstance(got, Tensor) and not (name == "reference" and got is None):
                raise TrajoptError(
                    f"{name} is a {type(got).__name__}; expected a tensor that broadcasts to the actions"
                )
        if not 0 <= self.proximal < torch.inf:
            raise TrajoptError(f"proximal is {self.proximal}; expected a finite number, 0 or more")
        if self.proximal > 0 and self.reference is None:
            raise TrajoptError("proximal is above 0 but there is no reference; give the actions to stay near to")
        asked = sum(term.tensors for term in self.terms)
        if len(self.context) < asked:
            raise TrajoptError(f"the terms ask for {asked} tensors but the context has {len(self.context)}")

    def check(self, actions: Tensor) -> None:
        """Raise TrajoptError unless `actions` (B, H, A) is a start this problem can be solved from."""
        if actions.ndim != 3 or 0 in actions.shape:
            raise TrajoptError(
                f"initial actions have shape {tuple(actions.shape)}; expected (batch, horizon, joints), none 0"
            )
        if actions.dtype not in (torch.float32, torch.float64):
            raise TrajoptError(f"initial actions have dtype {actions.dtype}; expected float32 or float64")
        for name, tensor in (("lower", self.lower), ("upper", self.upper), ("reference", self.reference)):
            if tensor is not None:
                _check_like(name, tensor, actions)
        for index, tensor in enumerate(self.context):
            if not isinstance(tensor, Tensor):
                raise TrajoptError(
                    f"context {index} is a {type(tensor).__name__}; expected a tensor with the batch first"
                )
            if tensor.shape[:1] != actions.shape[:1]:
                raise TrajoptError(
                    f"context {index} has shape {tuple(tensor.shape)}; expected batch {actions.shape[0]} first"
                )
            if tensor.device != actions.device:
                raise TrajoptError(
                    f"context {index} is on {tensor.device}, the initial actions are on {actions.device}; move one"
                )
        if bool((self.lower.isnan() | self.upper.isnan()).any()):
            raise TrajoptError("a bound is NaN; expected a number, or an infinity for no bound")
        if bool((self.lower > self.upper).any()):
            raise TrajoptError("a lower bound lies above its upper bound; the box is empty")
        if bool(((self.lower == torch.inf) | (self.upper == -torch.inf)).any()):
            raise TrajoptError("a lower bound is +inf or an upper bound is -inf; the box holds no finite action")

    def cost(self, actions: Tensor) -> Tensor:
        """J (B,) of actions (B, H, A)."""
        value = -self.objective(actions, *self.own_context)
        if value.shape != actions.shape[:1]:
            raise TrajoptError(
                f"the objective returned shape {tuple(value.shape)}; expected ({len(actions)},), one return per sample"
            )
        if self.proximal > 0 and self.reference is not None:
            value = value + 0.5 * self.proximal * (actions - self.reference).square().flatten(1).sum(1)
        first = len(self.own_context)
        for term in self.terms:
            share = term.cost(actions, *self.context[first : first + term.tensors])
            if share.shape != actions.shape[:1]:
                raise TrajoptError(f"a term returned shape {tuple(share.shape)}; expected ({len(actions)},)")
            value, first = value + share, first + term.tensors
        return value

    @property
    def own_context(self) -> tuple[Tensor, ...]:
        """The tensors of the context that are the objective's, without those of the terms."""
        return self.context[: len(self.context) - sum(term.tensors for term in self.terms)]

    def adding(self, cost: Callable[..., Tensor], *data: Tensor) -> Problem:
        """The same problem with cost(actions, *data) added, data (B, ...)."""
        return replace(self, context=(*self.context, *data), terms=(*self.terms, Term(cost, len(data))))

    def refuse_terms(self, what: str) -> None:
        """Raise TrajoptError if there are terms, for what looks into the objective and would not see them."""
        if self.terms:
            raise TrajoptError(
                f"{what} sees the objective alone, and {len(self.terms)} terms are added to it; use method 'qn'"
            )

    def value_and_gradient(self, actions: Tensor, graph: bool = False) -> tuple[Tensor, Tensor]:
        """J (B,) and dJ/da (B, H, A). Samples are independent, so one backward pass serves all.

        Both are detached, unless `graph` keeps them differentiable (with respect to actions, context, parameters).
        Raises TrajoptError if the return carries no graph to the actions.
        """
        with torch.enable_grad():
            leaf = actions if graph and actions.requires_grad else actions.detach().requires_grad_()
            value = self.cost(leaf)
            found = (
                torch.autograd.grad(value.sum(), leaf, create_graph=graph, allow_unused=True)
                if value.requires_grad
                else (None,)
            )
        gradient = found[0]
        if gradient is None:
            raise TrajoptError(
                "the objective's return carries no graph back to the actions; expected torch operations on them "
                "outside no_grad, and no detach()"
            )
        return (value, gradient) if graph else (value.detach(), gradient)

    def clamp(self, actions: Tensor) -> Tensor:
        """The nearest actions inside the box."""
        return torch.maximum(torch.minimum(actions, self.upper), self.lower)

    def select(self, rows: Tensor) -> Problem:
        """The problems of the samples `rows` (indices or mask over the batch) alone."""
        reference = None if self.reference is None else _rows(self.reference, rows)
        lower, upper = _rows(self.lower, rows), _rows(self.upper, rows)
        context = tuple(c[rows] for c in self.context)
        return replace(self, context=context, lower=lower, upper=upper, reference=reference)

    def repeat(self, batch: int, times: int) -> Problem:
        """Each of the `batch` problems `times` times in a row, (B * times), for several starts of each."""
        return self.select(torch.arange(batch, device=self.lower.device).repeat_interleave(times))

    def detached(self) -> Problem:
        """The same problem with no graph behind its tensors (the objective's parameters are left as they are)."""
        reference = None if self.reference is None else self.reference.detach()
        context = tuple(c.detach() for c in self.context)
        return replace(self, context=context, lower=self.lower.detach(), upper=self.upper.detach(), reference=reference)


def _check_like(name: str, tensor: Tensor, actions: Tensor) -> None:
    """Raise TrajoptError unless a tensor has the actions' dtype and device and broadcasts to their shape."""
    if tensor.dtype != actions.dtype or tensor.device != actions.device:
        raise TrajoptError(
            f"{name} is {tensor.dtype} on {tensor.device}, the initial actions are {actions.dtype} on "
            f"{actions.device}; convert one to the other"
        )
    try:
        fits = torch.broadcast_shapes(tensor.shape, actions.shape) == actions.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise TrajoptError(
            f"{name} has shape {tuple(tensor.shape)}, which does not broadcast to {tuple(actions.shape)}"
        )


def _rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """Rows of a tensor that broadcasts to (B, H, A): all of it when one row serves the whole batch."""
    return tensor[rows] if tensor.ndim == 3 and len(tensor) > 1 else tensor
