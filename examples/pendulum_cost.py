"""Learns what a pendulum's demonstrator cares about, by differentiating through the solve. torch alone, no ROS."""

import torch
from torch import Tensor

from difftop_ros.trajopt import LatentRollout, Problem, SolverOptions, solve


def dynamics(x: Tensor, u: Tensor) -> Tensor:  # x: angle from upright [rad], velocity [rad/s]; u: torque / its limit
    velocity = x[:, 1:] + 0.1 * (9.8 * x[:, :1].sin() + 6 * u)
    return torch.cat([x[:, :1] + 0.1 * velocity, velocity], 1)


def plan(weights: Tensor, start: Tensor) -> Tensor:  # the best torques (B, 10, 1) if angle and velocity cost this much
    def reward(x: Tensor, u: Tensor) -> Tensor:
        return -weights[0] * (1 - x[:, 0].cos()) - weights[1] * x[:, 1].square() - u[:, 0].square()

    limit = torch.ones(10, 1)
    problem = Problem(LatentRollout(dynamics, reward), (start,), -limit, limit)
    return solve(problem, torch.zeros(len(start), 10, 1), SolverOptions(iterations=30)).actions


torch.manual_seed(0)
start = torch.randn(16, 2) * torch.tensor([0.4, 0.5])
truth = torch.tensor([3.0, 0.2])
expert = plan(truth, start).detach()  # the demonstrations
log_weights = torch.zeros(2, requires_grad=True)
optimizer = torch.optim.Adam([log_weights], lr=0.1)
losses = []
for step in range(50):
    loss = (plan(log_weights.exp(), start) - expert).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if step % 10 == 9:
        print(f"step {step + 1}: loss {loss.item():.6f}, weights {[round(w, 3) for w in log_weights.exp().tolist()]}")
print(f"the demonstrator's weights: {[round(w, 3) for w in truth.tolist()]}")
