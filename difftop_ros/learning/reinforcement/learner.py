"""One update of a latent agent after another: gradients of the losses, how they are joined, the optimisers' state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difftop_ros.learning.reinforcement.losses import Batch, imitation_loss, judges, model_loss, plan_loss, prior_loss
from difftop_ros.learning.reinforcement.replay import Replay
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.settings import TrainingError
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.latent_planning.options import DifftopRlOptions

CLIP = 10.0  # largest norm of a gradient
JUDGED = 0.05  # how fast the errors of values and model as judges are followed
SCALE_SHARE = 0.01  # how fast the running scale of the values follows
QUANTILES = (0.05, 0.95)  # the range of values that is their scale, at least 1


class Learner:
    """Trains `agent` in place. updates: how many were made; each has a seed of its own, so a run goes on exactly."""

    def __init__(self, agent: LatentAgent, settings: TryingSettings, device: torch.device) -> None:
        self.agent, self.settings, self.device = agent, settings, device
        model = agent.model
        self.prior_parameters = list(model.first.parameters())
        of_prior = set(map(id, self.prior_parameters))
        self.model_parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in of_prior]
        self.planning_parameters = agent.planning_parameters()
        self._places = {id(p): index for index, p in enumerate(self.model_parameters)}
        self.model_optimiser = torch.optim.Adam(self.model_parameters, settings.lr, fused=True)
        self.prior_optimiser = torch.optim.Adam(self.prior_parameters, settings.lr, fused=True)
        self.updates = 0
        self._model_loss: Callable[..., Any] = model_loss
        self._prior_loss: Callable[..., Any] = prior_loss
        self._plans = min(settings.plan_batch, settings.batch)
        self._errors = torch.zeros(2)  # of the values and of the model, as judges; running means
        self._of_plan: list[Tensor] | None = None  # the newest gradient through plans, for planning_parameters
        self._through_plan = isinstance(agent.own, DifftopRlOptions) and settings.plan_loss > 0

    def prepare(self) -> None:
        """Compile what settings.compile names; a minute or two, once per process."""
        kind = self.settings.compile
        if kind != "none" and isinstance(self.agent.own, DifftopRlOptions):
            self.agent.prepare("compile")
            if self._through_plan:
                self.agent.prepare("compile", self._plans)
        if kind == "all":
            self._model_loss = torch.compile(model_loss, fullgraph=True, dynamic=False)
            self._prior_loss = torch.compile(prior_loss, fullgraph=True, dynamic=False)

    def update(self, replay: Replay, imitate: float = 0.0) -> dict[str, float]:
        """One step of every optimiser on a batch drawn from `replay`; the losses by name.

        imitate: weight of the prior's squared distance to what was done. Raises TrainingError when a loss is not
        finite: the weights are as they were before.
        """
        settings, agent = self.settings, self.agent
        seeds = np.random.SeedSequence([settings.seed, 2, self.updates]).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        found = replay.sample(settings.batch, settings.unroll, np.random.default_rng(seeds[1]))
        batch = Batch.of(found, self.device, settings.image_shift_px)
        total, parts, states = self._model_loss(agent, batch, settings)
        gradients = list(torch.autograd.grad(total, self.model_parameters))
        told = dict(zip(("consistency", "reward", "value"), parts.tolist()))
        told["loss"] = float(total.detach())
        if self._through_plan and self.updates >= settings.plan_after:
            if not self.updates % settings.plan_every:
                told |= self._judge(batch) | self._solve_plans(batch)
            if self._of_plan is not None:
                told["plan_share"] = self._add_plan(gradients)
        norm = _clipped(gradients, CLIP)
        if not (np.isfinite(told["loss"]) and np.isfinite(float(norm))):
            raise TrainingError(
                f"the loss is {told['loss']}, its gradient's norm {float(norm)} at update {self.updates + 1}; try a "
                "lower lr (the checkpoint before it is kept)"
            )
        _step(self.model_optimiser, self.model_parameters, gradients)
        loss, worth = self._prior_loss(agent, states, settings)
        if imitate:
            loss = loss + imitate * imitation_loss(agent, states, batch)
        gradients = list(torch.autograd.grad(loss, self.prior_parameters))
        _clipped(gradients, CLIP)
        _step(self.prior_optimiser, self.prior_parameters, gradients)
        agent.model.follow(settings.follow)
        self._rescale(worth)
        self.updates += 1
        return told | {"worth": float(worth.mean()), "scale": float(agent.get_buffer("scale"))}

    @property
    def trust(self) -> float:
        """How far the values may judge the model, 0 to 1: the share of its error that they do not make themselves."""
        if self.settings.plan_trust == "always":
            return 1.0
        by_values, by_model = self._errors.tolist()
        return max(0.0, 1.0 - by_values / by_model) if by_model > 0 else 0.0

    def _judge(self, batch: Batch) -> dict[str, float]:
        """See losses.judges; the errors are followed slowly."""
        if self.settings.plan_trust == "always":
            return {}
        found = judges(self.agent, batch, self._plans).cpu()
        self._errors = torch.where(self._errors.sum() > 0, self._errors.lerp(found, JUDGED), found)
        return {"plan_trust": self.trust}

    def _solve_plans(self, batch: Batch) -> dict[str, float]:
        """Solve for the plans of a part of the batch and keep the gradient of their worth, where it may be trusted."""
        if self.trust == 0:
            self._of_plan = None
            return {}
        loss, gain = plan_loss(self.agent, batch.first(self._plans))
        # what no plan depends on, such as a constant of the reward, or all if no coordinate of any plan is free, gets 0
        found = torch.autograd.grad(loss, self.planning_parameters, allow_unused=True, materialize_grads=True)
        self._of_plan = list(found)
        return {"plan_loss": float(loss.detach()), "plan_gain": float(gain)}

    def _add_plan(self, gradients: list[Tensor]) -> float:
        """Add the plans' newest gradient to the model's, at most a share of the same parameters' norm; the share it is.

        It serves for `plan_every` updates: it is what is dear, and it changes less than the batch does.
        """
        settings, through = self.settings, self._of_plan
        assert through is not None
        places = [self._places[id(p)] for p in self.planning_parameters]
        own = torch.nn.utils.get_total_norm([gradients[place] for place in places])
        norm = torch.nn.utils.get_total_norm(through)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"the gradient through the plan is not finite at update {self.updates + 1}; try a lower lr, or a "
                "larger plan_proximal (the checkpoint before it is kept)"
            )
        factor = (
            self.trust
            * settings.plan_loss
            * torch.minimum(torch.ones_like(norm), settings.plan_share * own / (norm + 1e-12))
        )
        for place, gradient in zip(places, through):
            gradients[place] = gradients[place] + factor * gradient
        return float(factor * norm / (own + 1e-12))

    def _rescale(self, worth: Tensor) -> None:
        low, high = torch.quantile(worth, torch.tensor(QUANTILES, device=worth.device)).unbind()
        self.agent.get_buffer("scale").lerp_((high - low).clamp_min(1.0), SCALE_SHARE)

    def state(self) -> dict[str, Any]:
        """Weights and optimisers, for a checkpoint."""
        return {
            "agent": self.agent.state_dict(),
            "model_optimiser": self.model_optimiser.state_dict(),
            "prior_optimiser": self.prior_optimiser.state_dict(),
            "updates": self.updates,
            "of_plan": self._of_plan,
            "errors": self._errors,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.agent.load_state_dict(state["agent"])
        self.model_optimiser.load_state_dict(state["model_optimiser"])
        self.prior_optimiser.load_state_dict(state["prior_optimiser"])
        self.updates, self._of_plan = int(state["updates"]), state["of_plan"]
        self._errors = state["errors"]


def _clipped(gradients: list[Tensor], most: float) -> Tensor:
    """Their norm; above `most` they are scaled down to it, in place."""
    norm = torch.nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp_max(1.0))
    return norm


def _step(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient
    optimiser.step()
    optimiser.zero_grad()
