"""Draws docs/images/solve.png: one solve as it goes, its cost per iteration, its plan, and what the bounds hold.

    python -m benchmarks.solve_figure --out docs/images/solve.png

The problem is a torque-limited pendulum that is to be swung up and held, solved by `qn` from no torque at all. Each
iteration's state is that of a solve stopped there, so nothing but the public interface is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from difftop_ros.trajopt import LatentRollout, Problem, Solution, SolverOptions, solve

HORIZON, DT, ITERATIONS = 40, 0.05, 20


def dynamics(x: Tensor, u: Tensor) -> Tensor:
    """Angle from upright [rad] and velocity [rad/s] (B, 2), torque (B, 1) in its limit, half of what gravity has."""
    velocity = x[:, 1:] + DT * (9.8 * x[:, :1].sin() + 5 * u)
    return torch.cat([x[:, :1] + DT * velocity, velocity], 1)


def reward(x: Tensor, u: Tensor) -> Tensor:
    """(B,): upright, calm, little torque."""
    return x[:, 0].cos() - 0.02 * x[:, 1].square() - 0.05 * u[:, 0].square()


def value(x: Tensor) -> Tensor:
    """(B,): where the plan should end."""
    return 10 * x[:, 0].cos() - 0.5 * x[:, 1].square()


def iterates() -> list[Solution]:
    """The solution after 0, 1, 2, ... iterations, in float64."""
    bound = torch.ones(HORIZON, 1, dtype=torch.float64)
    start = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    problem = Problem(LatentRollout(dynamics, reward, value), (start,), -bound, bound)
    zero = torch.zeros(1, HORIZON, 1, dtype=torch.float64)
    options = [SolverOptions(iterations=n, adjoint="none") for n in range(ITERATIONS + 1)]
    return [solve(problem, zero, option) for option in options]


def draw(path: Path) -> None:
    """Make the figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    solutions = iterates()
    cost = [solution.final_cost.item() for solution in solutions]
    norm = [solution.gradient_norm.item() for solution in solutions]
    plans = torch.stack([solution.actions[0, :, 0] for solution in solutions])
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    left.plot(cost, "C0.-")
    left.set(xlabel="iteration", ylabel="cost J", title="Cost (never rises) and projected gradient")
    left.yaxis.label.set_color("C0")
    other = left.twinx()
    other.semilogy(norm, "C1.-", lw=0.8, ms=3)
    other.set_ylabel("largest projected gradient", color="C1")
    time = DT * torch.arange(HORIZON)
    for index in (0, 1, 2, 5, 10, ITERATIONS):
        shade = plt.get_cmap("viridis")(0.95 * (1 - min(index, 20) / 20))
        middle.step(time, plans[index], where="post", color=shade, lw=1.2, label=f"{index}")
    for bound in (-1, 1):
        middle.axhline(bound, color="black", lw=0.8, ls=":")
    held = plans[-1].abs() >= 1
    middle.plot(time[held] + DT / 2, plans[-1][held], "rs", ms=3, label="held")
    middle.set(xlabel="time [s]", ylabel="torque / limit", title="The plan after some iterations", ylim=(-1.1, 1.7))
    middle.legend(fontsize=7, ncols=4, loc="upper center")
    side = plans.T.sign() * (plans.T.abs() >= 1)
    right.imshow(
        side, aspect="auto", cmap="coolwarm", vmin=-1, vmax=1, origin="lower", extent=(-0.5, ITERATIONS + 0.5, 0, 2)
    )
    right.set(xlabel="iteration", ylabel="time [s]", title="Held: upper bound red, lower blue")
    figure.savefig(path, dpi=90)
    plt.close(figure)
    print(f"{path}: J from {cost[0]:.3f} to {cost[-1]:.3f}, {int(held.sum())} of {HORIZON} torques held by a bound")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m benchmarks.solve_figure", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/solve.png"), help="picture to write")
    torch.set_num_threads(1)
    draw(parser.parse_args().out)
