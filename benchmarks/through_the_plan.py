"""Small problems whose answers are known, for what learning through the plan is worth. Writes a figure.

    python -m benchmarks.through_the_plan --out docs/images/through_the_plan.png

linear-quadratic: a cart is to be brought to rest; the optimal cost is Riccati's. The whole method from nothing, where
the model can be right: without the loss through the plan, with it, and with it whatever the values are worth as judges.
wrong model: the best action of each context is c, a little less costs little, a little more costs much; the model's
reward is a parabola in the action, which cannot say that. Fitted to data it has its top at the wrong place.
gradient: that of the loss through the plan along random directions, against finite differences.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from difftop_ros.learning.reinforcement.acting import acting, try_episode
from difftop_ros.learning.reinforcement.environments import Trial
from difftop_ros.learning.reinforcement.learner import Learner
from difftop_ros.learning.reinforcement.losses import plan_loss
from difftop_ros.learning.reinforcement.replay import Replay
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import make_agent
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.latent_planning.options import LatentPlanningConfig
from difftop_ros.policies.normalisation import ObservationNormaliser
from difftop_ros.trajopt import SolverOptions

A, B = np.array([[1.0, 0.25], [0.0, 0.9]]), np.array([[0.0], [0.25]])
Q, R = np.diag([1.0, 0.1]), np.array([[1.0]])
LENGTH = 20  # actions of an episode
WEIGHT = 10.0  # of the loss through the plan where the model cannot be right
WAYS = {  # what is compared on the linear-quadratic problem: options of difftop train-rl
    "model losses alone": {"plan_loss": 0.0},
    "with the loss through the plan": {},
    "with it in full, always": {"plan_trust": "always", "plan_share": 100.0},
}


class LinearQuadratic(gymnasium.Env[Any, Any]):
    """x' = A x + B u from positions within +-1 at rest; reward 1 - x'Qx - u'Ru."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The start of `seed`."""
        super().reset(seed=seed)
        self.x, self.count = np.array([self.np_random.uniform(-1, 1), 0.0]), 0
        return self.x.astype(np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        """As said above; the time is up after LENGTH."""
        u = np.asarray(action, float)
        reward = 1 - float(self.x @ Q @ self.x + u @ R @ u)
        self.x, self.count = A @ self.x + B @ u, self.count + 1
        return self.x.astype(np.float32), reward, False, self.count == LENGTH, {}


def optimal_cost(start: np.ndarray) -> float:
    """The least sum of x'Qx + u'Ru over an episode, by the Riccati recursion; actions stay within the bounds there."""
    P = np.zeros((2, 2))
    for _ in range(LENGTH):
        gain = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        P = Q + A.T @ P @ (A - B @ gain)
    return float(start @ P @ start)


def linear_quadratic(episodes: int, seed: int = 0, every: int = 10, **options: Any) -> list[tuple[int, float, float]]:
    """Learn from so many episodes: (episodes so far, cost of the plan, cost of the prior), in optimal costs.

    The learning rate falls to a tenth for the last third.
    """
    settings = TryingSettings.from_values(
        {"env": "linear-quadratic", "latent_size": 16, "model_width": 64, "simplex": 0, "batch": 64, "seed": seed,
         "horizon": 8, "unroll": 5, "plan_after": 300, "plan_batch": 16, **options}
    )  # fmt: skip
    trial = Trial("linear-quadratic", LinearQuadratic(), longest=LENGTH)
    torch.manual_seed(seed)
    agent = make_agent(trial, settings)
    learner, replay, random = Learner(agent, settings, torch.device("cpu")), Replay(10**6), np.random.default_rng(seed)
    agent.get_buffer("discount").fill_(0.98)
    curve = []
    for episode in range(episodes):
        if episode == 2 * episodes // 3:
            for optimiser in (learner.model_optimiser, learner.prior_optimiser):
                optimiser.param_groups[0]["lr"] *= 0.1
        noise = max(0.1, 0.5 - episode / 40)
        replay.add(try_episode(agent if episode >= 5 else None, trial, episode, noise, random).episode)
        for _ in range(LENGTH if episode >= 5 else 0):
            learner.update(replay)
        if (episode + 1) % every == 0 and episode >= 9:
            curve.append((episode + 1, *(cost_of(acting(agent, way), trial) for way in ("plan", "prior"))))
    return curve


def cost_of(agent: LatentAgent, trial: Trial, count: int = 10) -> float:
    """The mean cost over episodes from unseen starts, in optimal costs."""
    found, best = 0.0, 0.0
    for seed in range(1000, 1000 + count):
        tried = try_episode(agent, trial, seed, 0.0, np.random.default_rng(0)).episode
        found += float(np.sum(1 - tried.rewards))
        best += optimal_cost(tried.frames["state"][0].astype(float))
    return found / best


class Contexts(gymnasium.Env[Any, Any]):
    """Each step a new context s in [-1, 1]; reward 1 - e^2 with e = a - s/2, but 1 - 9 e^2 where a is too much."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The first context of `seed`."""
        super().reset(seed=seed)
        self.count = 0
        return self.draw(), {}

    def draw(self) -> np.ndarray:
        """The next context."""
        self.context = float(self.np_random.uniform(-1, 1))
        return np.array([self.context], np.float32)

    def step(self, action: np.ndarray) -> Any:
        """As said above."""
        reward = float(true_reward(np.array(self.context), np.asarray(action[0])))
        self.count += 1
        return self.draw(), reward, False, self.count == LENGTH, {}


def true_reward(context: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Of actions in contexts, elementwise."""
    error = action - context / 2
    return 1 - np.where(error > 0, 9.0, 1.0) * error**2


class Parabola(nn.Module):
    """A reward w(z) - k (a - m(z))^2 with m and w linear in the state, k > 0: the same to both sides of its top."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.top, self.height, self.log_k = nn.Linear(latent, 1), nn.Linear(latent, 1), nn.Parameter(torch.zeros(()))

    def forward(self, both: Tensor) -> Tensor:
        """(..., latent + 1) -> (..., 1)."""
        state, action = both[..., :-1], both[..., -1:]
        return self.height(state) - self.log_k.exp() * (action - self.top(state)).square()


def wrong_model(updates: int, plan_loss: float, seed: int = 0) -> list[tuple[int, float]]:
    """Learn from 40 episodes at random: (updates so far, mean true reward of the plan, less the best one)."""
    settings = TryingSettings.from_values(
        {"env": "contexts", "latent_size": 8, "model_width": 32, "simplex": 0, "horizon": 1, "unroll": 1, "batch": 64,
         "lr": 1e-2, "value": 1.0, "discount": 0.01, "plan_loss": plan_loss, "plan_after": 200, "plan_every": 2,
         "plan_proximal": 0.001, "seed": seed}
    )  # fmt: skip
    trial = Trial("contexts", Contexts(), longest=LENGTH)
    torch.manual_seed(seed)
    agent = make_agent(trial, settings)
    agent.model.earns = Parabola(8)  # type: ignore[assignment]
    learner, replay, random = Learner(agent, settings, torch.device("cpu")), Replay(10**6), np.random.default_rng(seed)
    agent.get_buffer("discount").fill_(settings.discount)
    for episode in range(40):
        replay.add(try_episode(None, trial, episode, 0.0, random).episode)
    context = np.linspace(-0.9, 0.9, 61, dtype=np.float32)
    frames = {"state": torch.from_numpy(context)[:, None, None]}
    curve = []
    for update in range(1, updates + 1):
        learner.update(replay)
        if update % 50 == 0:
            with torch.no_grad():
                action = agent.plan(agent.encode(frames), iterations=20).actions[:, 0, 0].numpy()
            curve.append((update, float(np.mean(true_reward(context, action) - 1))))
    return curve


class Exact(LatentAgent):
    """Plans to rounding, near a proposal that does not move: what finite differences can be compared with."""

    near: Tensor

    def solver_options(self, iterations: int | None = None, deadline_ms: float | None = None) -> SolverOptions:
        """As LatentAgent's, until the gradient is gone."""
        return SolverOptions(iterations=300, tolerance=1e-10, curvature_floor=1e-6)

    def propose(self, state: Tensor) -> Tensor:
        """The same for every state of the weights."""
        return self.near


def gradients(directions: int, seed: int = 0) -> np.ndarray:
    """(directions, 2): slope of what plans are worth along a random direction of the weights, measured and computed.

    In double precision, for the plans of six states of a network with random weights.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return _gradients(directions, seed)
    finally:
        torch.set_default_dtype(before)


def _gradients(directions: int, seed: int, step: float = 1e-5) -> np.ndarray:
    torch.manual_seed(seed)
    spec = {"state": ("vector", (2,))}
    config = LatentPlanningConfig(latent_size=8, model_width=16, plan_proximal=0.3)
    agent = Exact(spec, 1, config, ObservationNormaliser(spec))
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    frames = {"state": torch.randn(6, 1, 2)}
    fixed = agent.encode(frames).detach()
    agent.near = LatentAgent.propose(agent, fixed)
    parameters = agent.planning_parameters()
    loss, _ = plan_loss(agent, frames)
    computed = torch.autograd.grad(loss, parameters, materialize_grads=True, allow_unused=True)

    def worth() -> float:
        with torch.no_grad():
            action = agent.plan(agent.encode(frames)).actions[:, 0]
            return float(agent.model.values(fixed, action).mean() / agent.get_buffer("scale"))

    found, data = [], [parameter.data for parameter in parameters]
    for _ in range(directions):
        direction = [torch.randn_like(part) for part in data]
        change = []
        for sign in (1, -1):
            torch._foreach_add_(data, direction, alpha=sign * step)
            change.append(worth())
            torch._foreach_add_(data, direction, alpha=-sign * step)
        slope = -sum(float((g * d).sum()) for g, d in zip(computed, direction, strict=True))
        found.append(((change[0] - change[1]) / (2 * step), slope))
    return np.array(found)


def draw(path: Path, seeds: int, episodes: int, updates: int) -> None:
    """A panel for each problem, a thin line per seed and the median thick."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 4))
    for index, (name, options) in enumerate(WAYS.items()):
        costs = [linear_quadratic(episodes, seed, **options) for seed in range(seeds)]
        _lines(left, [[(LENGTH * row[0], row[1] - 1) for row in curve] for curve in costs], name, f"C{index}")
    left.axhline(0.02, color="k", lw=0.8, ls="--", label="2 %")
    left.set(title="linear-quadratic", xlabel="updates", ylabel="cost of the plan above the optimum", yscale="log")
    for index, (weight, name) in enumerate(((0.0, "model losses alone"), (WEIGHT, "with the loss through the plan"))):
        curves = [[(x, -y) for x, y in wrong_model(updates, weight, seed)] for seed in range(seeds)]
        _lines(middle, curves, name, f"C{index}")
    middle.set(title="a model that cannot be right", xlabel="updates", ylabel="true reward lost by the plan")
    middle.set_ylim(bottom=0)
    measured, computed = gradients(40).T
    right.plot(measured, computed, "o", ms=3)
    right.axline((0, 0), slope=1, color="k", lw=0.8)
    right.set(title="slope of a plan's worth", xlabel="finite differences", ylabel="through the plan")
    print(f"gradient: largest difference {np.abs(measured - computed).max():.1e} of {np.abs(measured).max():.1e}")
    for panel in (left, middle):
        panel.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _lines(panel: Any, curves: list[list[tuple[int, float]]], name: str, colour: str) -> None:
    for curve in curves:
        panel.plot(*zip(*curve, strict=True), color=colour, lw=0.6, alpha=0.5)
    steps = [row[0] for row in curves[0]]
    panel.plot(steps, np.median([[row[1] for row in curve] for curve in curves], axis=0), color=colour, label=name)
    print(f"{name}: {[round(curve[-1][1], 4) for curve in curves]} at {steps[-1]}", flush=True)


def main() -> None:
    """Run all and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/through_the_plan.png"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=60, help="of the linear-quadratic problem")
    parser.add_argument("--updates", type=int, default=500, help="with the wrong model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    draw(args.out, args.seeds, args.episodes, args.updates)


if __name__ == "__main__":
    main()
