"""A latent model that acts: encode, propose, plan. Actions lie in [-1, 1]; units are the caller's affair.

The plan is the paper's (arXiv 2402.05421, eq. 1): the discounted rewards of a rollout in the latent model and the value
of where it ends, optimised within the box. Different from the published code: the batch is of independent problems, the
box is the solver's, a proximal term ties the plan to the prior's proposal, and both the proposal and the last plan are
tried as starts. The same plan is what the policy-gradient loss is taken of (learning/reinforcement).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from difftop_ros.nets import ObservationEncoder
from difftop_ros.nets.world_model import ModelSizes, VectorEncoder, WorldModel
from difftop_ros.policies.config import OwnOptions
from difftop_ros.policies.decoder import Added
from difftop_ros.policies.latent_planning.options import (
    DifftopRlOptions,
    LatentPlanningConfig,
    PriorOptions,
    TdmpcOptions,
)
from difftop_ros.policies.net import chosen
from difftop_ros.policies.normalisation import ObservationNormaliser
from difftop_ros.trajopt import (
    LatentRollout,
    MppiSettings,
    PreparedSolver,
    Problem,
    Solution,
    SolverOptions,
    prepare,
    solve,
)

Spec = Mapping[str, tuple[str, tuple[int, ...]]]  # key -> ('vector' | 'cloud' | 'image', frame shape)


class LatentAgent(nn.Module):
    """Normaliser, encoder and world model of a configuration, and its plan.

    scale: running range of the values (see learning/reinforcement), by which returns are divided in the plan's cost, so
    that the proximal weight means the same in every task. discount is per step. Both are kept with the weights.
    """

    def __init__(
        self, spec: Spec, actions: int, config: LatentPlanningConfig, normaliser: ObservationNormaliser
    ) -> None:
        super().__init__()
        self.config, self.own, self.normaliser = config, config.own, normaliser
        self.shape = (config.horizon, actions)
        sizes = ModelSizes(config.latent_size, actions, config.model_width, config.values, config.simplex, config.bins)
        encoder: nn.Module
        if all(kind == "vector" for kind, _ in spec.values()):
            inputs = config.obs_steps * sum(shape[0] for _, shape in spec.values())
            encoder = VectorEncoder(inputs, config.model_width, config.latent_size)
        else:
            encoder = nn.Sequential(
                ObservationEncoder(
                    spec, config.obs_steps, config.features, config.point_widths, config.image_widths,
                    config.keypoints, image=config.image_encoder, image_sharpness=config.image_sharpness,
                    tokens=config.tokens,
                ),
                nn.Linear(config.features, config.latent_size),
            )  # fmt: skip
        self.model = WorldModel(encoder, sizes)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("discount", torch.tensor(0.97))
        self._prepared: dict[int, PreparedSolver] = {}  # by the size of the batch

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Raw frames obs[key] (B, obs_steps, ...) -> states (B, Z)."""
        return self.model.encode(self.normaliser(obs))

    def propose(self, state: Tensor) -> Tensor:
        """The prior's actions along its own rollout in the model, (B, H, A), without graph."""
        with torch.no_grad():
            actions = [self.model.prior(state)]
            for _ in range(self.shape[0] - 1):
                state = self.model.dynamics(state, actions[-1])
                actions.append(self.model.prior(state))
            return torch.stack(actions, dim=1)

    def problem(self, state: Tensor, proposal: Tensor, terms: Sequence[Added] = ()) -> Problem:
        """The optimisation a plan from `state` (B, Z) is the solution of, near the proposal (B, H, A)."""
        own = self.own
        caution = own.caution if isinstance(own, DifftopRlOptions) else 0.0

        def reward(state: Tensor, action: Tensor) -> Tensor:
            return self.model.reward(state, action) / self.get_buffer("scale")

        def value(state: Tensor) -> Tensor:
            return self.model.final(state, caution) / self.get_buffer("scale")

        box = torch.ones_like(proposal[0])
        problem = Problem(
            LatentRollout(self.model.dynamics, reward, value, float(self.get_buffer("discount"))),
            (state,),
            -box,
            box,
            reference=proposal if isinstance(own, DifftopRlOptions) else None,
            proximal=own.plan_proximal if isinstance(own, DifftopRlOptions) else 0.0,
        )
        for cost, data in terms:
            problem = problem.adding(cost, *data)
        return problem

    def solver_options(self, iterations: int | None = None, deadline_ms: float | None = None) -> SolverOptions:
        """How the plan is solved, and differentiated in training."""
        own = self.own
        if isinstance(own, TdmpcOptions):
            settings = MppiSettings(own.mppi_samples, own.mppi_elites, own.mppi_temperature)
            count = own.mppi_iterations if iterations is None else iterations
            return SolverOptions("mppi", count, deadline_ms=deadline_ms, adjoint="none", settings=settings)
        assert isinstance(own, DifftopRlOptions)
        count = own.plan_iterations if iterations is None else iterations
        return SolverOptions(
            iterations=count, tolerance=1e-4, deadline_ms=deadline_ms, curvature_floor=own.plan_proximal
        )

    def plan(
        self,
        state: Tensor,
        warm_start: Tensor | None = None,
        iterations: int | None = None,
        deadline_ms: float | None = None,
        terms: Sequence[Added] = (),
    ) -> Solution:
        """Actions (B, H, A) within [-1, 1] from states (B, Z), and how they came about.

        warm_start: the last plan (B, H, A), moved on in time: the start where it costs less than the proposal.
        iterations 0 gives the proposal.
        """
        proposal = self.propose(state)
        if isinstance(self.own, PriorOptions) or iterations == 0:
            return chosen(proposal)
        problem = self.problem(state, proposal, terms)
        ready = self._prepared.get(len(state)) if iterations is None else None
        if ready is not None:
            return ready(problem.context, proposal, problem.reference, warm_start=warm_start, deadline_ms=deadline_ms)
        return solve(problem, proposal, self.solver_options(iterations, deadline_ms), warm_start)

    def prepare(self, backend: str, batch: int = 1, terms: Sequence[Added] = ()) -> None:
        """Make plans of so many states ready with a backend of trajopt.prepare; 'none' undoes it for all sizes.

        With weights changed in place they stay ready. terms: those that `plan` will be given. Raises TrajoptError.
        """
        if backend == "none":
            self._prepared.clear()
            return
        state = torch.zeros(batch, self.config.latent_size, device=self.get_buffer("scale").device)
        proposal = self.propose(state)
        self._prepared[batch] = prepare(self.problem(state, proposal, terms), proposal, self.solver_options(), backend)

    def acting_by(self, own: OwnOptions) -> LatentAgent:
        """This agent, the same weights, with another way to plan."""
        view = copy.copy(self)
        view.own, view._prepared = own, {}
        return view

    def planning_parameters(self) -> list[nn.Parameter]:
        """Those a plan depends on that the policy-gradient loss may move: encoder, dynamics and reward."""
        model = self.model
        parts: list[Any] = [model.encoder, model.norm, model.next, model.earns]
        return [parameter for part in parts for parameter in part.parameters()]
