"""Diffusion policy: a 1-D U-Net that takes noise out of the chunk step by step.

After Chi et al. 2023 (arXiv 2303.04137): DDPM training over `steps` noise levels on the squared cosine schedule, DDIM
sampling with fewer. The schedules are those of the package `diffusers` (extra [diffusion]), loaded on first use.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from difftop_ros.errors import require_package
from difftop_ros.nets import ConditionalUnet
from difftop_ros.policies.builtin import DiffusionOptions
from difftop_ros.policies.decoder import Box, Decoder, Encoding, Noise, Sizes, TrainingLoss, squared_error


class DiffusionDecoder(Decoder):
    """Its net estimates the noise ('epsilon') or the clean chunk ('sample')."""

    several = 4

    def __init__(self, sizes: Sizes, options: DiffusionOptions) -> None:
        super().__init__()
        self.shape, self.target = sizes.chunk, options.diffusion_target
        self.steps, self.inference_steps = options.diffusion_steps, options.diffusion_inference_steps
        self.net = ConditionalUnet(sizes.actions, sizes.features, options.diffusion_width)
        self._schedules: tuple[Any, Any] | None = None

    def schedules(self) -> tuple[Any, Any]:
        """DDPM's for training and DDIM's for sampling. Raises UserError if `diffusers` is not installed."""
        if self._schedules is None:
            require_package("diffusers", "a diffusion policy")
            from diffusers.schedulers.scheduling_ddim import DDIMScheduler
            from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

            shared = {
                "num_train_timesteps": self.steps,
                "beta_schedule": "squaredcos_cap_v2",
                "clip_sample": True,  # scaled actions lie within [-1, 1]
                "prediction_type": self.target,
            }
            sampling = DDIMScheduler(**shared, timestep_spacing="trailing")  # begins at pure noise, ends at none
            sampling.set_timesteps(self.inference_steps)
            self._schedules = (DDPMScheduler(**shared), sampling)
        return self._schedules

    def loss(self, encoding: Encoding, expert: Tensor, weight: Tensor, box: Box) -> TrainingLoss:
        """Squared error of the estimate at a random noise level per sample."""
        training, _ = self.schedules()
        noise = torch.randn_like(expert)
        level = torch.randint(0, self.steps, (len(expert),), device=expert.device)
        noisy = training.add_noise(expert, noise, level)
        target = noise if self.target == "epsilon" else expert
        total = squared_error(self.net(noisy, level, encoding.features), target, weight)
        return TrainingLoss(total, {"denoising_mse": total.detach()})

    def sample(self, encoding: Encoding, box: Box, noise: Noise) -> Tensor:
        """DDIM without added noise: the starting noise alone decides which of several good chunks it becomes."""
        _, sampling = self.schedules()
        features = encoding.features
        chunk = noise.normal(len(features), *self.shape, like=features)
        for level in sampling.timesteps.tolist():
            estimate = self.net(chunk, torch.full((len(features),), level, device=features.device), features)
            chunk = sampling.step(estimate, level, chunk).prev_sample
        return chunk
