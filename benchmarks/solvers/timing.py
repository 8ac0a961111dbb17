"""One method at one batch size: what is timed, for how many iterations, and the row it ends in."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.solvers.measure import SLOW_S, Floor, Job, interleave, timed
from benchmarks.solvers.methods import Method, Solvers
from benchmarks.solvers.nets import SAMPLES, Form
from benchmarks.solvers.rows import Plan, Row
from difftop_ros.errors import UserError
from difftop_ros.trajopt import Solution, Status, solve


class Timing:
    """The jobs of one method at one batch size: forward, and forward with backward."""

    def __init__(self, solvers: Solvers, method: Method, plan: Plan) -> None:
        form, batch = solvers.form, solvers.batch
        self.solvers, self.form, self.batch, self.method, self.plan = solvers, form, batch, method, plan
        self.row = Row(form.name, batch, method.label, method.iterations, method.mode, method.adjoint, method.role)
        self.forward: Job | None = None
        self.both: Job | None = None

    def prepare(self) -> None:
        """Make the jobs; what cannot be done leaves a sentence in the row's note."""
        why = self.method.why_not(self.form, self.batch, self.plan.device)
        try:
            if not why:
                self.forward = self._forward()
        except UserError as error:
            why = str(error)
        if self.forward is None:
            self.row.say(f"left out: {why}" if why else f"left out: an iteration takes over {self.plan.limit_s:.0f} s")
            return
        try:
            self.both = self._both()
        except UserError as error:
            self.row.say(f"no backward: {error}")

    def rows(self, turn: int) -> Tensor:
        """The samples of a turn: one after the other at batch 1, else all, repeated in larger batches."""
        if self.batch == 1:
            return torch.tensor([turn % self.plan.samples])
        return torch.arange(self.batch) % SAMPLES

    def _forward(self) -> Job | None:
        done, seconds = self._fit()
        if done == 0:
            return None
        options = replace(self.method.options(), iterations=done)
        run = self.solvers(self.method, options)
        if done < self.method.iterations:
            self.row.say(f"iterations timed: {done} of {self.method.iterations}")

        def job(turn: int) -> Solution:
            problem, start = self.form.problem(self.rows(turn))
            return run(problem, start)

        if seconds is None:
            seconds = 0.0
            job(0)  # compiles or captures; what took long is warm by now, and counts as a run
        long = seconds > SLOW_S and done == self.method.iterations
        return Job(job, self.method.iterations / done, [seconds] if long else [])

    def _fit(self) -> tuple[int, float | None]:
        """How many iterations end within the limit (0: not even one), and the time of all of them if it was taken."""
        full = self.method.iterations
        if self.method.mode != "eager":
            return full, None
        problem, start = self.form.problem(self.rows(0))
        options = self.method.options(deadline_ms=1e3 * self.plan.limit_s)
        if self.method.role == "released":  # a Cholesky of the whole batch cannot be stopped: see how long one takes
            first = replace(self.method.options(), iterations=1)
            one = timed(lambda: solve(problem, start, first), self.plan.device)
            return max(1, min(full, int(self.plan.limit_s / 2 / one))), 0.0
        solve(problem, start, replace(options, iterations=1))
        ended: list[Solution] = []
        seconds = timed(lambda: ended.append(solve(problem, start, options)), self.plan.device)
        stopped = int(Status.DEADLINE) in ended[0].status.tolist()
        return int(ended[0].iterations.max()) if stopped else full, seconds

    def _both(self) -> Job | None:
        assert self.forward is not None
        if self.method.adjoint == "none":
            self.row.say("has no backward")
            return None
        if self.method.role == "released":
            self.row.say("forward alone")
            return None
        if self.method.role in ("paper", "tuned"):
            self.row.say("backward: its last 5 iterations, in closed form")
        if self.forward.factor != 1:
            self.row.say("backward not timed")
            return None
        run = self.solvers(self.method, self.method.options(adjoint=True))

        def job(turn: int) -> None:
            problem, start = self.form.problem(self.rows(turn), leaf=True)
            loss = run(problem, start).actions[:, 0].square().sum()
            if loss.requires_grad:  # unrolled from where no step is left to make, there is nothing to go through
                torch.autograd.grad(loss, [*problem.context, *self.form.parameters()], allow_unused=True)

        if not self.forward.seconds:
            job(0)
        return Job(job)

    def fill(self) -> None:
        """Put the times into the row."""
        if self.forward is not None:
            self.row.forward_ms, self.row.forward_p99_ms = self.forward.statistics()
            if self.forward.shares and self.forward.factor == 1:
                self.row.gradient_ms = 1e3 * self.method.starts * statistics.median(self.forward.shares)
        if self.both is not None:
            self.row.both_ms, self.row.both_p99_ms = self.both.statistics()


def time_group(
    form: Form, batch: int, chosen: list[Method], plan: Plan, floor: Floor, say: Callable[[str], None]
) -> list[Row]:
    """The rows of all methods on one form at one batch size, timed in interleaved rounds, at batch 1 with the floor."""
    solvers = Solvers(form, batch)
    timings = [Timing(solvers, method, plan) for method in chosen]
    for timing in timings:
        say(f"{form.name}, batch {batch}: warming up {timing.method.label} {timing.method.iterations}")
        timing.prepare()
    say(f"{form.name}, batch {batch}: timing")
    jobs = [job for t in timings for job in (t.forward, t.both) if job is not None]
    if batch == 1:
        jobs.append(floor.job)
    interleave(jobs, plan.repeats, plan.group_s, plan.device)
    for timing in timings:
        timing.fill()
    rows = [timing.row for timing in timings]
    paper = next((row for row in rows if row.role == "paper"), None)
    for row in rows if paper is not None else []:
        row.forward_ratio = paper.forward_ms / row.forward_ms
        row.both_ratio = paper.both_ms / row.both_ms
    return rows
