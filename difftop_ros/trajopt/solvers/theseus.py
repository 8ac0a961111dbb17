"""theseus-ai as the engine: Gauss-Newton and Levenberg-Marquardt for vector residuals, and the published scalar form.

theseus linearises (torch.func), factors and steps; between its steps this file keeps the box, judges each iterate,
rejects what is worse or not finite, and watches the deadline. theseus is imported on first use.

form 'residuals', for a `Tracking` objective: J = 1/2 ||r(a)||^2 + rho/2 ||a - a_ref||^2, with sqrt(rho)(a - a_ref) as
further rows of r. theseus knows no bounds: coordinates held by one are left out of the linear system, the step is
projected on the box, and a step that does not lower the cost is retried with more damping ('lm') or at a quarter of its
length ('gn').

form 'scalar', for any objective: the paper's single residual offset + J (= offset - G without a proximal term) with a
fixed step and damping, projected on the box; the best iterate is returned. Its normal matrix has rank one: in float32
its Cholesky factorisation fails from a gradient norm of about 300 on. Such a sample stops at its best iterate with
NO_DECREASE ("the precision is exhausted"), the others go on. `coupled` makes one problem with the residual
offset + mean(J) of the whole batch, as the released code does; by that design samples depend on each other.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from difftop_ros.trajopt.errors import TrajoptError
from difftop_ros.trajopt.objectives import Tracking
from difftop_ros.trajopt.options import SolverOptions, positive
from difftop_ros.trajopt.problem import Problem
from difftop_ros.trajopt.solution import (
    Ended,
    Solution,
    Stopwatch,
    active,
    finish,
    finite_samples,
    largest,
    projected_gradient,
    rows,
)

SHRINK = 0.25  # Gauss-Newton: step length after a rejected trial
EASE = 0.2  # Levenberg-Marquardt: damping after an accepted step; after rejected ones it grows by 2, 4, 8, ...
LEAST_DAMPING = 1e-12


@dataclass(frozen=True)
class TheseusSettings:
    """form: 'residuals' (needs a Tracking objective) or 'scalar'. optimizer: 'lm' or 'gn' ('scalar' is always LM).

    damping: Levenberg-Marquardt's, adapted per sample in the residual form and fixed in the scalar one. step: share of
    each step taken; None for 1 (residuals) or 0.01 (scalar). offset, coupled: of the scalar form alone.
    """

    form: str = "residuals"
    optimizer: str = "lm"
    damping: float = 1e-3
    step: float | None = None
    offset: float = 1000.0
    coupled: bool = False

    def __post_init__(self) -> None:
        for name, known in (("form", ("residuals", "scalar")), ("optimizer", ("lm", "gn"))):
            if getattr(self, name) not in known:
                raise TrajoptError(
                    f"{name} of TheseusSettings is {getattr(self, name)!r}; expected one of {list(known)}"
                )
        positive(self, "damping", *(["step"] if self.step is not None else []))
        if self.form == "scalar" and self.optimizer == "gn":
            raise TrajoptError(
                "optimizer is 'gn' but one scalar residual has a normal matrix of rank one; expected 'lm'"
            )
        if self.coupled and self.form != "scalar":
            raise TrajoptError("coupled is True; expected form 'scalar', the only one whose samples share a residual")

    @property
    def share(self) -> float:
        """The step size theseus is given."""
        return self.step or (1.0 if self.form == "residuals" else 1e-2)


def solve_theseus(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Minimise from `initial` (B, H, A) with theseus-ai; never above the start's cost, never out of the box.

    Raises TrajoptError if theseus-ai is not installed, if the form needs a Tracking objective, if the context has
    another dtype than the actions, or if the objective cannot run under torch.func.vmap, which theseus uses.
    """
    settings = options.settings or TheseusSettings()
    theseus = _import()
    _refuse(problem, initial, settings)
    watch = Stopwatch(options)
    start = problem.clamp(initial.detach())
    value, gradient = problem.value_and_gradient(start)
    watch.lap()
    finite = finite_samples(value, gradient)
    gradient = torch.where(rows(finite, gradient), gradient, torch.zeros_like(gradient))
    # a factorisation fails for the whole batch: samples that are not finite are replaced by a finite one, unused
    stand_in = torch.where(finite, torch.arange(len(start), device=start.device), finite.long().argmax())
    healthy = problem.select(stand_in)
    search = _Search(healthy, start[stand_in], value[stand_in], gradient[stand_in], finite, options, settings, watch)
    search.deadline = options.iterations > 0 and watch.spent()
    if options.iterations and not search.deadline and not search.all_stopped():
        search.run(theseus)
        best_value, best_gradient = healthy.value_and_gradient(search.best[1])
        # the search saw costs through theseus's residual: in float32, offset + J keeps few digits of J
        keep = finite & (best_value <= value) & finite_samples(best_value, best_gradient)
    else:
        best_value, best_gradient, keep = value, gradient, torch.zeros_like(finite)
    stuck, iterations = search.stuck & finite, search.iterations
    ended = Ended(finite, stuck, iterations, iterations + 1, value, search.deadline)
    actions = torch.where(rows(keep, start), search.best[1], start)
    gradient = torch.where(rows(keep, start), best_gradient, gradient)
    return finish(problem, actions, torch.where(keep, best_value, value), gradient, ended, options)


def _import() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Couldn't import skparse")  # its sparse solver is not used
            import theseus
    except ModuleNotFoundError as error:
        raise TrajoptError(
            f"method 'theseus' needs theseus-ai, but the package {error.name!r} is not installed; run 'make setup', or "
            "pip install scipy semantic-version lxml, and then pip install --no-deps --no-build-isolation theseus-ai "
            "torchlie torchkin urdf-parser-py, both with -c constraints.txt"
        ) from None
    return theseus


def _refuse(problem: Problem, initial: Tensor, settings: TheseusSettings) -> None:
    """Raise TrajoptError for what this engine cannot take."""
    if settings.form == "residuals" and not isinstance(problem.objective, Tracking):
        raise TrajoptError(
            f"form 'residuals' of method 'theseus' got an objective of type {type(problem.objective).__name__}; "
            "expected Tracking, or settings=TheseusSettings(form='scalar')"
        )
    if settings.form == "residuals":
        problem.refuse_terms("form 'residuals' of method 'theseus'")
    for index, tensor in enumerate(problem.context):
        if tensor.dtype != initial.dtype:
            raise TrajoptError(
                f"context {index} is {tensor.dtype}; expected {initial.dtype} like the actions, theseus takes no other"
            )


class _Done(Exception):
    """Leaves theseus's loop from between two iterations."""


class _Search:
    """Where the search stands between theseus's iterations, per sample, and the callback that moves it on."""

    def __init__(
        self,
        problem: Problem,
        start: Tensor,
        value: Tensor,
        gradient: Tensor,
        finite: Tensor,
        options: SolverOptions,
        settings: TheseusSettings,
        watch: Stopwatch,
    ) -> None:
        self.problem, self.options, self.settings, self.watch = problem, options, settings, watch
        self.initial_value = self._as_seen(value)
        self.point = start
        self.best = (self._as_seen(value), start, gradient)
        self.finite = finite
        self.iterations = torch.zeros_like(value, dtype=torch.long)
        self.stuck = torch.zeros_like(finite)
        self.stopped = self._converged(gradient) | ~finite
        self.damping = torch.full_like(value[:1] if settings.coupled else value, settings.damping)
        self.growth = torch.full_like(value, 2.0)
        self.length = torch.ones_like(value)
        self.deadline = False

    def run(self, theseus: Any) -> None:
        """Up to options.iterations iterations of theseus from the start."""
        optimizer = _optimizer(theseus, self)
        keywords = {"damping": self.damping} if self.settings.optimizer == "lm" else {}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
            try:
                optimizer.optimize(end_iter_callback=self.after_step, **keywords)
            except _Done:
                return
            except RuntimeError as error:
                if "vmap" not in str(error) and "functorch" not in str(error):
                    raise
                raise TrajoptError(
                    f"the objective does not run under torch.func.vmap, which method 'theseus' needs: {error}"
                ) from error
        value, gradient = self.problem.value_and_gradient(self.point)
        self._judge(self.point, self._as_seen(value), gradient)

    def after_step(self, optimizer: Any, info: Any, _delta: Tensor, _index: int) -> None:
        """theseus has linearised at `self.point` and stepped: judge the point, and say where to linearise next."""
        solver = optimizer.linear_solver
        value, gradient = self._read(solver.linearization)
        self.watch.lap()
        good = self._judge(self.point, value, gradient)
        self.stopped = self.stopped | self._converged(gradient) & good
        failed = ~good | (solver.failed & self._hopeless())
        self.stuck = self.stuck | (failed & ~self.stopped)
        self.stopped = self.stopped | self.stuck
        self.iterations = self.iterations + (~self.stopped).long()
        raw = solver.variable.tensor.view_as(self.point)
        if self.settings.form == "scalar":
            trial = self.problem.clamp(raw)
        else:
            trial = self._accepted(raw, value, info.last_err, solver.failed)
        self.point = torch.where(rows(self.stopped, trial), self.best[1], trial)
        if self.all_stopped():
            raise _Done
        if self.watch.spent():
            self.deadline = True
            raise _Done
        optimizer.objective.update({"actions": self.point.reshape_as(solver.variable.tensor)})

    def all_stopped(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.stopped.all())

    def _as_seen(self, value: Tensor) -> Tensor:
        """A cost with the digits that theseus's scalar residual leaves of it, so that costs of iterates compare."""
        if self.settings.form == "residuals" or self.settings.coupled:
            return value
        return (self.settings.offset + value) - self.settings.offset

    def _hopeless(self) -> Tensor:
        """Samples (B,) for which a failed factorisation is the end: all but those that more damping may help."""
        adaptive = self.settings.form == "residuals" and self.settings.optimizer == "lm"
        return torch.full_like(self.stuck, not adaptive)

    def _converged(self, gradient: Tensor) -> Tensor:
        return largest(projected_gradient(self.problem, self.point, gradient)) <= self.options.tolerance

    def _read(self, linearization: Any) -> tuple[Tensor, Tensor]:
        """The cost (B,) and its gradient (B, H, A) at `self.point`, from theseus's Jacobian and error there."""
        jacobian, error = linearization.A, -linearization.b
        if self.settings.form == "residuals":
            gradient = torch.bmm(error.unsqueeze(1), jacobian).view_as(self.point)
            return 0.5 * error.square().sum(1), gradient
        if not self.settings.coupled:
            return error[:, 0] - self.settings.offset, jacobian.view_as(self.point)
        share = self.finite.to(error.dtype) / self.finite.sum()
        gradient = jacobian.view_as(self.point) / rows(share, self.point)
        gradient = torch.where(rows(self.finite, gradient), gradient, torch.zeros_like(gradient))
        return self.problem.cost(self.point), gradient

    def _judge(self, point: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """Take `point` as the best where it is; return where (B,) cost and gradient are finite.

        Costs that differ by rounding alone are told apart by their gradients, as long as the start's is not exceeded.
        """
        good = finite_samples(value, gradient)
        best_value, best, best_gradient = self.best
        norm = largest(projected_gradient(self.problem, point, gradient))
        best_norm = largest(projected_gradient(self.problem, best, best_gradient))
        level = (value <= best_value + _rounding(best_value)) & (value <= self.initial_value) & (norm < best_norm)
        better = good & ~self.stopped & ((value < best_value) | level)
        pick = rows(better, point)
        self.best = (
            torch.where(better, value, best_value),
            torch.where(pick, point, best),
            torch.where(pick, gradient, best_gradient),
        )
        return good

    def _accepted(self, raw: Tensor, value: Tensor, raw_value: Tensor, failed: Tensor) -> Tensor:
        """The residual form's next point: theseus's step, shortened and projected, if it lowers the cost."""
        trial = self.problem.clamp(self.point + rows(self.length, raw) * (raw - self.point))
        trial_value = raw_value if torch.equal(trial, raw) else self.problem.cost(trial)
        lower = trial_value <= value + _rounding(value)
        accept = lower & ~failed
        moved = largest(trial - self.point) > 4 * torch.finfo(value.dtype).eps * largest(self.point).clamp_min(1e-12)
        self.stuck = self.stuck | (~accept & ~moved & ~failed & ~self.stopped)
        self.stopped = self.stopped | self.stuck
        if self.settings.optimizer == "gn":
            self.length = torch.where(accept, torch.ones_like(self.length), self.length * SHRINK)
        # the tensor that theseus was given: it reads the new values in its next iteration
        self.damping.mul_(torch.where(accept, torch.full_like(self.growth, EASE), self.growth))
        self.damping.clamp_(LEAST_DAMPING, torch.finfo(value.dtype).max ** 0.5)
        self.growth = torch.where(accept, torch.full_like(self.growth, 2.0), (2 * self.growth).clamp_max(1e6))
        return torch.where(rows(accept, trial), trial, self.point)


def _rounding(value: Tensor) -> Tensor:
    return 4 * torch.finfo(value.dtype).eps * value.abs()


def _optimizer(theseus: Any, search: _Search) -> Any:
    """theseus's optimiser for the search's problem: one vector variable per sample, the context as auxiliary ones."""
    problem, settings, start = search.problem, search.settings, search.point
    batch, horizon, joints = start.shape
    dtype = start.dtype
    shape = (1, -1) if settings.coupled else (batch, -1)
    variable = theseus.Vector(tensor=start.reshape(shape).clone(), name="actions")
    tensors = [] if settings.coupled else list(problem.context)
    if problem.reference is not None and not settings.coupled:
        tensors.append(problem.reference.expand_as(start))
    auxiliary = [theseus.Variable(tensor=t.contiguous(), name=f"given_{i}") for i, t in enumerate(tensors)]
    share = search.finite.to(dtype) / search.finite.sum()

    def one(actions: Tensor, given: tuple[Any, ...]) -> Tensor:
        """Residuals (b, R); b is 1 inside theseus's vmap."""
        actions = actions.view(-1, horizon, joints)
        context = tuple(g.tensor for g in given[: len(problem.context)])
        reference = None if problem.reference is None else given[-1].tensor
        if settings.form == "scalar":
            part = replace(problem, context=context, reference=reference)
            return settings.offset + part.cost(actions)[:, None]
        assert isinstance(problem.objective, Tracking)
        residuals = problem.objective.residuals(actions, *context)
        if reference is None or problem.proximal == 0:
            return residuals
        return torch.cat([residuals, problem.proximal**0.5 * (actions - reference).flatten(1)], dim=1)

    def error(optim_vars: tuple[Any, ...], aux_vars: tuple[Any, ...]) -> Tensor:
        actions = optim_vars[0].tensor
        if settings.coupled:
            return (settings.offset + (share * problem.cost(actions.view(batch, horizon, joints))).sum()).view(1, 1)
        return one(actions, aux_vars)

    size = error((variable,), tuple(auxiliary)).shape[1]
    weight = theseus.ScaleCostWeight(torch.ones(1, 1, dtype=dtype, device=start.device))
    cost = theseus.AutoDiffCostFunction([variable], error, size, cost_weight=weight, aux_vars=auxiliary)
    objective = theseus.Objective(dtype=dtype)
    objective.to(device=start.device)
    objective.add(cost)
    objective.update()
    kind = theseus.LevenbergMarquardt if settings.optimizer == "lm" else theseus.GaussNewton
    return kind(
        objective,
        linear_solver_cls=_linear_solver(theseus),
        linear_solver_kwargs={"search": search, "variable": variable},
        vectorize=True,
        max_iterations=search.options.iterations,
        step_size=settings.share,
        abs_err_tolerance=0.0,  # convergence is judged here, per sample
        rel_err_tolerance=0.0,
    )


def _linear_solver(theseus: Any) -> type:
    """theseus's dense Cholesky, that gives a sample whose matrix cannot be factored a zero step and a mark."""

    class PerSampleCholesky(theseus.CholeskyDenseSolver):  # type: ignore[misc, name-defined]
        def __init__(self, objective: Any, *args: Any, search: _Search, variable: Any, **kwargs: Any) -> None:
            super().__init__(objective, *args, **kwargs)
            self.search, self.variable = search, variable
            self.failed = torch.zeros_like(search.stuck)

        def _solve_sytem(self, Atb: Tensor, AtA: Tensor) -> Tensor:
            if self.search.settings.form == "residuals":
                held = active(self.search.problem, self.search.point, -Atb.view_as(self.search.point)).flatten(1)
                both = held.unsqueeze(1) | held.unsqueeze(2)
                AtA = torch.where(both, torch.diag_embed(held.to(AtA.dtype)), AtA)
                Atb = torch.where(held.unsqueeze(2), torch.zeros_like(Atb), Atb)
            factor, info = torch.linalg.cholesky_ex(AtA)
            step = torch.cholesky_solve(Atb, factor).squeeze(2)
            failed = (info != 0) | ~torch.isfinite(step).all(1)
            self.failed = failed.expand_as(self.search.stuck)
            return torch.where(failed[:, None], torch.zeros_like(step), step)

    return PerSampleCholesky
