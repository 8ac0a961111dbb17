"""DiffTOP's imitation method in one file: a conditional VAE whose decoder is a trajectory optimiser.

    python examples/difftop_in_one_file.py --out difftop.png

After arXiv 2402.05421. A demonstration is an observation o and the expert's actions a*. Four networks are learned:

    features  h = encoder(o)
    base      a_base = base(h)                      plain behaviour cloning, where the optimiser starts
    posterior q(z | h, a*), prior p(z | h)          the latent z says what the observation leaves open
    cost      c(a, h, z) = 1/2 ||f(a, h, z)||^2     what the expert seems to minimise

and a plan is the solution of a small optimisation problem in a box,

    a = argmin_a  c(a, h, z) + rho/2 ||a - a_base||^2,

so that limits hold whatever was learned. Training asks that with z from the posterior the solution be what the expert
did: loss = ||a - a*||^2 + ||a_base - a*||^2 + beta KL(q || p). The solution's gradient comes from the condition that it
is one (the implicit function theorem), not from the iterations that found it. In acting, z is the prior's.

The toy: a point goes from the left to the right round a disc, and half of the demonstrations pass above it, half below,
whatever the start. Their mean goes through the disc. That is what the base learns; the latent picks one of the ways.
The package's policy (difftop_ros/policies/difftop.py) is the same with cameras, clouds, other bases and dynamics.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from pathlib import Path

import torch
from matplotlib import pyplot
from torch import Tensor, nn

from difftop_ros.trajopt import Problem, Solution, SolverOptions, solve

HORIZON, JOINTS, FEATURES, LATENT, MODES = 8, 2, 32, 4, 4
RHO, BETA, RADIUS = 0.5, 0.01, 0.35  # the last one of the disc around the origin [m]
SOLVER = SolverOptions(iterations=8, tolerance=1e-4, curvature_floor=0.5 * RHO, dense_limit=0, cg_iterations=20)


def demonstrations(count: int) -> tuple[Tensor, Tensor]:
    """Starts (N, 2) on the left and the expert's next 8 positions (N, 8, 2) [m], above the disc or below by chance."""
    start = torch.stack([-1 + 0.1 * torch.randn(count), 0.1 * torch.randn(count)], dim=1)
    along = torch.linspace(1 / HORIZON, 1, HORIZON)
    side = torch.sign(torch.rand(count, 1) - 0.5)
    straight = start[:, None] + along[:, None] * (torch.tensor([1.0, 0.0]) - start[:, None])
    way = straight + torch.stack([0 * along, 0.7 * torch.sin(math.pi * along)], dim=1) * side[:, :, None]
    return start, way + 0.01 * torch.randn(count, HORIZON, JOINTS)


def clears(start: Tensor, plan: Tensor) -> Tensor:
    """Which plans (N,) stay out of the disc on the whole way and end behind it."""
    corners = torch.cat([start[:, None], plan], dim=1)
    share = torch.linspace(0, 1, 10)[:, None]
    way = corners[:, :-1, None] * (1 - share) + corners[:, 1:, None] * share
    return (way.norm(dim=3) > RADIUS).flatten(1).all(1) & (plan[:, -1, 0] > RADIUS)


def perceptron(*sizes: int) -> nn.Sequential:
    """Smooth between its layers, as the optimiser differentiates it twice."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class DiffTop(nn.Module):
    """The four networks and the solve; actions are positions of the point within [-1.5, 1.5] m."""

    def __init__(self) -> None:
        super().__init__()
        variables = HORIZON * JOINTS
        self.encoder = perceptron(2, 64, FEATURES)
        self.base = perceptron(FEATURES, 64, variables)
        self.posterior = perceptron(FEATURES + variables, 64, 2 * LATENT)
        self.prior = perceptron(FEATURES, 64, MODES * (2 * LATENT + 1))
        self.cost = perceptron(variables + FEATURES + LATENT, 64, 64, 32)

    def plan(self, features: Tensor, latent: Tensor, base: Tensor) -> Solution:
        """The decoder: actions (B, 8, 2) that cost least; differentiable in features, latent and the cost's weights."""

        def reward(actions: Tensor, features: Tensor, latent: Tensor) -> Tensor:
            residuals = self.cost(torch.cat([actions.flatten(1), features, latent], dim=1))
            return -0.5 * residuals.square().sum(1)

        box = torch.full((HORIZON, JOINTS), 1.5)
        problem = Problem(reward, (features, latent), -box, box, reference=base, proximal=RHO)
        return solve(problem, problem.clamp(base), SOLVER)

    def base_plan(self, features: Tensor) -> Tensor:
        """Behaviour cloning's actions (B, 8, 2)."""
        return self.base(features).view(-1, HORIZON, JOINTS)

    def prior_modes(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A mixture of Gaussians, which can tell several ways apart: log weights (B, M), means and log variances."""
        logits, rest = self.prior(features).split([MODES, 2 * MODES * LATENT], dim=1)
        mean, log_variance = rest.view(-1, MODES, 2 * LATENT).chunk(2, dim=2)
        return logits.log_softmax(1), mean, log_variance.clamp(-8, 4)

    def act(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Plans and what the base alone would do, (B, 8, 2) each; the latent is the likeliest mode's mean."""
        features = self.encoder(start)
        base = self.base_plan(features)
        weights, means, _ = self.prior_modes(features)
        latent = means[torch.arange(len(means)), weights.argmax(1)]
        return self.plan(features, latent, base).actions, base

    def loss(self, start: Tensor, expert: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Imitation with the posterior's latent, the base's own imitation, and the KL to the prior."""
        features = self.encoder(start)
        base = self.base_plan(features)
        mean, log_variance = self.posterior(torch.cat([features, expert.flatten(1)], dim=1)).chunk(2, dim=1)
        log_variance = log_variance.clamp(-8, 4)
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        # detached: the base is trained by its own loss alone, so that it stays what behaviour cloning would be
        plan = self.plan(features, latent, base.detach()).actions
        kl = divergence(mean, log_variance, *self.prior_modes(features))
        errors = [(found - expert).square().mean() for found in (plan, base)]
        return sum(errors) + BETA * kl, {"plan": errors[0].item(), "base": errors[1].item(), "kl": kl.item()}


def divergence(mean: Tensor, log_variance: Tensor, weights: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """KL from a Gaussian to a mixture, its bound -log sum_m w_m exp(-KL_m) (Hershey and Olsen 2007)."""
    mean, log_variance = mean[:, None], log_variance[:, None]
    narrower = log_variance - log_variances
    each = 0.5 * (narrower.exp() - narrower - 1 + (mean - means).square() / log_variances.exp()).sum(2)
    return -torch.logsumexp(weights - each, dim=1).mean()


def train(steps: int) -> DiffTop:
    """From 200 demonstrations, batches of 64."""
    policy, (starts, experts) = DiffTop(), demonstrations(200)
    optimiser = torch.optim.Adam(policy.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps + 1)
    for step in range(steps):
        rows = torch.randint(0, len(starts), (64,))
        loss, parts = policy.loss(starts[rows], experts[rows])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}", {name: round(value, 4) for name, value in parts.items()}, flush=True)
    return policy


def draw(start: Tensor, plans: dict[str, Tensor], out: Path) -> None:
    """Each policy's ways from the same starts; red where they hit the disc."""
    figure, panels = pyplot.subplots(1, len(plans), figsize=(12, 3.2), sharey=True)
    for axes, (title, plan) in zip(panels, plans.items()):
        clear = clears(start, plan)
        axes.add_patch(pyplot.Circle((0, 0), RADIUS, color="0.85"))
        for way, good in zip(torch.cat([start[:, None], plan], dim=1)[:40], clear):
            axes.plot(*way.T, color="tab:blue" if good else "tab:red", alpha=0.5, lw=1)
        axes.set(title=f"{title}: {clear.float().mean():.0%} get round", aspect="equal", xlabel="x [m]", ylabel="y [m]")
    figure.savefig(out, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Learns to pass a disc, and draws plans beside those of its base.")
    parser.add_argument("--steps", type=int, default=500, help="optimisation steps (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("difftop.png"), help="the figure (default: difftop.png)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    began = time.monotonic()
    policy = train(args.steps)
    print(f"trained in {time.monotonic() - began:.0f} s")
    start, expert = demonstrations(200)  # starts that were not seen
    with torch.no_grad():
        plan, base = policy.act(start)
    draw(start, {"demonstrations": expert, "base": base, "DiffTOP": plan}, args.out)
    rates = [f"{clears(start, found).float().mean():.0%}" for found in (base, plan)]
    print(f"of unseen starts, round the disc: base {rates[0]}, DiffTOP {rates[1]}; figure: {args.out}")
