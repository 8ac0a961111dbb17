"""What a solver of equal steps is made of, and the plain loop over its steps.

Such a solver is a pure function of fixed-shape tensors: `start` makes its state, `step` maps it to the next one with
one value and gradient, without a branch on a value. So the same code runs in a plain loop (here), compiled or captured
(prepare.py), and differentiated (adjoints/unrolled.py). No algorithm lives here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from difftop_ros.trajopt.options import SolverOptions
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Ended, Solution, Stopwatch, finish, finite_samples, rows

MULTIPLE = 16  # a sample's row of a matrix product has the same bits in all batches of a multiple of it, whoever is in


@dataclass(frozen=True)
class Stepper:
    """A solver as start, step and solution. A state is a NamedTuple of tensors with the batch first; it has at least

    actions (B, H, A), iterations (B,) and the masks `finite` and `done` (B,); a step changes no sample that is done.
    start(problem, initial (B, H, A), options, graph) -> state
    step(problem, state, options, graph) -> state;  `graph` keeps both differentiable.
    solution(problem, state, options, deadline) -> Solution;  `deadline` says that time ended the loop.
    """

    start: Callable[[Problem, Tensor, SolverOptions, bool], Any]
    step: Callable[[Problem, Any, SolverOptions, bool], Any]
    solution: Callable[[Problem, Any, SolverOptions, bool], Solution]

    def run(self, problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
        """Solve from `initial` without a graph; ends early when every sample is done or the time is spent."""
        going = Going(problem, initial.device)

        def step(state: Any) -> Any:
            state = going.gather(state)
            return self.step(going.problem, state, options, False)

        state, deadline = iterate(
            lambda: self.start(problem, initial.detach(), options, False),
            step,
            options,
            Stopwatch(options, initial.device),
        )
        return self.solution(problem, going.scatter(state), options, deadline)


class Going:
    """The samples of a batch that still go on, in a smaller batch as others are done. On a CPU alone: it asks who is.

    problem: that of the samples in the smaller batch; all of it as long as `whole` is so.
    """

    def __init__(self, problem: Problem, device: torch.device) -> None:
        self.problem = problem
        self._asks = device.type == "cpu"
        self._rows: Tensor | None = None  # where the samples of the smaller batch belong
        self._all: Any = None  # the state of all samples when it was last made smaller

    @staticmethod
    def sizes(batch: int) -> list[int]:
        """The sizes a batch may be made smaller to, ascending: multiples of MULTIPLE, if it is one."""
        return [] if batch % MULTIPLE else list(range(MULTIPLE, 7 * batch // 8 + 1, MULTIPLE))

    @property
    def whole(self) -> bool:
        """Whether no sample has been left behind yet."""
        return self._rows is None

    def gather(self, state: Any) -> Any:
        """The state without samples that are done, or all of it if that would be hardly smaller.

        Both sizes are multiples of MULTIPLE, which some that are done fill up: so the bits of a sample's result do not
        depend on when its neighbours end.
        """
        sizes = self.sizes(len(state.done)) if self._asks else []
        if not sizes:
            return state
        going = int((~state.done).sum())
        size = next((size for size in sizes if size >= going), None)
        if size is None:
            return state
        chosen = state.done.to(torch.uint8).argsort(stable=True)[:size]
        self._all = self.scatter(state)
        self._rows = chosen if self._rows is None else self._rows[chosen]
        self.problem = self.problem.select(chosen)
        return type(state)(*(part[chosen] for part in state))

    def scatter(self, state: Any) -> Any:
        """The state of all samples."""
        if self._rows is None:
            return state
        return type(state)(*(kept.index_copy(0, self._rows, part) for kept, part in zip(self._all, state)))


def iterate(
    start: Callable[[], Any],
    step: Callable[[Any], Any],
    options: SolverOptions,
    watch: Stopwatch,
    ask: bool = True,
) -> tuple[Any, bool]:
    """Start, then step until all samples are done or a budget is spent: the last state, and whether time ended it.

    `ask`: whether the device may be asked (and so waited for) if all samples are done.
    """
    state = start()
    watch.lap()
    for _ in range(options.iterations):
        if ask and bool(state.done.all()):
            break
        if watch.spent():
            return state, True
        state = step(state)
        watch.lap()
    return state, False


def evaluate(problem: Problem, actions: Tensor, fallback: Tensor, graph: bool = False) -> tuple[Tensor, Tensor]:
    """Cost (B,) and gradient (B, H, A) at `actions`, whether run, compiled, captured or differentiated.

    With `graph`, a sample that is not finite is evaluated at `fallback` instead and its cost set to infinity: a
    rejected NaN would otherwise reach the parameters in the backward pass, as 0 * NaN.
    """
    if torch.compiler.is_compiling():
        return _evaluate_functionally(problem, actions)
    value, gradient = problem.value_and_gradient(actions, graph)
    if graph:
        good = finite_samples(value, gradient)
        if not bool(good.all()):
            safe = torch.where(rows(good, actions), actions, fallback)
            value, gradient = problem.value_and_gradient(safe, graph)
            value = torch.where(good, value, torch.inf)
    return value, gradient


def _evaluate_functionally(problem: Problem, actions: Tensor) -> tuple[Tensor, Tensor]:
    """The same through torch.func, which torch.compile traces as one graph where it does not trace autograd.grad."""

    def total(point: Tensor) -> tuple[Tensor, Tensor]:
        value = problem.cost(point)
        return value.sum(), value

    gradient, (_, value) = torch.func.grad_and_value(total, has_aux=True)(actions)
    return value, gradient


def is_better_end(value: Tensor, converged: Tensor, best: Tensor, initial: Tensor) -> Tensor:
    """Whether a point (B,) replaces the best one so far: it costs less, or it converged and costs no more to rounding.

    For solvers whose cost may rise on the way; nothing that costs more than the start is taken.
    """
    rounding = 4 * torch.finfo(value.dtype).eps * best.abs()
    return (value < best) | (converged & (value <= best + rounding) & (value <= initial))


def solution_of_best(problem: Problem, state: Any, options: SolverOptions, deadline: bool = False) -> Solution:
    """Each sample's best iterate as a result, for states that keep it as best_actions, best_value, best_gradient."""
    iterations = state.iterations
    ended = Ended(state.finite, state.done, iterations, iterations + 1, state.initial_cost, deadline)
    return finish(problem, state.best_actions, state.best_value, state.best_gradient, ended, options)


def into_box(problem: Problem, actions: Tensor) -> Tensor:
    """As Problem.clamp; a coordinate exactly on its bound keeps its own derivative instead of half of it."""
    inside = torch.where(actions > problem.upper, problem.upper, actions)
    return torch.where(inside < problem.lower, problem.lower, inside)
