"""Timing: interleaved repeats, warm-up within a limit, extrapolation where it would take too long; the bandwidth floor.

Interleaved, because a busy machine slows everything for a while: one round runs each job once, so ratios hold.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.solvers.nets import Form
from difftop_ros.trajopt import Solution

GRADIENTS = 10  # as many readings in a row as a solve makes, the first of them from a cold cache
SLOW_S, SLOWER_S = 0.5, 3.0  # jobs slower than these run in the first few rounds, or once


@dataclass
class Job:
    """One thing to time. `run(turn)` does it for the samples of that turn; `factor` scales to all iterations.

    shares: if it returns a Solution, seconds of each run over the mean of its gradients.
    """

    run: Callable[[int], object]
    factor: float = 1.0
    seconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def time(self, turn: int, device: str) -> None:
        """Run it once and note how long it took."""
        ended: list[object] = []
        self.seconds.append(timed(lambda: ended.append(self.run(turn)), device))
        if isinstance(ended[0], Solution):
            self.shares.append(self.seconds[-1] / ended[0].gradients.double().mean().item())

    def statistics(self) -> tuple[float, float]:
        """Median and p99 [ms] (with fewer than 100 runs the slowest one)."""
        ms = sorted(1e3 * self.factor * s for s in self.seconds)
        return statistics.median(ms), ms[min(len(ms) - 1, int(0.99 * len(ms)))]


def timed(run: Callable[[], object], device: str) -> float:
    """Seconds that `run` takes, on a GPU until its last kernel has ended."""
    if device == "cuda":
        torch.cuda.synchronize()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def interleave(jobs: list[Job], repeats: int, budget_s: float, device: str) -> None:
    """Run rounds of all jobs, which are warm, until `repeats` or the budget is reached; each job runs at least once."""
    begin = time.perf_counter()
    for turn in range(1, repeats + 1):
        for job in jobs:
            slowest = min(job.seconds, default=0.0)
            allowed = 1 if slowest > SLOWER_S else 3 if slowest > SLOW_S else repeats
            if len(job.seconds) < allowed:
                job.time(turn, device)
        if time.perf_counter() - begin > budget_s:
            break


@dataclass(frozen=True)
class Floor:
    """What one gradient at batch 1 must read, and how fast it can be read here.

    megabytes: weights that it touches, unique_megabytes of them different; gigabytes_per_s: the fastest reading of
    these. `job` reads as much as `GRADIENTS` gradients do, to be timed in the rounds of the solves.
    """

    megabytes: float
    unique_megabytes: float
    gigabytes_per_s: float
    copy_gigabytes_per_s: float
    job: Job

    @property
    def best_ms(self) -> float:
        """The least time [ms] of a gradient, if reading weights were all there is to do and the machine idle."""
        return self.megabytes / self.gigabytes_per_s

    @property
    def ms(self) -> float:
        """The same as the median of the readings between the solves [ms]: what the machine gave in that time."""
        return 1e3 * statistics.median(self.job.seconds) / GRADIENTS if self.job.seconds else math.nan


def measure_floor(form: Form, device: str) -> Floor:
    """Count the weights that a gradient touches, forward and backward; time a product with a matrix of their size.

    The matrix is as large as the net's own weights, so it sits in the same cache as they do: a stricter floor than
    the bandwidth of main memory, which the copy of 256 MB shows. Times of solves are to be compared with those of
    `job`, run in the same rounds: the best reading of an idle moment is no measure for the median of a busy hour.
    """
    touched, seen = 0, {}
    handles = []

    def count(module: nn.Module, args: tuple[Tensor, ...], _output: Tensor) -> None:
        nonlocal touched
        weight = module.weight
        assert isinstance(weight, Tensor)
        touched += weight.nbytes * (2 if args[0].requires_grad else 1)
        seen[id(weight)] = weight.nbytes

    for module in form.net.modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(count))
    problem, start = form.problem(slice(0, 1))
    problem.value_and_gradient(start)
    for handle in handles:
        handle.remove()
    unique = sum(seen.values())
    matrix = torch.randn(max(1, unique // 2048), 512, device=device)
    vector = torch.randn(512, device=device)
    product = min(timed(lambda: torch.mv(matrix, vector), device) for _ in range(60))
    source = torch.zeros(1 << 26, device=device)
    aim = torch.zeros_like(source)
    copy = min(timed(lambda: aim.copy_(source), device) for _ in range(5))
    times = round(GRADIENTS * touched / matrix.nbytes)

    def read() -> None:
        for _ in range(times):
            torch.mv(matrix, vector)

    speed, copied = matrix.nbytes / product / 1e9, 2 * source.nbytes / copy / 1e9
    return Floor(touched / 1e6, unique / 1e6, speed, copied, Job(lambda _: read()))
