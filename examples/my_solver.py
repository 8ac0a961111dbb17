"""A solver of one's own: projected gradient descent with momentum, given to the package as an object.

Offered to others under a name, so that `difftop train --solver momentum` finds it, in a package's pyproject.toml:

    [project.entry-points."difftop_ros.solvers"]
    momentum = "my_package.my_solver:MOMENTUM"
"""

import torch
from torch import Tensor

from difftop_ros.trajopt import Problem, Solution, Solver, SolverOptions, solve
from difftop_ros.trajopt.solution import Ended, finish, finite_samples


def solve_momentum(problem: Problem, initial: Tensor, options: SolverOptions) -> Solution:
    """Heavy-ball steps on every sample at once, clamped into the box; the best point seen is returned."""
    actions, speed = problem.clamp(initial), torch.zeros_like(initial)
    value, gradient = problem.value_and_gradient(actions)
    best, first, finite = (actions, value, gradient), value, finite_samples(value, gradient)
    for _ in range(options.iterations):
        speed = 0.8 * speed - 0.1 * gradient
        actions = problem.clamp(actions + speed)
        value, gradient = problem.value_and_gradient(actions)
        better = value < best[1]
        wide = better[:, None, None]
        best = (
            torch.where(wide, actions, best[0]),
            torch.where(better, value, best[1]),
            torch.where(wide, gradient, best[2]),
        )
    count = torch.full_like(first, options.iterations, dtype=torch.long)
    ended = Ended(finite, torch.zeros_like(finite), count, count + 1, first)
    return finish(problem, *best, ended, options)


MOMENTUM = Solver(solve_momentum)

if __name__ == "__main__":
    goal = torch.tensor([[[0.5, -2.0]] * 4], requires_grad=True)  # the second joint's bound is in the way
    bound = torch.ones(4, 2)
    problem = Problem(lambda a, goal: -(a - goal).square().sum((1, 2)), (goal,), -bound, bound)
    solution = solve(problem, torch.zeros(1, 4, 2), SolverOptions(MOMENTUM, iterations=60, tolerance=1e-3))
    solution.actions.sum().backward()  # the implicit gradient comes with any solver
    assert goal.grad is not None
    print(f"{solution.statuses()[0].name}: {solution.actions[0, 0].tolist()}, gradient {goal.grad[0, 0].tolist()}")
