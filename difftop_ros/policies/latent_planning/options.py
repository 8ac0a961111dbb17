"""The options of the policies that learn by trying: one latent model, and how each acts by it. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator
from typing_extensions import Self

from difftop_ros.options import OneOf
from difftop_ros.policies.config import OwnOptions, PolicyConfig, policy_names, register


class TryingOptions(OwnOptions):
    """Of a policy that learns by trying: how it makes a plan out of the latent model that all of them have."""

    network = "difftop_ros.policies.latent_planning.net:LatentPlanningNet"
    learns = "trying"

    @classmethod
    def config_class(cls) -> type[PolicyConfig]:
        """All of them share the model's options."""
        return LatentPlanningConfig


@register
class DifftopRlOptions(TryingOptions):
    """The plan is optimised by gradients, from the prior's proposal or the last plan, whichever costs less."""

    name = "difftop_rl"

    plan_iterations: int = Field(5, ge=0, le=1000, description="solver iterations per plan, in training and in acting")
    plan_proximal: float = Field(
        0.05, gt=0, le=1e6, description="weight rho of 1/2 rho (a - a_prior)^2, in units of the running scale of values"
    )
    caution: float = Field(
        0.0, ge=0, le=100, description="deviations of the value ensemble that are taken off a plan's worth"
    )


@register
class TdmpcOptions(TryingOptions):
    """TD-MPC's planner on the same model: sampling without gradients (MPPI)."""

    name = "tdmpc"

    mppi_samples: int = Field(512, ge=2, le=65536, description="plans sampled per iteration")
    mppi_elites: int = Field(64, ge=1, le=65536, description="the best of them, which the next samples are drawn about")
    mppi_iterations: int = Field(6, ge=1, le=1000, description="iterations of sampling per plan")
    mppi_temperature: float = Field(0.5, gt=0, le=1e6, description="weight of a return's distance to the best")

    @model_validator(mode="after")
    def _check_elites(self) -> Self:
        if self.mppi_elites > self.mppi_samples:
            raise ValueError(
                f"mppi_elites is {self.mppi_elites}; expected at most the {self.mppi_samples} mppi_samples"
            )
        return self


@register
class PriorOptions(TryingOptions):
    """The prior policy alone, no planning: what the plan has to beat."""

    name = "prior"


class LatentPlanningConfig(PolicyConfig):
    """What a policy that learns by trying is made of: the latent model's sizes beside what all policies share."""

    learns: ClassVar[str] = "trying"

    policy: Annotated[str, OneOf(lambda: policy_names("trying"))] = Field(
        "difftop_rl", description="difftop_rl: a plan by gradients; tdmpc: by sampling; prior: no plan"
    )
    horizon: int = Field(3, ge=1, le=100, description="steps of a plan; the value stands for what follows")
    latent_size: int = Field(64, ge=2, le=4096, description="numbers of a latent state")
    model_width: int = Field(128, ge=8, le=4096, description="width of the hidden layers of all heads")
    values: int = Field(2, ge=2, le=100, description="values in the ensemble")
    simplex: int = Field(8, ge=0, le=256, description="a latent state is made of simplices of so many numbers; 0: layer"
                         " norm instead")  # fmt: skip
    bins: int = Field(
        0, ge=0, le=1001, description="reward and value as distributions over so many bins; 0: as numbers"
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.bins in (1, 2):
            raise ValueError(f"bins is {self.bins}; expected 0 or at least 3")
        if self.simplex and (self.simplex < 2 or self.latent_size % self.simplex):
            raise ValueError(f"simplex is {self.simplex}; expected 0, or at least 2 and a divisor of latent_size, "
                             f"which is {self.latent_size}")  # fmt: skip
        if self.obs_steps != 1:
            raise ValueError(f"obs_steps is {self.obs_steps}; a policy that learns by trying sees one frame: 1")
        if self.action_frame != "relative":
            raise ValueError("action_frame is 'absolute'; a policy that learns by trying commands offsets: 'relative'")
        return self
