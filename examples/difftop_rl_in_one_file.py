"""DiffTOP's reinforcement form in one file: it learns a cart-pole by trying, and plans through what it has learned.

    python examples/difftop_rl_in_one_file.py --out difftop_rl.png

After arXiv 2402.05421. Five networks are learned from what happens, all on a latent state z:

    encoder   z = h(o)                 dynamics  z' = d(z, a)              reward  r(z, a)
    values    Q_1(z, a), Q_2(z, a)     prior     pi(z), a first guess of what to do

and an action is the first of a plan, the solution of a small optimisation problem in a box,

    a* = argmax_a  sum_t g^t r(z_t, a_t) + g^H Q(z_H, pi(z_H)) - rho/2 ||a - a_prior||^2,   z_{t+1} = d(z_t, a_t).

The model is trained on what was observed (next latent state, reward, value by temporal differences). Besides, and this
is the method, it is trained so that *planning with it pays*: the loss -Q(z, a*_0) is differentiated through the
solution of the problem (implicit function theorem), for a batch of them at once, into encoder, dynamics and reward.

The pole hangs down at the start and is rewarded for standing up over the middle of the track; ten seconds are an
episode. The package's own (difftop_ros/learning/reinforcement) has checkpoints, pictures, robots and rivals besides.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from torch import Tensor, nn

from difftop_ros.trajopt import LatentRollout, Problem, SolverOptions, shift, solve

OBSERVED, ACTIONS, LATENT, WIDTH = 5, 1, 32, 128
HORIZON, UNROLL, BATCH, PLANS = 3, 3, 128, 32  # steps of a plan; of the unrolled model; sequences and plans per update
STEPS, HOLD = 125, 8  # actions of an episode; control steps of 0.01 s that an action is held
DISCOUNT, RHO, DECAY = 0.96, 0.05, 0.5
SOLVER = SolverOptions(iterations=5, tolerance=1e-4, curvature_floor=RHO)


class CartPole:
    """A cart of 1 kg on a track of +-1.8 m, a rod of 0.1 kg and 1 m on it, a force of at most 10 N; several at once."""

    def __init__(self, count: int, random: np.random.Generator) -> None:
        self.place, self.speed = 0.01 * random.standard_normal((2, count))
        self.angle = math.pi + 0.01 * random.standard_normal(count)  # 0 is upright
        self.turn = 0.01 * random.standard_normal(count)

    def observe(self) -> np.ndarray:
        """(count, 5)."""
        columns = [self.place, np.cos(self.angle), np.sin(self.angle), self.speed, self.turn]
        return np.stack(columns, axis=1).astype(np.float32)

    def step(self, action: np.ndarray) -> np.ndarray:
        """Hold action (count,) in [-1, 1] for HOLD control steps; the mean reward (count,), 0 to 1."""
        total = np.zeros_like(self.place)
        for _ in range(HOLD):
            sin, cos = np.sin(self.angle), np.cos(self.angle)
            push = (10 * action + 0.05 * self.turn**2 * sin) / 1.1
            swing = (9.81 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
            self.speed = self.speed + 0.01 * (push - 0.05 * swing * cos / 1.1)
            self.turn = self.turn + 0.01 * swing
            self.place = self.place + 0.01 * self.speed
            self.speed = np.where(np.abs(self.place) < 1.8, self.speed, 0.0)
            self.place = np.clip(self.place, -1.8, 1.8)
            self.angle = self.angle + 0.01 * self.turn
            still = (1 + np.exp(-0.1 * self.turn**2)) / 2
            total += (
                (1 + np.cos(self.angle)) / 2 * (1 + np.exp(-2 * self.place**2)) / 2 * still * (4 + 1 - action**2) / 5
            )
        return total / HOLD


def perceptron(*sizes: int) -> nn.Sequential:
    """Smooth between its layers, as the optimiser differentiates it twice."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


class Agent(nn.Module):
    """The networks, and the plan."""

    def __init__(self) -> None:
        super().__init__()
        both = LATENT + ACTIONS
        self.encoder = perceptron(OBSERVED, WIDTH, LATENT)
        self.next = perceptron(both, WIDTH, WIDTH, LATENT)
        self.earns = perceptron(both, WIDTH, WIDTH, 1)
        self.worth = nn.ModuleList(perceptron(both, WIDTH, WIDTH, 1) for _ in range(2))
        self.slow = nn.ModuleList(perceptron(both, WIDTH, WIDTH, 1) for _ in range(2)).requires_grad_(False)
        self.first = perceptron(LATENT, WIDTH, WIDTH, ACTIONS)
        self.slow.load_state_dict(self.worth.state_dict())
        self.scale = 1.0  # running range of the values

    def encode(self, observed: Tensor) -> Tensor:
        """(..., 5) -> states (..., Z): simplices of 8, so that a rollout cannot drift away."""
        return self.encoder(observed).unflatten(-1, (-1, 8)).softmax(-1).flatten(-2)

    def dynamics(self, state: Tensor, action: Tensor) -> Tensor:
        return self.next(torch.cat([state, action], -1)).unflatten(-1, (-1, 8)).softmax(-1).flatten(-2)

    def reward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.earns(torch.cat([state, action], -1))[..., 0]

    def values(self, state: Tensor, action: Tensor, slow: bool = False) -> Tensor:
        both = torch.cat([state, action], -1)
        return torch.stack([value(both)[..., 0] for value in (self.slow if slow else self.worth)])

    def prior(self, state: Tensor) -> Tensor:
        return self.first(state).tanh()

    def propose(self, state: Tensor) -> Tensor:
        """The prior's plan (B, H, A) along its own rollout."""
        actions = []
        with torch.no_grad():
            for _ in range(HORIZON):
                actions.append(self.prior(state))
                state = self.dynamics(state, actions[-1])
        return torch.stack(actions, 1)

    def plan(self, state: Tensor, last: Tensor | None = None) -> Tensor:
        """Actions (B, H, A) that the model says earn most, differentiable in the state and the networks."""
        rollout = LatentRollout(
            self.dynamics,
            lambda z, a: self.reward(z, a) / self.scale,
            lambda z: self.values(z, self.prior(z)).mean(0) / self.scale,
            DISCOUNT,
        )
        proposal, box = self.propose(state), torch.ones(HORIZON, ACTIONS)
        problem = Problem(rollout, (state,), -box, box, reference=proposal, proximal=RHO)
        return solve(problem, proposal, SOLVER, None if last is None else shift(last, 1)).actions

    def act(self, observed: np.ndarray, last: Tensor | None, plans: bool = True) -> Tensor:
        with torch.no_grad():
            state = self.encode(torch.from_numpy(observed))
            return self.plan(state, last) if plans else self.propose(state)


class Learner:
    """Losses and optimisers. Episodes are kept whole: observations (N, 126, 5), actions (N, 125, 1), rewards."""

    def __init__(self, agent: Agent, through_plan: bool) -> None:
        self.agent, self.through_plan, self.updates = agent, through_plan, 0
        self.of_prior = list(agent.first.parameters())
        parts = (agent.encoder, agent.next, agent.earns)
        self.of_plan = [p for part in parts for p in part.parameters()]
        self.of_model = self.of_plan + list(agent.worth.parameters())
        self.optimisers = [torch.optim.Adam(p, 1e-3) for p in (self.of_model, self.of_prior)]

    def update(self, seen: Tensor, done: Tensor, earned: Tensor) -> None:
        """One step on sequences of UNROLL actions."""
        agent, rows = self.agent, torch.randint(len(seen), (BATCH,))
        places = torch.randint(STEPS - UNROLL + 1, (BATCH, 1)) + torch.arange(UNROLL + 1)
        observed = seen[rows[:, None], places].transpose(0, 1)  # time first
        actions, rewards = (x[rows[:, None], places[:, :-1]].transpose(0, 1) for x in (done, earned))
        with torch.no_grad():
            reached = agent.encode(observed[1:])
            guess = agent.prior(reached)
            guess = (guess + (0.2 * torch.randn_like(guess)).clamp(-0.5, 0.5)).clamp(-1, 1)
            target = rewards + DISCOUNT * agent.values(reached, guess, slow=True).amin(0)
        states = [agent.encode(observed[0])]
        for action in actions:
            states.append(agent.dynamics(states[-1], action))
        rolled = torch.stack(states)
        errors = 20 * (rolled[1:] - reached).square().mean(-1) + (agent.reward(rolled[:-1], actions) - rewards).square()
        errors = errors + 0.1 * (agent.values(rolled[:-1], actions) - target).square().mean(0)
        weights = DECAY ** torch.arange(UNROLL) / sum(DECAY**t for t in range(UNROLL))
        gradients = list(torch.autograd.grad((weights @ errors).mean(), self.of_model))
        if self.through_plan and self.updates >= 500 and not self.updates % 2:
            self.add_plan(gradients, observed[0, :PLANS])
        self.step(0, gradients)
        outputs = agent.first(rolled.detach())
        worth = agent.values(rolled.detach(), outputs.tanh()).mean(0)
        loss = 1e-3 * outputs.square().mean() - worth.mean() / agent.scale
        self.step(1, list(torch.autograd.grad(loss, self.of_prior)))
        spread = torch.quantile(worth[0].detach(), 0.95) - torch.quantile(worth[0].detach(), 0.05)
        agent.scale += 0.01 * (max(1.0, float(spread)) - agent.scale)
        with torch.no_grad():
            torch._foreach_lerp_(list(agent.slow.parameters()), list(agent.worth.parameters()), 0.01)
        self.updates += 1

    def add_plan(self, gradients: list[Tensor], observed: Tensor) -> None:
        """The method's loss, its gradient at most 0.3 of the model's own."""
        state = self.agent.encode(observed)
        action = self.agent.plan(state)[:, 0]
        loss = -self.agent.values(state.detach(), action).mean() / self.agent.scale
        found = torch.autograd.grad(loss, self.of_plan, allow_unused=True, materialize_grads=True)
        norms = [torch.nn.utils.get_total_norm(some) for some in (found, gradients[: len(found)])]
        share = min(1.0, float(0.3 * norms[1] / (norms[0] + 1e-12)))
        for index, gradient in enumerate(found):
            gradients[index] = gradients[index] + share * gradient

    def step(self, which: int, gradients: list[Tensor]) -> None:
        parameters = (self.of_model, self.of_prior)[which]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, 10.0)
        self.optimisers[which].step()


def episodes(agent: Agent | None, count: int, noise: float, random: np.random.Generator, plans: bool = True) -> list:
    """Try `count` times at once: observations, actions, rewards, time last but one; without an agent at random."""
    world, last = CartPole(count, random), None
    observed, actions, rewards = [world.observe()], [], []
    for _ in range(STEPS):
        if agent is None:
            action = random.uniform(-1, 1, (count, ACTIONS))
        else:
            last = agent.act(observed[-1], last, plans)
            action = last[:, 0].numpy() + noise * random.standard_normal((count, ACTIONS))
        actions.append(np.clip(action, -1, 1))
        rewards.append(world.step(actions[-1][:, 0]))
        observed.append(world.observe())
    return [torch.from_numpy(np.stack(x, 1).astype(np.float32)) for x in (observed, actions, rewards)]


def train(count: int, through_plan: bool, seed: int) -> tuple[Agent, list[tuple[int, float, float]]]:
    """Learn from `count` episodes, an update per action; returns of plan and prior on the way, out of 1000."""
    torch.manual_seed(seed)
    random, agent = np.random.default_rng(seed), Agent()
    learner, curve, began = Learner(agent, through_plan), [], time.monotonic()
    known = episodes(None, min(4, count), 0.0, random)
    while True:
        for _ in range(STEPS if learner.updates else len(known[0]) * STEPS):
            learner.update(*known)
        tried = len(known[0])
        if tried % 5 == 0 or tried >= count:
            starts = [np.random.default_rng(1000 + seed) for _ in range(2)]
            found = [
                float(episodes(agent, 5, 0.0, s, p)[2].sum(1).mean()) * HOLD for s, p in zip(starts, (True, False))
            ]
            curve.append((tried * STEPS * HOLD, *found))
            print(f"{curve[-1][0]} control steps: plan {found[0]:.0f}, prior {found[1]:.0f} of 1000, "
                  f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
        if tried >= count:
            return agent, curve
        noise = max(0.1, 0.5 - 0.4 * tried / 25)
        known = [torch.cat(pair) for pair in zip(known, episodes(agent, 1, noise, random), strict=True)]


def draw(agent: Agent, curve: list[tuple[int, float, float]], path: Path) -> None:
    """Left the returns while it learned, right how the pole stands in five episodes of the plan."""
    steps, plan, prior = zip(*curve, strict=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    left.plot(steps, plan, label="plan")
    left.plot(steps, prior, "--", label="prior alone")
    left.set(xlabel="control steps", ylabel="return (of 1000)", ylim=(0, 1000))
    left.legend()
    observed = episodes(agent, 5, 0.0, np.random.default_rng(0))[0]
    right.plot(np.arange(STEPS + 1) * HOLD * 0.01, observed[:, :, 1].numpy().T, lw=1)
    right.set(xlabel="time [s]", ylabel="height of the pole's tip (1: upright)", ylim=(-1.05, 1.05))
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("difftop_rl.png"), help="picture to write")
    parser.add_argument("--episodes", type=int, default=40, help="episodes to learn from, of 1000 control steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model-losses-alone", action="store_true", help="without the loss through the plan")
    args = parser.parse_args()
    torch.set_num_threads(1)
    agent, curve = train(args.episodes, not args.model_losses_alone, args.seed)
    draw(agent, curve, args.out)
    print(f"plan {curve[-1][1]:.0f}, prior {curve[-1][2]:.0f} of 1000 after {curve[-1][0]} control steps: {args.out}")


if __name__ == "__main__":
    main()
