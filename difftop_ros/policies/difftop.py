"""The DiffTOP imitation policy: a conditional VAE whose decoder is the trajectory optimiser.

arXiv 2402.05421, section on imitation: a posterior q(latent | o, a_expert) and a prior p(latent | o); the decoder
minimises a learned cost c(a | h(o), latent) starting from a base policy's action; loss = ||a* - a_expert||^2 + beta KL.
Different from the published code: every sample is its own problem, the box is in the solver, the gradient is that of
the solution (implicit), a proximal term ties the plan to the base, and the latent at run time is the prior's mean, or
the best of several by learned cost. With `dynamics` 'latent' the cost is that of a rollout, as in the paper's text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from difftop_ros.contract import Contract
from difftop_ros.nets import ChunkCost, GaussianHead, MixtureHead, RolloutCost
from difftop_ros.policies.builtin import DifftopOptions
from difftop_ros.policies.config import PolicyConfig
from difftop_ros.policies.decoder import Added, Box, Encoding, Noise, TrainingLoss, squared_error
from difftop_ros.policies.net import PolicyNet
from difftop_ros.trajopt import (
    ActionChunk,
    LatentRollout,
    PreparedSolver,
    Problem,
    Solution,
    SolverOptions,
    prepare,
    solve,
)

OTHER_LATENTS = 4  # latents of the prior that a plan is ranked against in training
RANK_WEIGHT = 0.1


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of a function's value: what a plan trusts of a learned cost. Costs added at run time are whole."""

    function: Callable[..., Tensor]
    share: float

    def __call__(self, *arguments: Tensor) -> Tensor:
        """As the function."""
        value = self.function(*arguments)
        return value if self.share == 1 else self.share * value


class DifftopNet(PolicyNet):
    """Encoder and base, prior, posterior and cost; solves for the plan."""

    solves, continues = True, True
    prior: GaussianHead | MixtureHead
    posterior: GaussianHead
    cost: ChunkCost | RolloutCost

    def __init__(self, contract: Contract, config: PolicyConfig) -> None:
        super().__init__(contract, config)
        assert isinstance(config.own, DifftopOptions)
        self.own = own = config.own
        actions, variables = self.shape[1], self.shape[0] * self.shape[1]
        # where the base chooses among several ways the prior sees its chunk, to stay on the way that was chosen
        self.prior_sees_base = config.decoder.chooses
        known = config.features + (variables if self.prior_sees_base else 0)
        if own.latent_modes > 1:
            self.prior = MixtureHead(known, own.prior_width, own.latent, own.latent_modes)
        else:
            self.prior = GaussianHead(known, own.prior_width, own.latent)
        self.posterior = GaussianHead(config.features + variables, own.posterior_width, own.latent)
        if own.dynamics == "latent":
            self.cost = RolloutCost(actions, config.features, own.latent, own.state, own.cost_width, own.cost_outputs)
        else:
            self.cost = ChunkCost(variables, config.features + own.latent, own.cost_width, own.cost_outputs)
        self._prepared: PreparedSolver | None = None

    def trust(self, share: float) -> None:
        """Make plans with this share of the learned cost from now on."""
        self.config = self.config.replace(cost_share=share)
        assert isinstance(self.config.own, DifftopOptions)
        self.own = self.config.own

    def problem(self, encoding: Encoding, latent: Tensor, base: Tensor, box: Box, share: float = 1.0) -> Problem:
        """The trajectory optimisation problem a plan solves, in scaled actions, with a share of the learned cost."""
        objective: ActionChunk | LatentRollout
        if isinstance(self.cost, ChunkCost):
            objective = ActionChunk(Share(self.cost, share))
            context: tuple[Tensor, ...] = (self.cost.prepare(torch.cat([encoding.features, latent], dim=1)),)
        else:
            objective = LatentRollout(self.cost.dynamics, Share(self.cost.stage, share), Share(self.cost.final, share))
            context = (self.cost.start(encoding.features), latent)
        return Problem(objective, context, *box, reference=base, proximal=self.own.proximal)

    def solver_options(self, iterations: int | None = None, deadline_ms: float | None = None) -> SolverOptions:
        """The options of this policy's solve; the same in training and at run time but for the deadline."""
        return SolverOptions(
            method=self.own.solver,
            iterations=self.own.iterations if iterations is None else iterations,
            dense_limit=0,  # conjugate gradients end after 4 to 8 of a chunk's 32 products with these costs
            cg_iterations=self.own.cg_iterations,
            curvature_floor=0.5 * self.own.proximal,
            tolerance=1e-4,
            deadline_ms=deadline_ms,
        )

    def plan(
        self,
        encoding: Encoding,
        origin: Tensor,
        warm_start: Tensor | None = None,
        iterations: int | None = None,
        deadline_ms: float | None = None,
        noise: Noise | None = None,
        terms: Sequence[Added] = (),
        committed: int = 0,
    ) -> Solution:
        """Solve from the base's chunk or the warm start (B, H, A), whichever costs less.

        The latent is the mean of the prior's likeliest mode; with latent_samples above 1 that one and draws from the
        prior, of which the plan of lowest cost is kept. terms are added to that cost; after `prepare` those it
        was prepared with. committed: see `continuing`.
        """
        problem, start, times = self.run_time_problem(encoding, origin, noise or Noise(0), terms)
        if warm_start is not None:
            warm_start = warm_start.repeat_interleave(times, 0)
            problem = continuing(problem, warm_start, committed)
        if self._prepared and iterations is None:
            solution = self._prepared(
                problem.context, start, problem.reference, problem.lower, problem.upper, warm_start, deadline_ms
            )
        else:
            solution = solve(problem, start, self.solver_options(iterations, deadline_ms), warm_start)
        return solution if times == 1 else cheapest(solution, times)

    def run_time_problem(
        self, encoding: Encoding, origin: Tensor, noise: Noise, terms: Sequence[Added] = ()
    ) -> tuple[Problem, Tensor, int]:
        """What `plan` solves, from where, and how many latents (rows in a row) each sample has."""
        box = self.scaler.bounds(origin)
        base = self.base_chunk(encoding, box, noise)
        times, share = self.own.latent_samples, self.own.cost_share
        if times == 1:
            latent = self.likeliest_latent(encoding, base)
            return _adding(self.problem(encoding, latent, base, box, share), terms, 1), base, 1
        latents = self.latents(encoding, base, times, noise).flatten(0, 1)
        bases, low, high = (tensor.repeat_interleave(times, 0) for tensor in (base, *box))
        problem = self.problem(encoding.repeat(times), latents, bases, (low, high), share)
        return _adding(problem, terms, times), bases, times

    def prepare(self, encoding: Encoding, origin: Tensor, backend: str, terms: Sequence[Added] = ()) -> None:
        """As ActingNet.prepare. Raises TrajoptError."""
        self._prepared = None
        if backend != "none":
            problem, start, _ = self.run_time_problem(encoding, origin, Noise(0), terms)
            self._prepared = prepare(problem, start, self.solver_options(), backend)

    def prior_modes(self, encoding: Encoding, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """p(latent | o, base): log weights (B, M), means and log variances (B, M, latent); M is 1 for a Gaussian."""
        known = encoding.features
        if self.prior_sees_base:
            known = torch.cat([known, base.flatten(1)], dim=1)
        if isinstance(self.prior, MixtureHead):
            return self.prior(known)
        mean, log_variance = self.prior(known)
        return torch.zeros_like(mean[:, :1]), mean[:, None], log_variance[:, None]

    def likeliest_latent(self, encoding: Encoding, base: Tensor) -> Tensor:
        """The mean of the prior's likeliest mode, (B, latent)."""
        weights, means, _ = self.prior_modes(encoding, base)
        return _row(means, weights.argmax(1))

    def latents(self, encoding: Encoding, base: Tensor, count: int, noise: Noise) -> Tensor:
        """The likeliest latent and count - 1 draws from the prior, (B, count, latent)."""
        weights, means, log_variances = self.prior_modes(encoding, base)
        batch, modes, size = means.shape
        drawn = noise.uniform(batch, count - 1, like=means)
        mode = (drawn[:, :, None] > weights.exp().cumsum(1)[:, None]).sum(2).clamp_max(modes - 1)
        spread = noise.normal(batch, count - 1, size, like=means)
        index = mode[:, :, None].expand(-1, -1, size)
        draws = means.gather(1, index) + (0.5 * log_variances.gather(1, index)).exp() * spread
        return torch.cat([_row(means, weights.argmax(1))[:, None], draws], dim=1)

    def learn(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """The base's own loss, the plan's squared error with the posterior's latent, and the KL to the prior."""
        of_base = self.base.loss(encoding, expert, weight, box)
        # the base is trained by its own loss alone, so that "its own base" stays a fair baseline
        with torch.no_grad():
            base = self.base.propose(encoding, expert, box)
        mean, log_variance = self.posterior(torch.cat([encoding.features, expert.flatten(1)], dim=1))
        modes = self.prior_modes(encoding, base)
        latent = self.training_latent(mean, log_variance, *modes)
        problem = self.problem(encoding, latent, base, box)
        solution = solve(problem, problem.clamp(base), self.solver_options())
        plan_loss = squared_error(solution.actions, expert, weight)
        kl = divergence(mean, log_variance, *modes)
        total = of_base.total + plan_loss + self.own.kl_weight * kl
        parts = {**of_base.parts, "plan_mse": plan_loss, "kl": kl}
        if self.own.latent_samples > 1:
            parts["rank"] = self.ranking(encoding, latent.detach(), solution.actions.detach(), base, box)
            total = total + RANK_WEIGHT * parts["rank"]
        parts["loss"] = total
        parts["cost_drop"] = (solution.initial_cost - solution.final_cost).mean()
        parts["gradient_norm"] = solution.gradient_norm.mean()
        return TrainingLoss(total, {name: value.detach() for name, value in parts.items()})

    def training_latent(
        self, mean: Tensor, log_variance: Tensor, weights: Tensor, means: Tensor, log_variances: Tensor
    ) -> Tensor:
        """A draw from the posterior (B, K), and for `prior_share` of the samples the mean of the prior's nearest mode.

        With draws alone a plan learns to follow a latent that has seen the expert's chunk. At run time nobody has, and
        with the prior's the plan was worse than its base on what it had not learned from. Training on
        both is the hybrid objective of Sohn et al. 2015 (Learning structured output representation).
        """
        drawn = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        nearest = divergences(mean.detach(), log_variance.detach(), means, log_variances).argmin(1)
        as_acted = torch.rand(len(mean), 1, device=mean.device) < self.own.prior_share
        return torch.where(as_acted, _row(means, nearest), drawn)

    def ranking(self, encoding: Encoding, latent: Tensor, plan: Tensor, base: Tensor, box: Box) -> Tensor:
        """InfoNCE over latents: the plan of the expert's latent should cost less than those of the prior's.

        Without it the costs of plans with different latents say nothing about which plan is better. By the envelope
        theorem the optimal costs are differentiated at fixed plans. The latents learn nothing here: they would flee.
        """
        cost = self.problem(encoding, latent, base, box).cost(plan)
        times = min(self.own.latent_samples, OTHER_LATENTS)
        latents = self.latents(encoding, base, times, Noise()).detach().flatten(0, 1)
        bases, low, high = (tensor.repeat_interleave(times, 0) for tensor in (base, *box))
        problem = self.problem(encoding.repeat(times), latents, bases, (low, high))
        with torch.no_grad():
            plans = solve(problem, bases, self.solver_options()).actions
        costs = torch.cat([cost[:, None], problem.cost(plans).view(-1, times)], dim=1)
        return -(-costs).log_softmax(1)[:, 0].mean()


def divergence(mean: Tensor, log_variance: Tensor, weights: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """KL from the posterior (B, K) to the prior's modes, a scalar: exact for one mode.

    For more the bound -log sum_m w_m exp(-KL_m) of Hershey and Olsen (ICASSP 2007), eq. 20.
    """
    return -torch.logsumexp(weights - divergences(mean, log_variance, means, log_variances), dim=1).mean()


def divergences(mean: Tensor, log_variance: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """KL from the posterior (B, K) to each of the prior's modes (B, M, K), (B, M)."""
    mean, log_variance = mean[:, None], log_variance[:, None]
    ratio = (log_variance - log_variances).exp() + (mean - means).square() / log_variances.exp()
    return 0.5 * (ratio - 1 - log_variance + log_variances).sum(2)


def continuing(problem: Problem, plan: Tensor, committed: int) -> Problem:
    """The problem of a plan that goes on with another (B, H, A), whose first `committed` steps will have been executed.

    Those are fixed by bounds that coincide: they are facts, and a penalty would be weighed against the cost. Bounds are
    data of the problem, so a prepared solve takes them too.
    """
    fixed = torch.arange(plan.shape[1], device=plan.device)[:, None] < committed
    given = problem.clamp(plan)
    lower, upper = (torch.where(fixed, given, bound) for bound in (problem.lower, problem.upper))
    return dataclasses.replace(problem, lower=lower, upper=upper)


def _adding(problem: Problem, terms: Sequence[Added], times: int) -> Problem:
    """The problem with terms added, whose data are repeated for `times` rows of each sample."""
    for cost, data in terms:
        problem = problem.adding(cost, *(tensor.repeat_interleave(times, 0) for tensor in data))
    return problem


def _row(values: Tensor, index: Tensor) -> Tensor:
    """values (B, M, K), index (B,) -> (B, K)."""
    return values[torch.arange(len(values), device=values.device), index]


def cheapest(solution: Solution, times: int) -> Solution:
    """Of each `times` solutions in a row the one of lowest final cost; one that is not finite loses."""
    cost = solution.final_cost.view(-1, times)
    best = torch.where(torch.isfinite(cost), cost, torch.inf).argmin(1)
    rows = best + times * torch.arange(len(cost), device=cost.device)
    return Solution(**{field.name: getattr(solution, field.name)[rows] for field in dataclasses.fields(solution)})
