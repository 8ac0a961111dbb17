"""The options of the policies that come with the package, each beside the others. Their networks: one file per policy.

A file of their own because it needs no torch; a policy from elsewhere has options and network in one
(examples/my_policy.py). Names of options are unique over all policies.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from difftop_ros.policies.config import DecoderOptions, RefiningOptions, register


@register
class BcOptions(DecoderOptions):
    """Behaviour cloning: a perceptron from the features to the chunk."""

    name = "bc"
    network = "difftop_ros.policies.decoders.bc:BcDecoder"
    width = "bc_width"

    bc_width: int = Field(256, ge=1, le=8192, description="width of bc's two hidden layers")


@register
class BcRnnOptions(DecoderOptions):
    """An LSTM over the window's frames and a mixture of Gaussians over the chunk."""

    name = "bc_rnn"
    network = "difftop_ros.policies.decoders.bc_rnn:BcRnnDecoder"
    chooses = True
    width = "gmm_width"

    gmm_modes: int = Field(5, ge=1, le=100, description="modes of bc_rnn's mixture")
    gmm_over: Literal["chunk", "step"] = Field(
        "chunk",
        description="one mixture over whole chunks, so that their steps agree on the mode, or one for each step",
    )
    gmm_act: Literal["mode", "sample"] = Field(
        "mode", description="act by the likeliest mode's mean, or draw a mode by its weight"
    )
    gmm_width: int = Field(128, ge=1, le=4096, description="width of bc_rnn's LSTM")


@register
class IbcOptions(DecoderOptions):
    """An energy of observation and chunk, learned by contrast, minimised by sampling."""

    name = "ibc"
    network = "difftop_ros.policies.decoders.ibc:IbcDecoder"
    chooses = True
    width = "ibc_width"

    ibc_negatives: int = Field(64, ge=2, le=4096, description="counter-examples per window in training")
    ibc_candidates: int = Field(64, ge=2, le=4096, description="chunks that compete in acting")
    ibc_sampler: Literal["langevin", "dfo"] = Field(
        "langevin", description="how low energies are found: with gradients, or without"
    )
    ibc_width: int = Field(256, ge=1, le=8192, description="width of the energy's hidden layers")


@register
class DiffusionOptions(DecoderOptions):
    """A 1-D U-Net that takes noise out of the chunk."""

    name = "diffusion"
    network = "difftop_ros.policies.decoders.diffusion:DiffusionDecoder"
    chooses = True
    width = "diffusion_width"

    diffusion_steps: int = Field(100, ge=1, le=10000, description="noise levels in training")
    diffusion_inference_steps: int = Field(10, ge=1, le=10000, description="denoising steps per plan")
    diffusion_target: Literal["epsilon", "sample"] = Field(
        "sample", description="what the denoiser estimates: the noise, or the clean chunk"
    )
    diffusion_width: int = Field(64, ge=1, le=1024, description="channels of the U-Net at its full resolution")

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if self.diffusion_inference_steps > self.diffusion_steps:
            raise ValueError(
                f"diffusion_inference_steps is {self.diffusion_inference_steps}; expected at most the "
                f"{self.diffusion_steps} diffusion_steps"
            )
        return self


@register
class FlowOptions(DecoderOptions):
    """The same U-Net, which takes the noise out in few long steps: a mean flow."""

    name = "flow"
    network = "difftop_ros.policies.decoders.flow:FlowDecoder"
    chooses = True
    width = "flow_width"

    flow_steps: int = Field(
        4, ge=1, le=1000, description="passes of the net per plan; 1 needs more training than some hundred steps"
    )
    flow_instant: float = Field(
        0.75, ge=0, le=1, description="share of a batch that learns the velocity at one time, not over a span of it"
    )
    flow_width: int = Field(64, ge=1, le=1024, description="channels of the U-Net at its full resolution")


@register
class ActOptions(DecoderOptions):
    """A transformer whose chunk attends to the frames; in training a CVAE reads the expert's chunk (ACT)."""

    name = "act"
    network = "difftop_ros.policies.decoders.act:ActDecoder"
    width = "act_width"

    act_width: int = Field(128, ge=2, le=4096, description="size of act's tokens, a multiple of 2 act_heads")
    act_heads: int = Field(4, ge=1, le=64, description="heads of attention")
    act_layers: int = Field(2, ge=1, le=32, description="layers of act's decoder, and of the encoder of its CVAE")
    act_dropout: float = Field(0.1, ge=0, lt=1, description="share of numbers left out in training")
    act_latent: int = Field(16, ge=1, le=1024, description="size of the latent, which is zero at run time")
    act_kl_weight: float = Field(
        10.0, ge=0, le=1e6, description="weight of the prior: higher leaves less to the latent"
    )
    act_ensemble: float = Field(
        0.0, ge=0, lt=1, description="share of the plan in force that stays in the first step of a new one (temporal "
        "ensemble); it falls to none along the plan"
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.act_width % (2 * self.act_heads):
            raise ValueError(f"act_width is {self.act_width}; expected a multiple of 2 act_heads, {2 * self.act_heads}")
        return self


@register
class ZeroOptions(DecoderOptions):
    """The middle of the range, always: the ablation of the base."""

    name = "zero"
    network = "difftop_ros.policies.decoders.bc:ZeroDecoder"
    alone = False


@register
class ResidualOptions(RefiningOptions):
    """A base plus a learned correction: the ablation that an optimiser must beat."""

    name = "residual"
    network = "difftop_ros.policies.residual:ResidualNet"

    residual_width: int = Field(256, ge=1, le=8192, description="width of the correction's two hidden layers")


@register
class DifftopOptions(RefiningOptions):
    """An optimiser refines a base's plan by a learned cost, trained through the solve."""

    name = "difftop"
    network = "difftop_ros.policies.difftop:DifftopNet"

    proximal: float = Field(0.5, gt=0, le=1e6, description="weight rho of 1/2 rho (a - a_base)^2, in scaled actions: "
                            "higher stays nearer to the base's plan")  # fmt: skip
    dynamics: Literal["none", "latent"] = Field(
        "none", description="a cost of the whole chunk, or stage costs along a rollout of learned latent dynamics"
    )
    solver: str = Field("qn", description="qn: damped quasi-Newton; polyak: the published step in closed form; ilqr: "
                        "for latent dynamics; the others: docs/reference/trajopt.md")  # fmt: skip
    iterations: int = Field(8, ge=0, le=10000, description="solver iterations per plan, in training and at run time")
    cg_iterations: int = Field(20, ge=1, le=10000, description="conjugate-gradient steps of the implicit gradient")
    latent: int = Field(
        8, ge=1, le=1024, description="size of the CVAE's latent, which says what the observation leaves open"
    )
    latent_modes: int = Field(1, ge=1, le=100, description="modes of the prior over latents: 1 is a Gaussian, more can "
                              "tell several good ways apart")  # fmt: skip
    latent_samples: int = Field(1, ge=1, le=1024, description="latents tried per plan; that of lowest cost is kept, "
                                "and the cost is trained to tell")  # fmt: skip
    kl_weight: float = Field(0.01, ge=0, le=1e6, description="weight of the prior: higher leaves less to the latent")
    cost_share: float = Field(1.0, ge=0, le=1, description="share of the learned cost that plans are made with; "
                              "training lowers it where held-out episodes are no better for it: at 0 the plan is the "
                              "base's")  # fmt: skip
    prior_share: float = Field(0.5, ge=0, le=1, description="share of a batch that learns its plan from the prior's "
                               "latent, as at run time, the rest from the posterior's")  # fmt: skip
    prior_width: int = Field(256, ge=1, le=8192, description="width of the prior's hidden layer")
    posterior_width: int = Field(256, ge=1, le=8192, description="width of the posterior's hidden layer")
    cost_width: int = Field(256, ge=1, le=8192, description="width of the cost's hidden layers, and of the dynamics'")
    cost_outputs: int = Field(64, ge=1, le=8192, description="numbers whose squares the cost sums up")
    state: int = Field(64, ge=1, le=4096, description="size of the state of latent dynamics")

    @model_validator(mode="after")
    def _check_solver(self) -> Self:
        from difftop_ros.trajopt import LatentRollout  # here, as it needs torch
        from difftop_ros.trajopt.solvers import offered

        rollout = self.dynamics == "latent"
        known = [n for n, s in offered().items() if s.form is None or (rollout and s.form is LatentRollout)]
        if self.solver not in known:
            raise ValueError(f"solver is {self.solver!r}; expected one of {known} with dynamics {self.dynamics!r}")
        return self
