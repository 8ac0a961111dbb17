"""A solve made ready ahead of time: compiled, or captured as CUDA graphs, then called with new data of the same shapes.

The iterations are the solver's own (stepping.py); here they are only compiled, captured and called.
"""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from difftop_ros.trajopt.adjoints import attach_implicit
from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.multistart import better_start, solve_from_several
from difftop_ros.trajopt.options import SolverOptions
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import Solution, Stopwatch
from difftop_ros.trajopt.solve import solver_of
from difftop_ros.trajopt.solvers import steppers
from difftop_ros.trajopt.stepping import Going, Stepper, iterate

BACKENDS = ("compile", "cuda_graph", "compile+cuda_graph", "eager")
WARM_UPS = 3  # runs before a capture, in which libraries allocate what they may not allocate in one

Start = Callable[[Tensor, tuple[Any, ...]], Any]
Step = Callable[[Any, tuple[Any, ...]], Any]
Choose = Callable[[Tensor, Tensor, tuple[Tensor, ...]], Tensor]


def prepare(
    problem: Problem, initial: Tensor, options: SolverOptions | None = None, backend: str = "compile"
) -> PreparedSolver:
    """Make the solve of problems like this one, from starts like `initial` (B, H, A), ready to be called.

    backend: 'compile' compiles start and step (torch.compile; 20 to 100 s here, never in a call; CPU and CUDA);
        'cuda_graph' captures them as CUDA graphs and replays those without waiting for the device;
        'compile+cuda_graph' captures the compiled ones; 'eager' does neither.
    All give the same results to rounding. The objective's parameters are read live: a training step in place is seen by
    the next call. Parameters that are replaced (not written in place), a module's train() or eval(), or another
    torch.set_num_threads make 'compile' compile once more in the next call, and 'cuda_graph' go on with the old ones.
    Raises TrajoptError if the solver, the adjoint, the device or the objective does not allow it, with the reason.
    """
    return PreparedSolver(problem, initial, options or SolverOptions(), backend)


class PreparedSolver:
    """What `prepare` returns: call it with new data. Not for several threads at once, its buffers are shared."""

    def __init__(self, problem: Problem, initial: Tensor, options: SolverOptions, backend: str) -> None:
        solver = solver_of(options)
        if solver.stepper is None:
            raise TrajoptError(f"solver {options.method!r} cannot be prepared; expected one of {steppers()}")
        if options.adjoint not in ("implicit", "none"):
            raise TrajoptError(f"adjoint {options.adjoint!r} cannot be prepared; expected 'implicit' or 'none'")
        if backend not in BACKENDS:
            raise TrajoptError(f"backend is {backend!r}; expected one of {list(BACKENDS)}")
        if "cuda_graph" in backend and initial.device.type != "cuda":
            raise TrajoptError(
                f"backend {backend!r} needs the problem on a CUDA device, it is on {initial.device}; move it, or use "
                "backend 'compile'"
            )
        problem.check(initial)
        self.options, self.backend = options, backend
        self._stepper: Stepper = solver.stepper
        self._like, self._initial_like = problem.detached(), initial.detach()
        self._buffers: tuple[Tensor, ...] | None = None
        self._step_of_rest: Step | None = None  # the step of a batch made smaller as its samples are done
        with torch.no_grad():
            solver.stepper.start(self._like, self._initial_like, options, False)  # the objective's own errors
            self._start, self._step = self._functions(backend)
            solve_from_several(self._run, self._like, self._initial_like, options)  # compiles and captures
            self._better = self._chooser(backend)
            self._better_of(self._like, self._initial_like, self._initial_like)

    def __call__(
        self,
        context: Sequence[Tensor],
        initial: Tensor,
        reference: Tensor | None = None,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
        warm_start: Tensor | None = None,
        deadline_ms: float | None = None,
    ) -> Solution:
        """Solve for a new context (tensors (B, ...)) from `initial` (B, H, A); as `solve` otherwise.

        reference, lower, upper, deadline_ms: None for those prepared with. With adjoint 'implicit' and gradients
        enabled, the actions carry it. Raises TrajoptError for another number, shape, dtype or device of tensors.
        """
        like = self._like
        problem = dataclasses.replace(
            like,
            context=tuple(context),
            reference=like.reference if reference is None else reference,
            lower=like.lower if lower is None else lower,
            upper=like.upper if upper is None else upper,
        )
        self._check(problem, initial)
        if lower is not None or upper is not None:  # reads the bounds, for which a device is waited for
            problem.check(initial)
        options = self.options if deadline_ms is None else dataclasses.replace(self.options, deadline_ms=deadline_ms)
        with torch.no_grad():
            frozen, start = problem.detached(), initial.detach()
            if warm_start is not None:
                self._fits("warm_start", warm_start, self._initial_like)
                start = self._better_of(frozen, start, warm_start.detach())
            solution = solve_from_several(self._run, frozen, start, options)
        if self.options.adjoint == "none" or not torch.is_grad_enabled():
            return solution
        return dataclasses.replace(solution, actions=attach_implicit(problem, solution, self.options))

    def _run(self, problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
        """Copy into the buffers, iterate, copy out; `problem` may hold several starts of each sample."""
        watch = Stopwatch(options, initial.device)
        fresh = (initial, *_tensors(problem))
        if self._buffers is None:
            self._buffers = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in fresh)
            if "cuda_graph" in self.backend:
                self._start, self._step = _captured(self._start, self._step, self._buffers)
            else:  # compiled here even where the first problem is at its optimum and takes no step
                self._step(self._start(self._buffers[0], self._buffers[1:]), self._buffers[1:])
            if "cuda_graph" not in self.backend and initial.device.type == "cpu":
                self._step_of_rest = self._for_fewer(problem, self._buffers)
        for buffer, tensor in zip(self._buffers, fresh):
            buffer.copy_(tensor)
        start, tensors = self._buffers[0], self._buffers[1:]
        on_cpu = initial.device.type == "cpu"
        going = Going(problem, initial.device)

        def step(state: Any) -> Any:
            if self._step_of_rest is None:
                return self._step(state, tensors)
            state = going.gather(state)
            return self._step(state, tensors) if going.whole else self._step_of_rest(state, _tensors(going.problem))

        state, deadline = iterate(
            lambda: self._start(start, tensors),
            step,
            options,
            watch,
            ask=on_cpu or options.deadline_ms is not None,
        )
        solution = self._stepper.solution(problem, going.scatter(state), options, deadline)
        return Solution(**{name: found.clone() for name, found in vars(solution).items()})

    def _better_of(self, problem: Problem, initial: Tensor, warm: Tensor) -> Tensor:
        """The start that costs less; on tensors of their own, as compiled code is for those that share no memory."""
        tensors = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in _tensors(problem))
        return self._better(initial.clone(memory_format=torch.contiguous_format), warm.contiguous(), tensors)

    def _chooser(self, backend: str) -> Choose:
        """`better_start` as a function of tensors alone, compiled if the backend says so."""
        like = self._like

        def choose(initial: Tensor, warm: Tensor, tensors: tuple[Tensor, ...]) -> Tensor:
            return better_start(_with(like, tensors), initial, warm)

        return _compiled(choose, self._initial_like.device.type == "cpu") if "compile" in backend else choose

    def _functions(self, backend: str) -> tuple[Start, Step]:
        """Start and step as functions of tensors alone, compiled if the backend says so."""
        stepper, like, options = self._stepper, self._like, self.options

        def start(initial: Tensor, tensors: tuple[Tensor, ...]) -> Any:
            return stepper.start(_with(like, tensors), initial, options, False)

        def step(state: Any, tensors: tuple[Tensor, ...]) -> Any:
            return stepper.step(_with(like, tensors), state, options, False)

        self._plain_step = step
        if "compile" not in backend:
            return start, step

        # The start's guards see whether the objective is what it was compiled for; the steps rely on them. Each version
        # of the start has a number, and the step that goes with it.
        @torch.compiler.assume_constant_result
        def number() -> int:  # runs while the start is compiled, and not in a call
            return next(numbers)

        def numbered(initial: Tensor, tensors: tuple[Tensor, ...]) -> Any:
            return start(initial, tensors), number()

        on_cpu = self._initial_like.device.type == "cpu"
        numbers, now = itertools.count(), 0
        begin, steps = _compiled(numbered, on_cpu), {}

        def begun(initial: Tensor, tensors: tuple[Tensor, ...]) -> Any:
            nonlocal now
            state, now = begin(initial, tensors)
            return _apart(state)

        def gone_on(state: Any, tensors: tuple[Tensor, ...]) -> Any:
            if now not in steps:
                steps[now] = _compiled(step, on_cpu, guarded=False)
            return steps[now](state, tensors)

        return begun, gone_on

    def _for_fewer(self, problem: Problem, buffers: tuple[Tensor, ...]) -> Step | None:
        """The step for any smaller batch of the sizes `Going` makes; None where there are none or it cannot be one."""
        sizes = Going.sizes(len(buffers[0]))
        if "compile" not in self.backend or not sizes:
            return self._step if sizes else None
        step = _compiled(self._plain_step, True, dynamic=None)
        state = self._start(buffers[0], buffers[1:])
        for size in {sizes[0], sizes[len(sizes) // 2], sizes[-1]}:
            rows = torch.arange(size)
            few = type(state)(*(part[rows] for part in state)), _tensors(problem.select(rows))
            for part, whole in zip((*few[0], *few[1]), (*state, *buffers[1:])):
                if part.shape != whole.shape:
                    torch._dynamo.mark_dynamic(part, 0)
            try:
                step(*few)
            except TrajoptError:  # an objective that holds for one size of the batch: all of it goes on to the end
                return None
        return step

    def _check(self, problem: Problem, initial: Tensor) -> None:
        like = self._like
        if len(problem.context) != len(like.context):
            raise TrajoptError(
                f"the context has {len(problem.context)} tensors; this solver was prepared for {len(like.context)}"
            )
        if problem.reference is not None and like.reference is None:
            raise TrajoptError("a reference was given; this solver was prepared for a problem without one")
        self._fits("initial", initial, self._initial_like)
        for index, (got, expected) in enumerate(zip(problem.context, like.context)):
            self._fits(f"context {index}", got, expected)
        for name in ("lower", "upper", "reference"):
            if getattr(like, name) is not None:
                self._fits(name, getattr(problem, name), getattr(like, name))

    @staticmethod
    def _fits(name: str, got: Tensor, expected: Tensor) -> None:
        if not isinstance(got, Tensor):
            raise TrajoptError(f"{name} is a {type(got).__name__}; expected a tensor as prepared for")
        if (got.shape, got.dtype, got.device) != (expected.shape, expected.dtype, expected.device):
            raise TrajoptError(
                f"{name} is {got.dtype} {tuple(got.shape)} on {got.device}; this solver was prepared for "
                f"{expected.dtype} {tuple(expected.shape)} on {expected.device}: convert it, or prepare again"
            )


def _with(like: Problem, tensors: tuple[Tensor, ...]) -> Problem:
    """The problem with other tensors, in the order of `_tensors`."""
    lower, upper, *rest = tensors
    reference = None if like.reference is None else rest.pop(0)
    return dataclasses.replace(like, context=tuple(rest), lower=lower, upper=upper, reference=reference)


def _tensors(problem: Problem) -> tuple[Tensor, ...]:
    """Lower, upper, the reference if there is one, then the context."""
    reference = () if problem.reference is None else (problem.reference,)
    return (problem.lower, problem.upper, *reference, *problem.context)


def _apart(state: Any) -> Any:
    """The state with no two parts in the same memory: a step is compiled for either, and no later state shares any."""
    seen: set[int] = set()
    parts = []
    for part in state:
        parts.append(part.clone() if part.data_ptr() in seen else part)
        seen.add(part.data_ptr())
    return type(state)(*parts)


def _compiled(function: Any, on_cpu: bool, dynamic: bool | None = False, guarded: bool = True) -> Any:
    """The function compiled as one graph for its shapes, or if `dynamic` is None for all sizes of what is marked.

    A failure of the first call is told in a sentence.
    Compiled code is kept per code object, and only a few versions of it; so each function gets its own code object.
    On a CPU the calls of its kernels are compiled as well: of a step at batch 1, Python takes an eighth to make them.
    Without guards, a twentieth of such a step, the caller sees to it that it is called for what it was compiled for.
    """
    own = types.FunctionType(
        function.__code__.replace(), function.__globals__, function.__name__, None, function.__closure__
    )
    options: dict[str, Any] = {"cpp_wrapper": True} if on_cpu else {}
    if not guarded:
        options["guard_filter_fn"] = lambda guards: [False for _ in guards]
    fast = torch.compile(own, fullgraph=True, dynamic=dynamic, options=options)
    worked = False

    def call(*arguments: Any) -> Any:
        nonlocal worked
        if worked:
            return fast(*arguments)
        try:
            result = fast(*arguments)
        except TrajoptError:
            raise
        except Exception as error:
            cause = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise TrajoptError(
                f"the objective does not compile ({type(error).__name__}: {cause}); rewrite that part of it, or use "
                "backend 'eager'"
            ) from error
        worked = True
        return result

    return call


def _captured(start: Start, step: Step, buffers: tuple[Tensor, ...]) -> tuple[Start, Step]:
    """Start and step as two CUDA graphs on fixed memory: the step's reads the state and writes the next one over it."""
    initial, tensors = buffers[0], buffers[1:]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            step(start(initial, tensors), tensors)
    torch.cuda.current_stream().wait_stream(side)
    starting, stepping = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(starting):
        begun = start(initial, tensors)
        state = type(begun)(*(part.clone() for part in begun))  # parts may share memory, which copying over would mix
    with torch.cuda.graph(stepping, pool=starting.pool()):
        following = step(state, tensors)
        for kept, fresh in zip(state, following):
            kept.copy_(fresh)

    def replay_start(_initial: Tensor, _tensors: tuple[Any, ...]) -> Any:
        starting.replay()
        return state

    def replay_step(_state: Any, _tensors: tuple[Any, ...]) -> Any:
        stepping.replay()
        return state

    return replay_start, replay_step
